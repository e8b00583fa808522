"""A folder in the format of the Olist dataset, read into typed rows. Knows the format, not what becomes of the rows.

A row that makes no sense is skipped and kept with its file, line and reason. What hangs on it follows it: an order
that is skipped takes its items, payments and review along, unsaid; an item whose product is unknown is said itself,
because the order goes on without it. Money stays `Decimal`, as it was written; times are taken as UTC.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args

from msgspec import Struct

from domains.kernel import CENTS_MAX, ID_PATTERN, LINES_MAX
from domains.payments.messages import PARTS_MAX

ORDERS = "olist_orders_dataset.csv"
ITEMS = "olist_order_items_dataset.csv"
PAYMENTS = "olist_order_payments_dataset.csv"
CUSTOMERS = "olist_customers_dataset.csv"
PRODUCTS = "olist_products_dataset.csv"
REVIEWS = "olist_order_reviews_dataset.csv"

CURRENCY = "BRL"
AMOUNT_MAX = Decimal(CENTS_MAX).scaleb(-2)
NUMBER_MAX = 1_000_000
INSTALMENTS_MAX = 1_000
SCORE_MIN, SCORE_MAX = 1, 5
TEXT_MAX = 150
SHOWN_MAX = 40
"""Characters of a bad value that are shown."""

Status = Literal["created", "approved", "processing", "invoiced", "shipped", "delivered", "canceled", "unavailable"]
STATUSES: tuple[Status, ...] = get_args(Status)

_ID = re.compile(ID_PATTERN)
_AMOUNT = re.compile(r"(-?)[0-9]{1,16}(?:\.([0-9]{1,16}))?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


class FolderUnusable(Exception):
    """The folder is not in Olist's format: a file or a column is missing. The message says which."""


