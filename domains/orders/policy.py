"""What orders do by themselves about the services' answers: an order that nobody conducts goes on, or ends."""

from __future__ import annotations

from typing import assert_never

from domains.inventory.messages import StockRefused, StockReserved
from domains.kernel import Policy
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    FollowOn,
    OrderCommand,
    ShipOrder,
)
from domains.payments.messages import PaymentCaptured, PaymentDeclined
from domains.shipping.messages import ShipmentDelivered, ShipmentPickedUp, ShipmentRefused

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


orders_policy: Policy[Followed] = Policy(
    "orders",
    {
        "inventory": (StockReserved, StockRefused),
        "payments": (PaymentCaptured, PaymentDeclined),
        "shipping": (ShipmentPickedUp, ShipmentRefused, ShipmentDelivered),
    },
    react,
)
