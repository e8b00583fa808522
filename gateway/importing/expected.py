"""What the rows of a folder add up to, in `Decimal`, and without anything that `plan.py` made of them.

This is one of the two sides of the reconciliation, so it repeats on purpose what the plan knows as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from gateway.importing.olist import Order, Product, Records

_BECOMES = {
    "created": "placed",
    "approved": "paid",
    "processing": "paid",
    "invoiced": "paid",
    "shipped": "shipped",
    "delivered": "delivered",
    "canceled": "cancelled",
    "unavailable": "cancelled",
}

Sums = dict[str, dict[str, Decimal]]


class OrderFacts(Struct, frozen=True):
    """One order, as every read model should show it."""

    customer_id: str
    status: str
    month: str
    items_cents: int
    freight_cents: int
    captured_cents: int
    units: int
    delivered: str
    """The month; empty where it was not."""


def _sums() -> Sums:
    return defaultdict(lambda: defaultdict(Decimal))


@dataclass
class Expected:
    """Added up from the rows, an order at a time."""

    by_status: Sums = field(default_factory=_sums)
    by_month: Sums = field(default_factory=_sums)
    by_category: Sums = field(default_factory=_sums)
    by_type: Sums = field(default_factory=_sums)
    by_delivery: Sums = field(default_factory=_sums)
    """By the month in which the customer got it."""
    orders: dict[str, OrderFacts] = field(default_factory=dict)
    methods: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each order: how much by which payment type, in cents."""
    products: set[str] = field(default_factory=set)
    """Those that were sold."""
    customers: set[str] = field(default_factory=set)
    by_invoice: Sums = field(default_factory=_sums)
    """What was paid is billed, and credited where the order came to nothing."""
    reviews: dict[tuple[str, str], tuple[datetime, str, int]] = field(default_factory=dict)
    """When, of which order and with which score, by person and product: an order that arrived is reviewed by its first
    item, and nobody reviews a product twice."""

    @property
    def by_score(self) -> Sums:
        scores = _sums()
        for _, _, score in self.reviews.values():
            _add(scores[str(score)], reviews=Decimal(1))
        return scores

    @classmethod
    def of(cls, records: Records) -> Expected:
        expected = cls()
        for order in records.orders.values():
            expected.add(order, records.products)
        return expected

    def add(self, order: Order, its_products: Mapping[str, Product]) -> None:
        items = sum((item.price for item in order.items), Decimal(0))
        freight = sum((item.freight for item in order.items), Decimal(0))
        captured = sum((payment.value for payment in order.payments), Decimal(0))
        status = _BECOMES[order.status]
        if status == "placed" and order.payments:
            status = "paid"  # Whoever paid has paid, though the shop had not looked at it yet.
        month = f"{order.purchased_at.year:04}-{order.purchased_at.month:02}"
        for sums in (self.by_status[status], self.by_month[month]):
            _add(sums, orders=Decimal(1), items=items, freight=freight, captured=captured)
        of_category: dict[str, tuple[Decimal, Decimal]] = {}
        for item in order.items:
            self.products.add(item.product_id)
            category = its_products[item.product_id].category or "uncategorised"
            before = of_category.get(category, (Decimal(0), Decimal(0)))
            of_category[category] = before[0] + item.price, before[1] + item.freight
        for category, (category_items, category_freight) in of_category.items():
            _add(self.by_category[category], orders=Decimal(1), items=category_items, freight=category_freight)
        delivered = ""
        if status == "delivered":
            times = (order.purchased_at, order.approved_at, order.carried_at, order.delivered_at)
            latest = max(time for time in times if time is not None)  # Nobody gets it before it was sent.
            delivered = f"{latest.year:04}-{latest.month:02}"
            _add(self.by_delivery[delivered], deliveries=Decimal(1))
        methods: dict[str, Decimal] = {}
        for payment in order.payments:
            _add(self.by_type[payment.type], payments=Decimal(1), amount=payment.value)
            methods[payment.type] = methods.get(payment.type, Decimal(0)) + payment.value
        self.customers.add(order.buyer_id)
        if order.payments or order.approved_at or status in ("paid", "shipped", "delivered"):
            became = "credited" if status == "cancelled" else "issued"
            _add(self.by_invoice[became], invoices=Decimal(1), billed=captured)
        if order.review is not None and order.items and status == "delivered":
            which = order.buyer_id, order.items[0].product_id
            review = order.review.written_at, order.order_id, order.review.score
            self.reviews[which] = min(review, self.reviews.get(which, review))
        self.methods[order.order_id] = {method: in_cents(amount) for method, amount in methods.items()}
        self.orders[order.order_id] = OrderFacts(
            customer_id=order.buyer_id,
            status=status,
            month=month,
            items_cents=in_cents(items),
            freight_cents=in_cents(freight),
            captured_cents=in_cents(captured),
            units=len(order.items),
            delivered=delivered,
        )


def _add(sums: dict[str, Decimal], **amounts: Decimal) -> None:
    for name, amount in amounts.items():
        sums[name] += amount


def in_cents(amount: Decimal) -> int:
    cents = amount * 100
    assert cents == int(cents), "rows with more than two decimals were skipped"
    return int(cents)
