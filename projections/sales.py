"""Sales as facts, one an order and one an order and category; the reports group them.

Every order counts, whatever became of it, in the month in which it was placed, and its money with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from domains.orders.messages import (
    OrderCancelled,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
)
from projections.projection import Fact, Projection, Statement, bound
from projections.reader import Query

_MOVE = "UPDATE sale SET status = '{}' WHERE order_id = :order_id"
_SALE = """
INSERT INTO sale VALUES (:order_id, :month, 'placed', :currency, :items_cents, :freight_cents, 0)
"""
_CATEGORY = """
INSERT INTO sale_category VALUES (:order_id, :category, :currency, :items_cents, :freight_cents)
"""


def _placed(fact: Fact) -> Iterable[Statement]:
    placed = fact.event
    assert isinstance(placed, OrderPlaced)
    yield bound(_SALE, fact, month=fact.recorded.stamp[:7])
    categories: dict[str, tuple[int, int]] = {}
    for line in placed.lines:
        items_cents, freight_cents = categories.get(line.category, (0, 0))
        items_cents += line.unit_price_cents * line.quantity
        categories[line.category] = items_cents, freight_cents + line.freight_cents
    for category, (items_cents, freight_cents) in categories.items():
        yield (
            _CATEGORY,
            {
                "order_id": placed.order_id,
                "category": category,
                "currency": placed.currency,
                "items_cents": items_cents,
                "freight_cents": freight_cents,
            },
        )


sales = Projection(
    name="sales",
    version=1,
    stream="orders",
    key="order_id",
    schema="""
    CREATE TABLE sale (
        order_id TEXT PRIMARY KEY, month TEXT NOT NULL, status TEXT NOT NULL, currency TEXT NOT NULL,
        items_cents INTEGER NOT NULL, freight_cents INTEGER NOT NULL, captured_cents INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sale_category (
        order_id TEXT NOT NULL, category TEXT NOT NULL, currency TEXT NOT NULL,
        items_cents INTEGER NOT NULL, freight_cents INTEGER NOT NULL, PRIMARY KEY (order_id, category)
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        OrderPlaced: _placed,
        OrderReserved: _MOVE.format("reserved"),
        OrderPaid: "UPDATE sale SET status = 'paid', captured_cents = :captured_cents WHERE order_id = :order_id",
        OrderShipped: _MOVE.format("shipped"),
        OrderDelivered: _MOVE.format("delivered"),
        OrderCancelled: _MOVE.format("cancelled"),
    },
)


class SalesRow(Struct, frozen=True):
    key: str
    currency: str
    orders: int
    items_cents: int
    freight_cents: int
    captured_cents: int | None


_SUMS = "count(*) AS orders, sum(items_cents) AS items_cents, sum(freight_cents) AS freight_cents"

SALES_BY_MONTH = Query(
    sales,
    f"SELECT month AS key, currency, {_SUMS}, sum(captured_cents) AS captured_cents"
    " FROM sale GROUP BY month, currency ORDER BY month, currency",
    SalesRow,
)
SALES_BY_STATUS = Query(
    sales,
    f"SELECT status AS key, currency, {_SUMS}, sum(captured_cents) AS captured_cents"
    " FROM sale GROUP BY status, currency ORDER BY status, currency",
    SalesRow,
)
SALES_BY_CATEGORY = Query(
    sales,
    f"SELECT category AS key, currency, {_SUMS}, NULL AS captured_cents"
    " FROM sale_category GROUP BY category, currency ORDER BY category, currency",
    SalesRow,
)
"""An order counts once in each of its categories; what was captured for it belongs to none of them alone."""
