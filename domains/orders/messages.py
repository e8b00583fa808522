"""The orders' public face: commands and events. `tag=True`: the type's name travels as `type` in the JSON."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta, Struct

from domains.kernel import LINES_MAX, Cents, Currency, Id, Name, Quantity, Reason

Workflow = Literal["orchestrated", "recorded", "choreographed"]
"""Who carries an order on: the checkout process; nobody, because its life is a record of what happened elsewhere; or
each service by itself, by its own policy."""

EDITION = 2
"""Of the orders' events, see `OrderPlaced`."""
SHIP_OK = "ship_ok"
"""The carrier's plain test case."""


class OrderLine(Struct, frozen=True):
    """Some units of one product at one price. `freight_cents` is for the whole line."""

    sku: Id
    name: Name
    category: Name
    quantity: Quantity
    unit_price_cents: Cents
    freight_cents: Cents = 0


class ShippedItem(Struct, frozen=True):
    """Some units of one product, as they left the house."""

    sku: Id
    quantity: Quantity


OrderLines = Annotated[tuple[OrderLine, ...], Meta(max_length=LINES_MAX)]


ShippedItems = Annotated[tuple[ShippedItem, ...], Meta(max_length=LINES_MAX)]


class Terms(Struct, frozen=True, omit_defaults=True):
    """What services must know of an order to carry it on by themselves. Events of conducted orders have none. The
    customer is not named in those of orders that were placed in the first edition."""

    items: ShippedItems
    currency: Currency
    total_cents: Cents
    payment_token: Id
    shipping_token: Id
    customer_id: Id | None = None


class PlaceOrder(Struct, frozen=True, tag=True):
    order_id: Id
    customer_id: Id
    currency: Currency
    lines: OrderLines
    payment_token: Id = "tok_ok"  # noqa: S105  # A test case's name.
    workflow: Workflow = "orchestrated"
    shipping_token: Id = SHIP_OK


class ConfirmReservation(Struct, frozen=True, tag=True):
    order_id: Id


class ConfirmPayment(Struct, frozen=True, tag=True):
    order_id: Id
    captured_cents: Cents


class ShipOrder(Struct, frozen=True, tag=True):
    """The goods have left the house. Of a record of the past the items need not be told."""

    order_id: Id
    items: ShippedItems = ()


class DeliverOrder(Struct, frozen=True, tag=True):
    order_id: Id


class CancelOrder(Struct, frozen=True, tag=True):
    order_id: Id
    reason: Reason


class FollowOn(Struct, frozen=True, tag=True):
    """What another service's event means for an order that is choreographed. Of all others it changes nothing."""

    order_id: Id
    command: ConfirmReservation | ConfirmPayment | ShipOrder | DeliverOrder | CancelOrder


class EndOverdue(Struct, frozen=True, tag=True):
    """The time for what follows on `after` is over: nobody answered. Where more has happened since it means nothing."""

    order_id: Id
    after: Literal["OrderPlaced", "OrderReserved", "OrderPaid"]


class OrderPlaced(Struct, frozen=True, tag="OrderPlaced.2", omit_defaults=True):
    """The second version: `units` are those of all lines together.

    `edition`: from the second on whoever carries the order on, the checkout or the terms of later events, says whose it
    is when it is to be confirmed, so that nobody has to note it now.
    """

    order_id: str
    customer_id: str
    currency: str
    lines: tuple[OrderLine, ...]
    units: int
    items_cents: int
    freight_cents: int
    total_cents: int
    payment_token: str
    workflow: Workflow
    shipping_token: str = SHIP_OK
    edition: int = 1


class OrderReserved(Struct, frozen=True, tag=True, omit_defaults=True):
    order_id: str
    terms: Terms | None = None


class OrderPaid(Struct, frozen=True, tag=True, omit_defaults=True):
    order_id: str
    captured_cents: int
    terms: Terms | None = None


class OrderShipped(Struct, frozen=True, tag=True, omit_defaults=True):
    """`items` leave the stock by this; of a record of the past, whose stock has a record of its own, there are none."""

    order_id: str
    items: tuple[ShippedItem, ...] = ()
    terms: Terms | None = None


class OrderDelivered(Struct, frozen=True, tag=True):
    order_id: str


class OrderCancelled(Struct, frozen=True, tag=True, omit_defaults=True):
    """`paid`: it was, and so may be on its way."""

    order_id: str
    reason: str
    terms: Terms | None = None
    paid: bool = False


OrderCommand = (
    PlaceOrder | ConfirmReservation | ConfirmPayment | ShipOrder | DeliverOrder | CancelOrder | FollowOn | EndOverdue
)
OrderEvent = OrderPlaced | OrderReserved | OrderPaid | OrderShipped | OrderDelivered | OrderCancelled


def units_of(lines: tuple[OrderLine, ...]) -> tuple[ShippedItem, ...]:
    """The units of each SKU, summed over the lines."""
    units: Counter[str] = Counter()
    for line in lines:
        units[line.sku] += line.quantity
    return tuple(ShippedItem(sku, quantity) for sku, quantity in units.items())
