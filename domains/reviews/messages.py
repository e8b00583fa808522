"""The reviews' public face: commands and events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.kernel import LINES_MAX, Id

TEXT_MAX = 4_000

Score = Annotated[int, Meta(ge=1, le=5)]
Text = Annotated[str, Meta(max_length=TEXT_MAX)]
"""May be empty: a score says enough."""


class NotePurchase(Struct, frozen=True, tag=True):
    """Somebody ordered these products, each named once."""

    order_id: Id
    customer_id: Id
    skus: Annotated[tuple[Id, ...], Meta(max_length=LINES_MAX)]


class NoteDelivery(Struct, frozen=True, tag=True):
    """The order arrived."""

    order_id: Id


class PostReview(Struct, frozen=True, tag=True):
    sku: Id
    customer_id: Id
    order_id: Id
    score: Score
    text: Text


class PurchaseNoted(Struct, frozen=True, tag=True):
    order_id: str
    customer_id: str
    skus: tuple[str, ...]


class DeliveryNoted(Struct, frozen=True, tag=True):
    order_id: str


class ReviewPosted(Struct, frozen=True, tag=True):
    sku: str
    customer_id: str
    order_id: str
    score: int
    text: str


ReviewCommand = NotePurchase | NoteDelivery | PostReview
ReviewEvent = PurchaseNoted | DeliveryNoted | ReviewPosted
