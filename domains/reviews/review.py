"""A review a customer and product, and the purchases that give the right to it.

Posting is one unit of work over the review and the order that it appeals to, so who may write is decided on what this
log holds, in its order, and not on a read model that may lag. What the orders' log tells comes a moment later than it
happens: until then the answer is no.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct

from domains.kernel import Domain, Rejected
from domains.reviews.messages import (
    DeliveryNoted,
    NoteDelivery,
    NotePurchase,
    PostReview,
    PurchaseNoted,
    ReviewCommand,
    ReviewEvent,
    ReviewPosted,
)


class Unknown(Struct, frozen=True, tag=True): ...


class Bought(Struct, frozen=True, tag=True):
    customer_id: str
    skus: tuple[str, ...]


class Received(Struct, frozen=True, tag=True):
    customer_id: str
    skus: tuple[str, ...]


class Unwritten(Struct, frozen=True, tag=True): ...


class Written(Struct, frozen=True, tag=True):
    order_id: str
    score: int
    text: str


Purchase = Unknown | Bought | Received
Review = Unwritten | Written
Reviews = Purchase | Review


def review_of(customer_id: str, sku: str) -> str:
    return f"review:{customer_id}:{sku}"


def targets(command: ReviewCommand) -> tuple[str, ...]:
    match command:
        case NotePurchase() | NoteDelivery():
            return (command.order_id,)
        case PostReview():
            return review_of(command.customer_id, command.sku), command.order_id
        case _:
            assert_never(command)


def owner(event: ReviewEvent) -> str:
    return review_of(event.customer_id, event.sku) if isinstance(event, ReviewPosted) else event.order_id


def initial(aggregate: str) -> Reviews:
    return Unwritten() if ":" in aggregate else Unknown()


def decide(states: Mapping[str, Reviews], command: ReviewCommand) -> list[ReviewEvent]:
    match command, states[command.order_id]:
        case NotePurchase(order_id, customer_id, skus), Unknown():
            return [PurchaseNoted(order_id, customer_id, skus)]
        case NotePurchase(), _:
            return []
        case NoteDelivery(order_id), Bought():
            return [DeliveryNoted(order_id)]
        case NoteDelivery(), Received():
            return []
        case NoteDelivery(order_id), _:
            raise Rejected("purchase_unknown", f"order {order_id} was not heard of before it arrived")
        case PostReview(), purchase:
            return _post(states[review_of(command.customer_id, command.sku)], purchase, command)
        case _:
            assert_never(command)


def evolve(state: Reviews, event: ReviewEvent) -> Reviews:
    match event:
        case PurchaseNoted(customer_id=customer_id, skus=skus):
            return Bought(customer_id, skus)
        case DeliveryNoted():
            return Received(state.customer_id, state.skus) if isinstance(state, Bought) else state
        case ReviewPosted(order_id=order_id, score=score, text=text):
            return Written(order_id, score, text)
        case _:
            assert_never(event)


def _post(review: Reviews, purchase: Reviews, command: PostReview) -> list[ReviewEvent]:
    sku, customer_id, order_id = command.sku, command.customer_id, command.order_id
    if isinstance(review, Written):
        if review == Written(order_id, command.score, command.text):
            return []
        raise Rejected("reviewed_before", f"{customer_id} has reviewed {sku} before")
    match purchase:
        case Received(buyer_id, skus) if buyer_id == customer_id and sku in skus:
            return [ReviewPosted(sku, customer_id, order_id, command.score, command.text)]
        case _:
            raise Rejected("not_received", f"{customer_id} has not received {sku} with order {order_id}", "/order_id")


reviews: Domain[Reviews, ReviewCommand, ReviewEvent] = Domain(
    name="reviews",
    commands=(NotePurchase, NoteDelivery, PostReview),
    events=(PurchaseNoted, DeliveryNoted, ReviewPosted),
    states=(Unknown, Bought, Received, Unwritten, Written),
    targets=targets,
    owner=owner,
    initial=initial,
    decide=decide,
    evolve=evolve,
)
