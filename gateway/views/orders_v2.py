"""Orders as the second version of the API shows them: money is an object of amount and currency, and one order says to
whom it goes.

Made of what the first version shows, which stays the one code path, and of what the customers service keeps: no log and
no read model holds an address. Amounts are integers in minor units, as everywhere.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from bus.outboxes.state_stored import Kept
from domains.customers.customer import Erased, Registered, Unregistered
from domains.customers.messages import Address
from gateway.views.orders import Order, PlacedOrder
from projections.order_detail import LineRow
from projections.order_summary import OrderSummary
from projections.payments import PaymentRow
from projections.shipments import ShipmentRow


class Money(Struct, frozen=True):
    """`amount` is in minor units of the currency (ISO 4217): 1250 of EUR are 12.50 euros."""

    amount: int
    currency: str


class LineV2(Struct, frozen=True):
    sku: str
    name: str
    category: str
    quantity: int
    unit_price: Money
    freight: Money


class PaymentV2(Struct, frozen=True):
    order_id: str
    status: str
    authorised: Money
    captured: Money
    refunded: Money
    decline_code: str | None
    version: int


class OrderV2(Struct, frozen=True):
    """An order with its lines, its payment and its shipment."""

    order_id: str
    customer_id: str
    status: str
    version: int
    items: Money
    freight: Money
    total: Money
    captured: Money
    workflow: str
    lines: list[LineV2]
    payment: PaymentV2 | None
    shipment: ShipmentRow | None
    reason: str | None
    placed_at: str
    reserved_at: str | None
    paid_at: str | None
    shipped_at: str | None
    delivered_at: str | None
    cancelled_at: str | None


class Recipient(Struct, frozen=True):
    name: str
    address: Address


class ShownOrderV2(OrderV2, frozen=True):
    """The same with `deliver_to`: name and address of the customer as they are now, for orders keep none. Null where
    the customer is unknown, has no address or was erased, and where the customers service does not say."""

    deliver_to: Recipient | None


class PlacedOrderV2(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    version: int
    items: Money
    freight: Money
    total: Money


class OrderSummaryV2(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    units: int
    total: Money
    version: int
    placed_at: str
    changed_at: str


_decode_customer = msgspec.json.Decoder(Unregistered | Registered | Erased).decode


def order_v2(order: Order) -> OrderV2:
    currency = order.currency
    return OrderV2(
        order_id=order.order_id,
        customer_id=order.customer_id,
        status=order.status,
        version=order.version,
        items=Money(order.items_cents, currency),
        freight=Money(order.freight_cents, currency),
        total=Money(order.total_cents, currency),
        captured=Money(order.captured_cents, currency),
        workflow=order.workflow,
        lines=[_line(line, currency) for line in order.lines],
        payment=_payment(order.payment) if order.payment is not None else None,
        shipment=order.shipment,
        reason=order.reason,
        placed_at=order.placed_at,
        reserved_at=order.reserved_at,
        paid_at=order.paid_at,
        shipped_at=order.shipped_at,
        delivered_at=order.delivered_at,
        cancelled_at=order.cancelled_at,
    )


def shown_v2(order: Order, customer: Kept | None) -> ShownOrderV2:
    """With what the customers service keeps of its customer; None: it does not say."""
    return ShownOrderV2(**msgspec.structs.asdict(order_v2(order)), deliver_to=_recipient(customer))


def _recipient(customer: Kept | None) -> Recipient | None:
    match _decode_customer(customer.state) if customer is not None else None:
        case Registered(name=name, address=Address() as address):
            return Recipient(name, address)
        case _:
            return None


def placed_v2(order: PlacedOrder) -> PlacedOrderV2:
    return PlacedOrderV2(
        order_id=order.order_id,
        customer_id=order.customer_id,
        status=order.status,
        version=order.version,
        items=Money(order.items_cents, order.currency),
        freight=Money(order.freight_cents, order.currency),
        total=Money(order.total_cents, order.currency),
    )


def summary_v2(order: OrderSummary) -> OrderSummaryV2:
    return OrderSummaryV2(
        order_id=order.order_id,
        customer_id=order.customer_id,
        status=order.status,
        units=order.units,
        total=Money(order.total_cents, order.currency),
        version=order.version,
        placed_at=order.placed_at,
        changed_at=order.changed_at,
    )


def _line(line: LineRow, currency: str) -> LineV2:
    return LineV2(
        sku=line.sku,
        name=line.name,
        category=line.category,
        quantity=line.quantity,
        unit_price=Money(line.unit_price_cents, currency),
        freight=Money(line.freight_cents, currency),
    )


def _payment(payment: PaymentRow) -> PaymentV2:
    return PaymentV2(
        order_id=payment.order_id,
        status=payment.status,
        authorised=Money(payment.authorised_cents, payment.currency),
        captured=Money(payment.captured_cents, payment.currency),
        refunded=Money(payment.refunded_cents, payment.currency),
        decline_code=payment.decline_code,
        version=payment.version,
    )
