"""One row an order: what lists show."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from domains.orders.messages import (
    OrderCancelled,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
)
from projections.projection import Projection
from projections.reader import Query

_MOVE = "UPDATE order_summary SET status = '{}', version = :version, changed_at = :at WHERE order_id = :order_id"

order_summary = Projection(
    name="order_summary",
    version=2,
    stream="orders",
    key="order_id",
    schema="""
    CREATE TABLE order_summary (
        order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, status TEXT NOT NULL, currency TEXT NOT NULL,
        units INTEGER NOT NULL, total_cents INTEGER NOT NULL, version INTEGER NOT NULL, placed_at TEXT NOT NULL,
        changed_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX order_summary_by_customer ON order_summary (customer_id, order_id);
    CREATE INDEX order_summary_by_status ON order_summary (status, order_id);
    """,
    on={
        OrderPlaced: """
            INSERT INTO order_summary
            VALUES (:order_id, :customer_id, 'placed', :currency, :units, :total_cents, :version, :at, :at)
        """,
        OrderReserved: _MOVE.format("reserved"),
        OrderPaid: _MOVE.format("paid"),
        OrderShipped: _MOVE.format("shipped"),
        OrderDelivered: _MOVE.format("delivered"),
        OrderCancelled: _MOVE.format("cancelled"),
    },
)


class OrderSummary(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    currency: str
    units: int
    total_cents: int
    version: int
    placed_at: str
    changed_at: str


_COLUMNS = """
SELECT order_id, customer_id, status, currency, units, total_cents, version, placed_at, changed_at FROM order_summary
"""
_PAGE = "order_id > :after ORDER BY order_id LIMIT :limit"

SUMMARY = Query(order_summary, f"{_COLUMNS} WHERE order_id = :order_id", OrderSummary, by_key=True)
SUMMARIES_OF_KEYS = Query(
    order_summary, f"{_COLUMNS} WHERE order_id IN (SELECT value FROM json_each(:order_ids))", OrderSummary
)
"""Parameter `order_ids`, a JSON array."""
SUMMARIES = Query(order_summary, f"{_COLUMNS} WHERE {_PAGE}", OrderSummary)
SUMMARIES_OF_STATUS = Query(order_summary, f"{_COLUMNS} WHERE status = :status AND {_PAGE}", OrderSummary)
SUMMARIES_OF_CUSTOMER = Query(order_summary, f"{_COLUMNS} WHERE customer_id = :customer_id AND {_PAGE}", OrderSummary)
SUMMARIES_OF_BOTH = Query(
    order_summary, f"{_COLUMNS} WHERE customer_id = :customer_id AND status = :status AND {_PAGE}", OrderSummary
)

LATEST_OF_CUSTOMER = Query(
    order_summary, f"{_COLUMNS} WHERE customer_id = :customer_id ORDER BY order_id DESC LIMIT :limit", OrderSummary
)
"""By id: those that the gateway gives rise with time."""


def summaries_of(customer_id: str | None, status: str | None) -> Query[OrderSummary]:
    """A page of a list: parameters `after`, an order id, and `limit`, and those of the two that are not None."""
    if customer_id is None:
        return SUMMARIES if status is None else SUMMARIES_OF_STATUS
    return SUMMARIES_OF_CUSTOMER if status is None else SUMMARIES_OF_BOTH


MOVES_FROM: Mapping[type, tuple[str, ...]] = {
    OrderReserved: ("placed",),
    OrderPaid: ("reserved",),
    OrderShipped: ("paid",),
    OrderDelivered: ("shipped",),
    OrderCancelled: ("placed", "reserved", "paid"),
}
"""The statuses that an order may have been in before an event: whoever follows a list of these may lose it by that."""


class StatusCount(Struct, frozen=True):
    status: str
    orders: int


STATUS_COUNTS = Query(
    order_summary, "SELECT status, count(*) AS orders FROM order_summary GROUP BY status ORDER BY status", StatusCount
)
