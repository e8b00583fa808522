"""Loyalty's public face: commands and events."""

from __future__ import annotations

from msgspec import Struct

from domains.kernel import Cents, Id


class NoteBuyer(Struct, frozen=True, tag=True):
    """An order was placed: whose points it may bring is known from now on."""

    order_id: Id
    customer_id: Id


class EarnPoints(Struct, frozen=True, tag=True):
    """The order was paid."""

    order_id: Id
    paid_cents: Cents


class ReturnPoints(Struct, frozen=True, tag=True):
    """The order came to nothing."""

    order_id: Id


class BuyerNoted(Struct, frozen=True, tag=True):
    order_id: str
    customer_id: str


class PointsEarned(Struct, frozen=True, tag=True):
    order_id: str
    customer_id: str
    points: int


class PointsReturned(Struct, frozen=True, tag=True):
    order_id: str
    customer_id: str
    points: int


LoyaltyCommand = NoteBuyer | EarnPoints | ReturnPoints
LoyaltyEvent = BuyerNoted | PointsEarned | PointsReturned
