"""What reviews learn by themselves from orders: who bought what, and that it arrived."""

from __future__ import annotations

from typing import assert_never

from domains.kernel import Policy
from domains.orders.messages import OrderDelivered, OrderPlaced
from domains.reviews.messages import NoteDelivery, NotePurchase, ReviewCommand

LearntFrom = OrderPlaced | OrderDelivered


def react(event: LearntFrom) -> list[ReviewCommand]:
    match event:
        case OrderPlaced(order_id, customer_id, lines=lines):
            return [NotePurchase(order_id, customer_id, tuple(dict.fromkeys(line.sku for line in lines)))]
        case OrderDelivered(order_id):
            return [NoteDelivery(order_id)]
        case _:
            assert_never(event)


reviews_policy: Policy[LearntFrom] = Policy("reviews", {"orders": (OrderPlaced, OrderDelivered)}, react)
