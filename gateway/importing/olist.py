"""A folder in the format of the Olist dataset, read into typed rows. Knows the format, not what becomes of the rows.

A row that makes no sense is skipped and kept with its file, line and reason. What hangs on it follows it: an order
that is skipped takes its items, payments and review along, unsaid; an item whose product is unknown is said itself,
because the order goes on without it. Money stays `Decimal`, as it was written; times are taken as UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args

from msgspec import Struct

from domains.kernel import LINES_MAX
from domains.payments.messages import PARTS_MAX
from gateway.importing.rows import AMOUNT_MAX, Bad, BadRow, FolderUnusable, Row, rows

ORDERS = "olist_orders_dataset.csv"
ITEMS = "olist_order_items_dataset.csv"
PAYMENTS = "olist_order_payments_dataset.csv"
CUSTOMERS = "olist_customers_dataset.csv"
PRODUCTS = "olist_products_dataset.csv"
REVIEWS = "olist_order_reviews_dataset.csv"

CURRENCY = "BRL"
INSTALMENTS_MAX = 1_000
SCORE_MIN, SCORE_MAX = 1, 5

Status = Literal["created", "approved", "processing", "invoiced", "shipped", "delivered", "canceled", "unavailable"]
STATUSES: tuple[Status, ...] = get_args(Status)


class Item(Struct, frozen=True):
    """One unit of one product in an order."""

    number: int
    product_id: str
    price: Decimal
    freight: Decimal


class Payment(Struct, frozen=True):
    """One of the ways in which an order was paid."""

    number: int
    type: str
    instalments: int
    value: Decimal


class Review(Struct, frozen=True):
    """What the buyer thought of an order, from 1 to 5."""

    score: int
    written_at: datetime


class Product(Struct, frozen=True):
    """`category` is empty where the data has none."""

    product_id: str
    category: str


class Order(Struct, frozen=True):
    """An order with its items and payments, in the order of their numbers, and its review if it has one. `buyer_id` is
    the person."""

    order_id: str
    buyer_id: str
    status: Status
    purchased_at: datetime
    approved_at: datetime | None
    carried_at: datetime | None
    delivered_at: datetime | None
    line: int
    items: tuple[Item, ...] = ()
    payments: tuple[Payment, ...] = ()
    review: Review | None = None


class Records(Struct, frozen=True):
    """What a folder holds: products by id, orders by id, the rows that were skipped, and how many reviews there are: of
    an order that has several, the earliest is its review."""

    products: dict[str, Product]
    orders: dict[str, Order]
    bad: list[BadRow]
    reviews: int = 0


def read_folder(folder: Path) -> Records:
    """Read a whole folder. Raises `FolderUnusable` where a file or a column is missing."""
    missing = [
        file for file in (ORDERS, ITEMS, PAYMENTS, CUSTOMERS, PRODUCTS, REVIEWS) if not (folder / file).is_file()
    ]
    if missing:
        raise FolderUnusable(f"{folder} is not in Olist's format: there is no {', no '.join(missing)}")
    return _Reading(folder).read()


class _Reading:
    """The state of reading one folder: what is known so far, so that references can be checked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bad: list[BadRow] = []
        self._buyers: dict[str, str] = {}
        self._products: dict[str, Product] = {}
        self._orders: dict[str, Order] = {}
        self._skipped: set[str] = set()
        self._items: dict[str, dict[int, Item]] = {}
        self._payments: dict[str, dict[int, Payment]] = {}
        self._reviews: dict[str, Review] = {}
        self._told = 0

    def read(self) -> Records:
        self._each(CUSTOMERS, ("customer_id", "customer_unique_id"), self._customer)
        self._each(PRODUCTS, ("product_id", "product_category_name"), self._product)
        self._each(
            ORDERS,
            (
                "order_id",
                "customer_id",
                "order_status",
                "order_purchase_timestamp",
                "order_approved_at",
                "order_delivered_carrier_date",
                "order_delivered_customer_date",
            ),
            self._order,
        )
        self._each(ITEMS, ("order_id", "order_item_id", "product_id", "price", "freight_value"), self._item)
        self._each(
            PAYMENTS,
            ("order_id", "payment_sequential", "payment_type", "payment_installments", "payment_value"),
            self._payment,
        )
        self._each(REVIEWS, ("order_id", "review_score", "review_answer_timestamp"), self._review)
        orders = {order.order_id: order for order in map(self._whole, self._orders.values()) if self._fits(order)}
        return Records(self._products, orders, self._bad, self._told)

    def _each(self, file: str, columns: Sequence[str], take: Callable[[Row], None]) -> None:
        for row in rows(self._folder / file, columns, self._bad):
            try:
                take(row)
            except Bad as reason:
                self._bad.append(BadRow(file, row.line, str(reason)))

    def _customer(self, row: Row) -> None:
        customer_id = row.id("customer_id")
        buyer_id = row.id("customer_unique_id")
        if customer_id in self._buyers:
            raise Bad(f"customer_id {customer_id} stood here before")
        self._buyers[customer_id] = buyer_id

    def _product(self, row: Row) -> None:
        product = Product(row.id("product_id"), row.text("product_category_name", empty=True))
        if product.product_id in self._products:
            raise Bad(f"product_id {product.product_id} stood here before")
        self._products[product.product_id] = product

    def _order(self, row: Row) -> None:
        if row.raw("order_id") in self._orders:
            raise Bad(f"order_id {row.raw('order_id')} stood here before: the first row counts")
        try:
            customer_id = row.id("customer_id")
            if customer_id not in self._buyers:
                raise Bad(f"customer_id {customer_id} has no good row in {CUSTOMERS}")
            order = Order(
                order_id=row.id("order_id"),
                buyer_id=self._buyers[customer_id],
                status=row.one_of("order_status", STATUSES),
                purchased_at=row.time("order_purchase_timestamp"),
                approved_at=row.time_if_any("order_approved_at"),
                carried_at=row.time_if_any("order_delivered_carrier_date"),
                delivered_at=row.time_if_any("order_delivered_customer_date"),
                line=row.line,
            )
        except Bad as reason:
            self._skipped.add(row.raw("order_id"))
            raise Bad(f"{reason}; the order is skipped with its items, payments and review") from None
        self._orders[order.order_id] = order
        self._skipped.discard(order.order_id)

    def _item(self, row: Row) -> None:
        order_id = self._its_order(row)
        if order_id is None:
            return
        item = Item(
            number=row.number("order_item_id"),
            product_id=row.id("product_id"),
            price=row.amount("price"),
            freight=row.amount("freight_value"),
        )
        if item.product_id not in self._products:
            raise Bad(f"product_id {item.product_id} has no good row in {PRODUCTS}")
        its_items = self._items.setdefault(order_id, {})
        if item.number in its_items:
            raise Bad(f"order {order_id} has an item {item.number} before this one")
        its_items[item.number] = item

    def _payment(self, row: Row) -> None:
        order_id = self._its_order(row)
        if order_id is None:
            return
        payment = Payment(
            number=row.number("payment_sequential"),
            type=row.text("payment_type"),
            instalments=row.number("payment_installments", INSTALMENTS_MAX),
            value=row.amount("payment_value"),
        )
        its_payments = self._payments.setdefault(order_id, {})
        if payment.number in its_payments:
            raise Bad(f"order {order_id} has a payment {payment.number} before this one")
        its_payments[payment.number] = payment

    def _review(self, row: Row) -> None:
        order_id = self._its_order(row)
        if order_id is None:
            return
        review = Review(row.number("review_score", SCORE_MAX), row.time("review_answer_timestamp"))
        if review.score < SCORE_MIN:
            raise Bad(f"review_score {review.score} is no number from {SCORE_MIN} to {SCORE_MAX}")
        before = self._reviews.setdefault(order_id, review)
        if review.written_at < before.written_at:
            self._reviews[order_id] = review
        self._told += 1

    def _its_order(self, row: Row) -> str | None:
        """The order that a row belongs to; None when that one is skipped."""
        if row.raw("order_id") in self._skipped:
            return None
        order_id = row.id("order_id")
        if order_id not in self._orders:
            raise Bad(f"order_id {order_id} has no row in {ORDERS}")
        return order_id

    def _whole(self, order: Order) -> Order:
        items = self._items.pop(order.order_id, {})
        payments = self._payments.pop(order.order_id, {})
        return Order(
            order_id=order.order_id,
            buyer_id=order.buyer_id,
            status=order.status,
            purchased_at=order.purchased_at,
            approved_at=order.approved_at,
            carried_at=order.carried_at,
            delivered_at=order.delivered_at,
            line=order.line,
            items=tuple(items[number] for number in sorted(items)),
            payments=tuple(payments[number] for number in sorted(payments)),
            review=self._reviews.pop(order.order_id, None),
        )

    def _fits(self, order: Order) -> bool:
        """Whether an order keeps the limits that every order here has; it would be refused half-way otherwise."""
        lines = len({(item.product_id, item.price) for item in order.items})
        why = ""
        if lines > LINES_MAX:
            why = f"{lines} lines, at most {LINES_MAX} are possible"
        elif len(order.payments) > PARTS_MAX:
            why = f"{len(order.payments)} payments, at most {PARTS_MAX} are possible"
        elif sum(item.price + item.freight for item in order.items) > AMOUNT_MAX:
            why = f"items and freight worth more than {AMOUNT_MAX}"
        elif sum(payment.value for payment in order.payments) > AMOUNT_MAX:
            why = f"payments of more than {AMOUNT_MAX}"
        if why:
            self._bad.append(BadRow(ORDERS, order.line, f"order {order.order_id} has {why}; it is skipped"))
        return not why