class BadRow(Struct, frozen=True):
    """A row that was skipped. `line` counts from 1, the header included."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


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


class _Bad(Exception):
    """Why a row is skipped."""


class _Row:
    """One row of a file: its values by column, each checked as it is taken."""

    __slots__ = ("_values", "line")

    def __init__(self, line: int, values: dict[str, str]) -> None:
        self.line = line
        self._values = values

    def raw(self, column: str) -> str:
        return self._values[column]

    def text(self, column: str, *, empty: bool = False) -> str:
        value = self._values[column]
        if not value and not empty:
            raise _Bad(f"{column} is empty")
        if len(value) > TEXT_MAX:
            raise _Bad(f"{column} has more than {TEXT_MAX} characters")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Bad(f"{column} is not UTF-8") from None
        return value

    def id(self, column: str) -> str:
        value = self.text(column)
        if not _ID.fullmatch(value):
            raise _Bad(f"{column} {_shown(value)} is no id: 1 to 64 letters, digits, _ and -")
        return value

    def amount(self, column: str) -> Decimal:
        value = self.text(column)
        match = _AMOUNT.fullmatch(value)
        if match is None:
            raise _Bad(f"{column} {_shown(value)} is no amount of money")
        if match[1]:
            raise _Bad(f"{column} {_shown(value)} is negative")
        if len(match[2] or "") > 2:
            raise _Bad(f"{column} {_shown(value)} has more than two decimals")
        amount = Decimal(value)
        if amount > AMOUNT_MAX:
            raise _Bad(f"{column} {_shown(value)} is more than {AMOUNT_MAX}")
        return amount

    def number(self, column: str, highest: int = NUMBER_MAX) -> int:
        value = self.text(column)
        if not _NUMBER.fullmatch(value) or int(value) > highest:
            raise _Bad(f"{column} {_shown(value)} is no number from 0 to {highest}")
        return int(value)

    def time(self, column: str) -> datetime:
        value = self.text(column)
        try:
            if not _TIME.fullmatch(value):
                raise ValueError
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            raise _Bad(f"{column} {_shown(value)} is no time like 2018-07-24 20:41:37") from None

    def time_if_any(self, column: str) -> datetime | None:
        return self.time(column) if self._values[column] else None

    def status(self, column: str) -> Status:
        value = self.text(column)
        for status in STATUSES:
            if value == status:
                return status
        raise _Bad(f"{column} {_shown(value)} is unknown; known are {', '.join(STATUSES)}")


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

    def _each(self, file: str, columns: Sequence[str], take: Callable[[_Row], None]) -> None:
        for row in _rows(self._folder / file, columns, self._bad):
            try:
                take(row)
            except _Bad as reason:
                self._bad.append(BadRow(file, row.line, str(reason)))

    def _customer(self, row: _Row) -> None:
        customer_id = row.id("customer_id")
        buyer_id = row.id("customer_unique_id")
        if customer_id in self._buyers:
            raise _Bad(f"customer_id {customer_id} stood here before")
        self._buyers[customer_id] = buyer_id

    def _product(self, row: _Row) -> None:
        product = Product(row.id("product_id"), row.text("product_category_name", empty=True))
        if product.product_id in self._products:
            raise _Bad(f"product_id {product.product_id} stood here before")
        self._products[product.product_id] = product

    def _order(self, row: _Row) -> None:
        if row.raw("order_id") in self._orders:
            raise _Bad(f"order_id {row.raw('order_id')} stood here before: the first row counts")
        try:
            customer_id = row.id("customer_id")
            if customer_id not in self._buyers:
                raise _Bad(f"customer_id {customer_id} has no good row in {CUSTOMERS}")
            order = Order(
                order_id=row.id("order_id"),
                buyer_id=self._buyers[customer_id],
                status=row.status("order_status"),
                purchased_at=row.time("order_purchase_timestamp"),
                approved_at=row.time_if_any("order_approved_at"),
                carried_at=row.time_if_any("order_delivered_carrier_date"),
                delivered_at=row.time_if_any("order_delivered_customer_date"),
                line=row.line,
            )
        except _Bad as reason:
            self._skipped.add(row.raw("order_id"))
            raise _Bad(f"{reason}; the order is skipped with its items, payments and review") from None
        self._orders[order.order_id] = order
        self._skipped.discard(order.order_id)

    def _item(self, row: _Row) -> None:
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
            raise _Bad(f"product_id {item.product_id} has no good row in {PRODUCTS}")
        its_items = self._items.setdefault(order_id, {})
        if item.number in its_items:
            raise _Bad(f"order {order_id} has an item {item.number} before this one")
        its_items[item.number] = item

    def _payment(self, row: _Row) -> None:
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
            raise _Bad(f"order {order_id} has a payment {payment.number} before this one")
        its_payments[payment.number] = payment

    def _review(self, row: _Row) -> None:
        order_id = self._its_order(row)
        if order_id is None:
            return
        review = Review(row.number("review_score", SCORE_MAX), row.time("review_answer_timestamp"))
        if review.score < SCORE_MIN:
            raise _Bad(f"review_score {review.score} is no number from {SCORE_MIN} to {SCORE_MAX}")
        before = self._reviews.setdefault(order_id, review)
        if review.written_at < before.written_at:
            self._reviews[order_id] = review
        self._told += 1

    def _its_order(self, row: _Row) -> str | None:
        """The order that a row belongs to; None when that one is skipped."""
        if row.raw("order_id") in self._skipped:
            return None
        order_id = row.id("order_id")
        if order_id not in self._orders:
            raise _Bad(f"order_id {order_id} has no row in {ORDERS}")
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


def _rows(path: Path, columns: Sequence[str], bad: list[BadRow]) -> Iterator[_Row]:
    """A file's rows, one at a time, with the columns that matter. Those that are no rows of it go to `bad`."""
    # Bytes that are not UTF-8 are let in here, so that only a row that needs them is bad.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines)
        except StopIteration:
            raise FolderUnusable(f"{path} is empty: its first line should name its columns") from None
        except csv.Error as error:
            raise FolderUnusable(f"{path} has no header that can be read: {error}") from error
        missing = [column for column in columns if column not in header]
        if missing:
            raise FolderUnusable(f"{path} has no column {', no column '.join(missing)}")
        places = {column: header.index(column) for column in columns}
        while True:
            line = lines.line_num + 1  # Where a row begins: a quoted value may go over several.
            try:
                values = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                bad.append(BadRow(path.name, line, f"is not CSV: {error}"))
                continue
            if not values:
                continue  # An empty line.
            if len(values) != len(header):
                bad.append(BadRow(path.name, line, f"has {len(values)} columns, its header has {len(header)}"))
                continue
            yield _Row(line, {column: values[place] for column, place in places.items()})


def _shown(value: str) -> str:
    return repr(value if len(value) <= SHOWN_MAX else value[:SHOWN_MAX] + "...")
