"""What orders do by themselves about the services' answers: an order that nobody conducts goes on, or ends, also where
there is no answer in time."""

from __future__ import annotations

from typing import assert_never

from domains.inventory.messages import StockRefused, StockReserved
from domains.kernel import Asleep, Policy, Wake
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    EndOverdue,
    FollowOn,
    OrderCancelled,
    OrderCommand,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
    ShipOrder,
    Terms,
)
from domains.payments.messages import PaymentCaptured, PaymentDeclined
from domains.shipping.messages import ShipmentDelivered, ShipmentPickedUp, ShipmentRefused

RESERVED_WITHIN_S = 210
"""As long as the checkout waits, all its tries together."""
PAID_WITHIN_S = 60
SHIPPED_WITHIN_S = 86_400

Followed = (
    StockReserved
    | StockRefused
    | PaymentCaptured
    | PaymentDeclined
    | ShipmentPickedUp
    | ShipmentRefused
    | ShipmentDelivered
)


def react(event: Followed) -> list[OrderCommand]:
    order_id = event.order_id
    match event:
        case StockReserved():
            return [FollowOn(order_id, ConfirmReservation(order_id))]
        case StockRefused():
            return [FollowOn(order_id, CancelOrder(order_id, "out_of_stock"))]
        case PaymentCaptured(amount_cents=amount_cents):
            return [FollowOn(order_id, ConfirmPayment(order_id, amount_cents))]
        case PaymentDeclined():
            return [FollowOn(order_id, CancelOrder(order_id, "payment_declined"))]
        case ShipmentPickedUp():
            return [FollowOn(order_id, ShipOrder(order_id))]
        case ShipmentRefused():
            return [FollowOn(order_id, CancelOrder(order_id, "shipment_refused"))]
        case ShipmentDelivered():
            return [FollowOn(order_id, DeliverOrder(order_id))]
        case _:
            assert_never(event)


def timing(event: object) -> Wake | Asleep | None:
    """How long an order that nobody conducts waits for each answer. What is done about its end is what is done about
    any cancellation."""
    match event:
        case OrderPlaced(order_id, workflow="choreographed"):
            return Wake(RESERVED_WITHIN_S, EndOverdue(order_id, "OrderPlaced"))
        case OrderReserved(order_id, Terms()):
            return Wake(PAID_WITHIN_S, EndOverdue(order_id, "OrderReserved"))
        case OrderPaid(order_id, terms=Terms()):
            return Wake(SHIPPED_WITHIN_S, EndOverdue(order_id, "OrderPaid"))
        case OrderShipped(terms=Terms()) | OrderCancelled(terms=Terms()):
            return Asleep()
        case _:
            return None


orders_policy: Policy[Followed] = Policy(
    "orders",
    {
        "inventory": (StockReserved, StockRefused),
        "payments": (PaymentCaptured, PaymentDeclined),
        "shipping": (ShipmentPickedUp, ShipmentRefused, ShipmentDelivered),
    },
    react,
    timing=timing,
)
