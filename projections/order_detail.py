"""One order with its lines: what a person who follows one order sees."""

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

_PLACE = """
INSERT INTO order_detail VALUES (
    :order_id, :customer_id, 'placed', :currency, :items_cents, :freight_cents, :total_cents, 0, NULL, :workflow,
    :version, :at, NULL, NULL, NULL, NULL, NULL
)
"""
_LINE = """
INSERT INTO order_line VALUES (
    :order_id, :number, :sku, :name, :category, :quantity, :unit_price_cents, :freight_cents
)
"""
_MOVE = "UPDATE order_detail SET status = '{0}', {0}_at = :at, version = :version{1} WHERE order_id = :order_id"


def _placed(fact: Fact) -> Iterable[Statement]:
    placed = fact.event
    assert isinstance(placed, OrderPlaced)
    yield bound(_PLACE, fact)
    for number, line in enumerate(placed.lines):
        yield (
            _LINE,
            {
                "order_id": placed.order_id,
                "number": number,
                "sku": line.sku,
                "name": line.name,
                "category": line.category,
                "quantity": line.quantity,
                "unit_price_cents": line.unit_price_cents,
                "freight_cents": line.freight_cents,
            },
        )


order_detail = Projection(
    name="order_detail",
    version=1,
    stream="orders",
    key="order_id",
    schema="""
    CREATE TABLE order_detail (
        order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, status TEXT NOT NULL, currency TEXT NOT NULL,
        items_cents INTEGER NOT NULL, freight_cents INTEGER NOT NULL, total_cents INTEGER NOT NULL,
        captured_cents INTEGER NOT NULL, reason TEXT, workflow TEXT NOT NULL, version INTEGER NOT NULL,
        placed_at TEXT NOT NULL, reserved_at TEXT, paid_at TEXT, shipped_at TEXT, delivered_at TEXT, cancelled_at TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE order_line (
        order_id TEXT NOT NULL, number INTEGER NOT NULL, sku TEXT NOT NULL, name TEXT NOT NULL, category TEXT NOT NULL,
        quantity INTEGER NOT NULL, unit_price_cents INTEGER NOT NULL, freight_cents INTEGER NOT NULL,
        PRIMARY KEY (order_id, number)
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        OrderPlaced: _placed,
        OrderReserved: _MOVE.format("reserved", ""),
        OrderPaid: _MOVE.format("paid", ", captured_cents = :captured_cents"),
        OrderShipped: _MOVE.format("shipped", ""),
        OrderDelivered: _MOVE.format("delivered", ""),
        OrderCancelled: _MOVE.format("cancelled", ", reason = :reason"),
    },
    never={
        "an order does not add up": """
            SELECT order_id, items_cents, freight_cents, total_cents FROM order_detail AS o
            WHERE total_cents != items_cents + freight_cents OR (items_cents, freight_cents) != (
                SELECT coalesce(sum(quantity * unit_price_cents), 0), coalesce(sum(freight_cents), 0)
                FROM order_line WHERE order_line.order_id = o.order_id
            )
        """,
    },
)


class OrderRow(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    currency: str
    items_cents: int
    freight_cents: int
    total_cents: int
    captured_cents: int
    reason: str | None
    workflow: str
    version: int
    placed_at: str
    reserved_at: str | None
    paid_at: str | None
    shipped_at: str | None
    delivered_at: str | None
    cancelled_at: str | None


class LineRow(Struct, frozen=True):
    sku: str
    name: str
    category: str
    quantity: int
    unit_price_cents: int
    freight_cents: int


ORDER = Query(order_detail, "SELECT * FROM order_detail WHERE order_id = :order_id", OrderRow, by_key=True)
LINES = Query(
    order_detail,
    "SELECT sku, name, category, quantity, unit_price_cents, freight_cents FROM order_line"
    " WHERE order_id = :order_id ORDER BY number",
    LineRow,
    by_key=True,
)


class OrderLineRow(Struct, frozen=True):
    """As a `LineRow`, of one order among several."""

    order_id: str
    sku: str
    name: str
    quantity: int
    unit_price_cents: int
    freight_cents: int


ORDERS_OF_IDS = Query(
    order_detail, "SELECT * FROM order_detail WHERE order_id IN (SELECT value FROM json_each(:order_ids))", OrderRow
)
LINES_OF_ORDERS = Query(
    order_detail,
    "SELECT order_id, sku, name, quantity, unit_price_cents, freight_cents FROM order_line"
    " WHERE order_id IN (SELECT value FROM json_each(:order_ids)) ORDER BY order_id, number",
    OrderLineRow,
)


class SkuRow(Struct, frozen=True):
    sku: str


SKUS_OF_ORDERS = Query(
    order_detail,
    "SELECT DISTINCT sku FROM order_line WHERE order_id IN (SELECT value FROM json_each(:order_ids)) LIMIT :limit",
    SkuRow,
)
