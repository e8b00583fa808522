"""The points of one order: none until it is paid, given back when it is cancelled. A balance is their sum, for the read
model: nothing is decided on it."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.kernel import Decider, Rejected, hosted
from domains.loyalty.messages import (
    BuyerNoted,
    EarnPoints,
    LoyaltyCommand,
    LoyaltyEvent,
    NoteBuyer,
    PointsEarned,
    PointsReturned,
    ReturnPoints,
)

CENTS_A_POINT = 100
"""Of whatever currency; what does not make a whole point is lost."""


class Absent(Struct, frozen=True, tag=True): ...


class Noted(Struct, frozen=True, tag=True):
    customer_id: str


class Earned(Struct, frozen=True, tag=True):
    customer_id: str
    points: int


class Returned(Struct, frozen=True, tag=True): ...


Points = Absent | Noted | Earned | Returned


def decide(points: Points, command: LoyaltyCommand) -> list[LoyaltyEvent]:
    match command, points:
        case NoteBuyer(order_id, customer_id), Absent():
            return [BuyerNoted(order_id, customer_id)]
        case NoteBuyer(), _:
            return []
        case _, Absent():
            raise Rejected("buyer_unknown", f"order {command.order_id} was not heard of before")
        case EarnPoints(order_id, paid_cents), Noted(customer_id):
            earned = paid_cents // CENTS_A_POINT
            return [PointsEarned(order_id, customer_id, earned)] if earned else []
        case ReturnPoints(order_id), Earned(customer_id, earned):
            return [PointsReturned(order_id, customer_id, earned)]
        case ((EarnPoints() | ReturnPoints()), _):
            return []
        case _:
            assert_never(command)


def evolve(points: Points, event: LoyaltyEvent) -> Points:
    match event:
        case BuyerNoted(customer_id=customer_id):
            return Noted(customer_id)
        case PointsEarned(customer_id=customer_id, points=earned):
            return Earned(customer_id, earned)
        case PointsReturned():
            return Returned()
        case _:
            assert_never(event)


points: Decider[Points, LoyaltyCommand, LoyaltyEvent] = Decider("loyalty", Absent(), decide, evolve)

loyalty = hosted(
    points,
    commands=(NoteBuyer, EarnPoints, ReturnPoints),
    events=(BuyerNoted, PointsEarned, PointsReturned),
    states=(Absent, Noted, Earned, Returned),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
)
