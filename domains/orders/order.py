"""One order: placed, reserved, paid, shipped, delivered, or cancelled on the way there."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.kernel import CENTS_MAX, QUANTITY_MAX, Decider, Rejected, hosted
from domains.orders.messages import (
    EDITION,
    SHIP_OK,
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    EndOverdue,
    FollowOn,
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
    Terms,
    units_of,
)
from domains.orders.upcasters import UPCASTERS


class Absent(Struct, frozen=True, tag=True): ...


class Placed(Struct, frozen=True, tag=True, omit_defaults=True):
    """With terms where it is choreographed; so are the states after it."""

    terms: Terms | None = None


class Reserved(Struct, frozen=True, tag=True, omit_defaults=True):
    terms: Terms | None = None


class Paid(Struct, frozen=True, tag=True, omit_defaults=True):
    terms: Terms | None = None


class Shipped(Struct, frozen=True, tag=True, omit_defaults=True):
    choreographed: bool = False


class Delivered(Struct, frozen=True, tag=True): ...


class Cancelled(Struct, frozen=True, tag=True): ...


Order = Absent | Placed | Reserved | Paid | Shipped | Delivered | Cancelled


def decide(order: Order, command: OrderCommand) -> list[OrderEvent]:
    match command, order:
        case PlaceOrder(), Absent():  # First, for it is what most commands are, and cases are tried in their order.
            return [_placed(command)]
        case PlaceOrder(), _:
            raise Rejected("order_exists", f"order {command.order_id} was placed before", "/order_id")
        case FollowOn(_, following), Placed(Terms()) | Reserved(Terms()) | Paid(Terms()) | Shipped(True):
            return decide(order, following)
        case FollowOn(), _:
            return []
        case EndOverdue(order_id, "OrderPlaced"), Placed(Terms()):
            return decide(order, CancelOrder(order_id, "inventory_timeout"))
        case EndOverdue(order_id, "OrderReserved"), Reserved(Terms()):
            return decide(order, CancelOrder(order_id, "payment_timeout"))
        case EndOverdue(order_id, "OrderPaid"), Paid(Terms()):
            return decide(order, CancelOrder(order_id, "carrier_timeout"))
        case EndOverdue(), _:
            return []
        case _, Absent():
            raise Rejected("order_unknown", f"there is no order {command.order_id}")
        case ConfirmReservation(order_id), Placed(terms):
            return [OrderReserved(order_id, terms)]
        case ConfirmPayment(order_id, captured_cents), Reserved(terms):
            return [OrderPaid(order_id, captured_cents, terms)]
        case ShipOrder(order_id, items), Paid(terms):
            return [OrderShipped(order_id, items if terms is None else terms.items, terms)]
        case DeliverOrder(order_id), Shipped():
            return [OrderDelivered(order_id)]
        case CancelOrder(order_id, reason), Placed(terms) | Reserved(terms) | Paid(terms):
            return [OrderCancelled(order_id, reason, terms, terms is not None and isinstance(order, Paid))]
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
        case OrderPlaced(workflow="choreographed"):
            return Placed(_terms(event))
        case OrderPlaced():
            return Placed()
        case OrderReserved(terms=terms):
            return Reserved(terms)
        case OrderPaid(terms=terms):
            return Paid(terms)
        case OrderShipped():
            return Shipped(isinstance(order, Paid) and order.terms is not None)
        case OrderDelivered():
            return Delivered()
        case OrderCancelled():
            return Cancelled()
        case _:
            assert_never(event)  # A forgotten event is a type error.


def _terms(placed: OrderPlaced) -> Terms:
    return Terms(
        items=units_of(placed.lines),
        currency=placed.currency,
        total_cents=placed.total_cents,
        payment_token=placed.payment_token,
        shipping_token=placed.shipping_token,
        customer_id=placed.customer_id if placed.edition > 1 else None,
    )


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
        edition=EDITION,
    )


order: Decider[Order, OrderCommand, OrderEvent] = Decider("orders", Absent(), decide, evolve)

orders = hosted(
    order,
    commands=(
        PlaceOrder,
        ConfirmReservation,
        ConfirmPayment,
        ShipOrder,
        DeliverOrder,
        CancelOrder,
        FollowOn,
        EndOverdue,
    ),
    events=(OrderPlaced, OrderReserved, OrderPaid, OrderShipped, OrderDelivered, OrderCancelled),
    states=(Absent, Placed, Reserved, Paid, Shipped, Delivered, Cancelled),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
    upcasters=UPCASTERS,
)
