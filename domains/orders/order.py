"""One order: placed, reserved, paid, shipped, delivered, or cancelled on the way there."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.kernel import CENTS_MAX, QUANTITY_MAX, Decider, Rejected, hosted
from domains.orders.messages import (
    SHIP_OK,
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderCancelled,
    OrderCommand,
    OrderDelivered,
    OrderEvent,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
    PlaceOrder,
    ShipOrder,
)
from domains.orders.upcasters import UPCASTERS


class Absent(Struct, frozen=True, tag=True): ...


class Placed(Struct, frozen=True, tag=True): ...


class Reserved(Struct, frozen=True, tag=True): ...


class Paid(Struct, frozen=True, tag=True): ...


class Shipped(Struct, frozen=True, tag=True): ...


class Delivered(Struct, frozen=True, tag=True): ...


class Cancelled(Struct, frozen=True, tag=True): ...


Order = Absent | Placed | Reserved | Paid | Shipped | Delivered | Cancelled


def decide(order: Order, command: OrderCommand) -> list[OrderEvent]:
    match command, order:
        case PlaceOrder(), Absent():
            return [_placed(command)]
        case PlaceOrder(), _:
            raise Rejected("order_exists", f"order {command.order_id} was placed before", "/order_id")
        case _, Absent():
            raise Rejected("order_unknown", f"there is no order {command.order_id}")
        case ConfirmReservation(order_id), Placed():
            return [OrderReserved(order_id)]
        case ConfirmPayment(order_id, captured_cents), Reserved():
            return [OrderPaid(order_id, captured_cents)]
        case ShipOrder(order_id, items), Paid():
            return [OrderShipped(order_id, items)]
        case DeliverOrder(order_id), Shipped():
            return [OrderDelivered(order_id)]
        case CancelOrder(order_id, reason), Placed() | Reserved() | Paid():
            return [OrderCancelled(order_id, reason)]
        case CancelOrder(), Cancelled():
            return []  # Already so: a repeat is not an error.
        case CancelOrder(), _:
            raise Rejected("order_already_shipped", f"order {command.order_id} has left the house")
        case ((ConfirmReservation() | ConfirmPayment() | ShipOrder()), Cancelled()):
            return []  # A cancellation overtook the checkout, which hears of it and takes everything back.
        case ConfirmReservation(), _:
            return []
        case ConfirmPayment(), Paid() | Shipped() | Delivered():
            return []
        case ConfirmPayment(), _:
            raise Rejected("order_not_reserved", f"order {command.order_id} has no stock reserved yet")
        case ShipOrder(), Shipped() | Delivered():
            return []
        case ShipOrder(), _:
            raise Rejected("order_not_paid", f"order {command.order_id} is not paid")
        case DeliverOrder(), Delivered():
            return []
        case DeliverOrder(), _:
            raise Rejected("order_not_shipped", f"order {command.order_id} was not shipped")
        case _:
            assert_never(command)


def evolve(order: Order, event: OrderEvent) -> Order:
    match event:
        case OrderPlaced():
            return Placed()
        case OrderReserved():
            return Reserved()
        case OrderPaid():
            return Paid()
        case OrderShipped():
            return Shipped()
        case OrderDelivered():
            return Delivered()
        case OrderCancelled():
            return Cancelled()
        case _:
            assert_never(event)  # A forgotten event is a type error.


def _placed(command: PlaceOrder) -> OrderPlaced:
    items_cents = freight_cents = units = 0
    for line in command.lines:
        items_cents += line.unit_price_cents * line.quantity
        freight_cents += line.freight_cents
        units += line.quantity
    if items_cents + freight_cents > CENTS_MAX:
        raise Rejected("order_too_large", f"an order is worth at most {CENTS_MAX} cents", "/lines")
    if units > QUANTITY_MAX:
        raise Rejected("order_too_large", f"an order is for at most {QUANTITY_MAX} units", "/lines")
    if command.workflow != "recorded":  # A record may be of an order whose lines or price were lost.
        if not command.lines:
            raise Rejected("order_has_no_lines", "an order needs at least one line", "/lines")
        if items_cents == 0:
            raise Rejected("order_has_no_value", "an order must be worth something", "/lines")
    return OrderPlaced(
        order_id=command.order_id,
        customer_id=command.customer_id,
        currency=command.currency,
        lines=command.lines,
        units=units,
        items_cents=items_cents,
        freight_cents=freight_cents,
        total_cents=items_cents + freight_cents,
        payment_token=command.payment_token,
        workflow=command.workflow,
        # A default is left out in writing only where it is this very object.
        shipping_token=SHIP_OK if command.shipping_token == SHIP_OK else command.shipping_token,
    )


order: Decider[Order, OrderCommand, OrderEvent] = Decider("orders", Absent(), decide, evolve)

orders = hosted(
    order,
    commands=(PlaceOrder, ConfirmReservation, ConfirmPayment, ShipOrder, DeliverOrder, CancelOrder),
    events=(OrderPlaced, OrderReserved, OrderPaid, OrderShipped, OrderDelivered, OrderCancelled),
    states=(Absent, Placed, Reserved, Paid, Shipped, Delivered, Cancelled),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
    upcasters=UPCASTERS,
)
