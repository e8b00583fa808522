"""What is to be sent for the rows of a folder: every order's life as commands. Pure, and the same at every run.

All ids derive from the data, and what is said of an order depends on that order's own rows (and those of its
products) only. So a second run, a resumed one, and one of a larger part of the data all repeat the same commands
under the same ids, and the engines give the first answers again.

The exception is a product's price: the data has no list prices, so the price of its earliest item is taken, which
another part of the data may see differently. The id of its definition therefore holds a digest of what it says, and
it is sent with the expectation that the product does not exist: whoever defined it first is not overruled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b

import msgspec
from msgspec import Struct

from domains.catalogue.messages import DefineProduct
from domains.customers.messages import SaveCustomer
from domains.inventory.messages import DispatchStock, ItemQuantity, ReceiveStock, ReleaseStock, ReserveStock
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderLine,
    PlaceOrder,
    ShipOrder,
)
from domains.payments.messages import PaymentPart, RecordPayment
from domains.reviews.messages import PostReview
from domains.shipping.messages import RecordDelivery, RecordShipment, ShipmentItem
from gateway.importing.olist import CURRENCY, Item, Order, Product, Records

NO_CATEGORY = "uncategorised"
NAME_ID_CHARACTERS = 8

_CANCELLED = ("canceled", "unavailable")
_PAID = ("approved", "processing", "invoiced", "shipped", "delivered")
_SHIPPED = ("shipped", "delivered")


class Step(Struct, frozen=True):
    """A command and what goes with it. `expect` is the version that its aggregate must have."""

    id: str
    command: Struct
    occurred_at: datetime
    expect: int | None = None


class Life(Struct, frozen=True):
    """What happened to one product or order, in order."""

    subject: str
    steps: tuple[Step, ...]


def plan(records: Records) -> Iterator[Life]:
    """Every life, the products' before the orders'. A product that nobody bought has no price, and so no life."""
    for product, item, order in _first_sales(records):
        yield product_life(product, item, order)
    for order in records.orders.values():
        yield order_life(order, records.products)


def lives_of(records: Records) -> int:
    """How many lives `plan` gives."""
    return len(records.orders) + len(sold_products(records))


def sold_products(records: Records) -> set[str]:
    return {item.product_id for order in records.orders.values() for item in order.items}


def product_life(product: Product, item: Item, order: Order) -> Life:
    """The definition of a product by its earliest item."""
    command = DefineProduct(
        sku=product.product_id,
        name=_name(product),
        category=_category(product),
        price_cents=cents(item.price),
        currency=CURRENCY,
    )
    digest = blake2b(msgspec.json.encode(command), digest_size=8).hexdigest()
    step = Step(f"olist-define-{product.product_id}-{digest}", command, order.purchased_at, expect=0)
    return Life(product.product_id, (step,))


def order_life(order: Order, products: dict[str, Product]) -> Life:
    """An order's life, as far as its status says that it went.

    An order with recorded payments is paid, whatever its status, so that what was captured is what was recorded. A
    stage whose time is not known, or is before that of the stage before it, is given the time of that one. The goods
    come in after the order is placed, not before: one that is refused leaves no stock behind.
    """
    order_id = order.order_id
    items = _quantities(order)
    life = _Life(order)
    life.add("place", PlaceOrder(order_id, order.buyer_id, CURRENCY, _lines(order, products), workflow="recorded"))
    if order.status == "created" and not order.payments:
        return life.done()
    for number, item in enumerate(items):
        life.add(f"receive-{number}", ReceiveStock(item.sku, order_id, item.quantity))
    if items:
        life.add("reserve", ReserveStock(order_id, items))
    life.add("confirm-reservation", ConfirmReservation(order_id))

    life.at(order.approved_at)
    if order.payments:
        life.add("record-payment", RecordPayment(order_id, CURRENCY, _parts(order)))
    if order.payments or order.approved_at or order.status in _PAID:
        captured = sum((payment.value for payment in order.payments), Decimal(0))
        life.add("confirm-payment", ConfirmPayment(order_id, cents(captured)))

    life.at(order.carried_at)
    if order.status in _SHIPPED:
        if items:
            life.add("dispatch", DispatchStock(order_id, items))
        life.add("record-shipment", RecordShipment(order_id, _parcel(items)))
        life.add("ship", ShipOrder(order_id))

    life.at(order.delivered_at)
    if order.status == "delivered":
        life.add("record-delivery", RecordDelivery(order_id))
        life.add("deliver", DeliverOrder(order_id))
    if order.status in _CANCELLED:
        life.add("cancel", CancelOrder(order_id, order.status))
        if items:
            life.add("release", ReleaseStock(order_id, items))
    return life.done()


def people(records: Records) -> Iterator[Life]:
    """Every person that ordered something. The data is anonymised: name and address are made up, and no mail reaches
    `.invalid` (RFC 2606). Who is known already stays as he is, and who was erased stays so."""
    first: dict[str, datetime] = {}
    for order in records.orders.values():
        first[order.buyer_id] = min(order.purchased_at, first.get(order.buyer_id, order.purchased_at))
    for buyer_id, purchased_at in first.items():
        name = f"Customer {buyer_id[:NAME_ID_CHARACTERS]}"
        command = SaveCustomer(buyer_id, name, f"{buyer_id}@olist.invalid")
        yield Life(buyer_id, (Step(f"olist-customer-{buyer_id}", command, purchased_at, expect=0),))


def reviewed(records: Records) -> dict[tuple[str, str], Order]:
    """The orders whose reviews can be told, by person and product.

    The data reviews orders, the shop products: the review goes to the order's first item. Only what arrived can be
    reviewed, and by nobody twice: then the earliest counts.
    """
    found: dict[tuple[str, str], Order] = {}
    told = [order for order in records.orders.values() if order.review and order.items and order.status == "delivered"]
    for order in sorted(told, key=lambda order: (order.review and order.review.written_at, order.order_id)):
        found.setdefault((order.buyer_id, order.items[0].product_id), order)
    return found


def reviews(records: Records) -> Iterator[Life]:
    """Every review that can be told. To be sent once the reviews have heard that the orders arrived."""
    for (buyer_id, sku), order in reviewed(records).items():
        assert order.review is not None
        command = PostReview(sku, buyer_id, order.order_id, order.review.score, "")
        step = Step(f"olist-review-{order.order_id}", command, order.review.written_at)
        yield Life(order.order_id, (step,))


def cents(amount: Decimal) -> int:
    """Exact: an amount with more than two decimals is an error."""
    whole = amount.scaleb(2)
    if whole != whole.to_integral_value():
        raise ValueError(f"{amount} has more than two decimals")
    return int(whole)


class _Life:
    """An order's steps as they come, with a clock that never goes back."""

    def __init__(self, order: Order) -> None:
        self._order_id = order.order_id
        self._now = order.purchased_at
        self._steps: list[Step] = []

    def at(self, time: datetime | None) -> None:
        if time is not None:
            self._now = max(self._now, time)

    def add(self, verb: str, command: Struct) -> None:
        self._steps.append(Step(f"olist-{verb}-{self._order_id}", command, self._now))

    def done(self) -> Life:
        return Life(self._order_id, tuple(self._steps))


