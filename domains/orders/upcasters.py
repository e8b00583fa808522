"""The orders' events as they were once written, and how each is read today. Nothing writes them any more."""

from __future__ import annotations

from msgspec import Struct

from domains.kernel import Upcaster
from domains.orders.messages import OrderLine, OrderPlaced, Workflow


class OrderPlacedV1(Struct, frozen=True, tag="OrderPlaced"):
    """Until November 2026: whoever wanted to know how many units an order is for had to add up its lines."""

    order_id: str
    customer_id: str
    currency: str
    lines: tuple[OrderLine, ...]
    items_cents: int
    freight_cents: int
    total_cents: int
    payment_token: str
    workflow: Workflow


def placed_from_v1(placed: OrderPlacedV1) -> OrderPlaced:
    return OrderPlaced(
        order_id=placed.order_id,
        customer_id=placed.customer_id,
        currency=placed.currency,
        lines=placed.lines,
        units=sum(line.quantity for line in placed.lines),
        items_cents=placed.items_cents,
        freight_cents=placed.freight_cents,
        total_cents=placed.total_cents,
        payment_token=placed.payment_token,
        workflow=placed.workflow,
    )


UPCASTERS = (Upcaster(OrderPlacedV1, placed_from_v1),)