def _first_sales(records: Records) -> Iterator[tuple[Product, Item, Order]]:
    """Each product that was sold, with its earliest item; of the same time, the one of the lowest order id."""
    first: dict[str, tuple[Item, Order]] = {}
    for order in sorted(records.orders.values(), key=lambda order: (order.purchased_at, order.order_id)):
        for item in order.items:
            first.setdefault(item.product_id, (item, order))
    for product_id, product in records.products.items():
        if product_id in first:
            yield product, *first[product_id]


def _lines(order: Order, products: dict[str, Product]) -> tuple[OrderLine, ...]:
    """One line for all units of a product at the same price; the freight of a line is the sum of its units'."""
    units: Counter[tuple[str, int]] = Counter()
    freight_cents: Counter[tuple[str, int]] = Counter()
    for item in order.items:
        line = item.product_id, cents(item.price)
        units[line] += 1
        freight_cents[line] += cents(item.freight)
    return tuple(
        OrderLine(
            sku=sku,
            name=_name(products[sku]),
            category=_category(products[sku]),
            quantity=quantity,
            unit_price_cents=price_cents,
            freight_cents=freight_cents[sku, price_cents],
        )
        for (sku, price_cents), quantity in units.items()
    )


def _quantities(order: Order) -> tuple[ItemQuantity, ...]:
    units = Counter(item.product_id for item in order.items)
    return tuple(ItemQuantity(sku, quantity) for sku, quantity in units.items())


def _parcel(items: tuple[ItemQuantity, ...]) -> tuple[ShipmentItem, ...]:
    return tuple(ShipmentItem(item.sku, item.quantity) for item in items)


def _parts(order: Order) -> tuple[PaymentPart, ...]:
    return tuple(PaymentPart(payment.type, payment.instalments, cents(payment.value)) for payment in order.payments)


def _category(product: Product) -> str:
    return product.category or NO_CATEGORY


def _name(product: Product) -> str:
    return f"{_category(product)} {product.product_id[:NAME_ID_CHARACTERS]}"
