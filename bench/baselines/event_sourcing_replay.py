"""The library pyeventsourcing, replaying: its events from SQLite into a view in SQLite, tracking and row together.

An event a transaction, as the library's views do it. The view is synced as ours is (`synchronous = NORMAL`), which its
users have to ask for: else most of the time would be the disk's. Its SQLite recorder has no subscriptions, so the
notifications are taken page by page. Imported only where the package is installed.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder

from bench.lives import lives
from bench.rounds import Round
from bench.stored import expect
from bus.logs.blocks import Commit
from domains.orders.messages import OrderEvent, OrderPlaced
from projections.files import remove
from projections.order_summary import order_summary

PAGE = 1_000
SAVED_AT_ONCE = 500


class Order(Aggregate):
    """An order of `lives`."""

    class Placed(Aggregate.Created):
        order_id: str
        customer_id: str
        currency: str
        lines: list[dict[str, Any]]
        total_cents: int

    class Moved(Aggregate.Event):
        status: str
        detail: str | int

    @event(Placed)
    def __init__(
        self, order_id: str, customer_id: str, currency: str, lines: list[dict[str, Any]], total_cents: int
    ) -> None:
        self.order_id = order_id
        self.customer_id = customer_id
        self.currency = currency
        self.lines = lines
        self.total_cents = total_cents
        self.status = "placed"

    @staticmethod
    def create_id(order_id: str) -> UUID:
        return UUID(order_id)

    @event(Moved)
    def move(self, status: str, detail: str | int) -> None:
        self.status = status


class View(SQLiteTrackingRecorder):
    """`order_summary` as ours is."""

    def construct_create_table_statements(self) -> list[str]:
        ours = [statement for statement in order_summary.schema.split(";") if statement.strip()]
        return [*super().construct_create_table_statements(), *ours]

    def write(self, sql: str, row: tuple[str | int, ...], tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(sql, row)
            self._insert_tracking(cursor, tracking)

    def rows(self) -> int:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT count(*) FROM order_summary")
            return int(cursor.fetchone()[0])


class Summary(Projection[View]):
    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        raise NotImplementedError(type(domain_event))

    @process_event.register
    def placed(self, domain_event: Order.Placed, tracking: Tracking) -> None:
        at = domain_event.timestamp.isoformat()
        placed = domain_event
        units = sum(line["quantity"] for line in placed.lines)
        row = (placed.order_id, placed.customer_id, "placed", placed.currency, units, placed.total_cents, 1, at, at)
        self.view.write("INSERT INTO order_summary VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row, tracking)

    @process_event.register
    def moved(self, domain_event: Order.Moved, tracking: Tracking) -> None:
        at = domain_event.timestamp.isoformat()
        row = (domain_event.status, domain_event.originator_version, at, str(domain_event.originator_id))
        sql = "UPDATE order_summary SET status = ?, version = ?, changed_at = ? WHERE order_id = ?"
        self.view.write(sql, row, tracking)


@contextmanager
def replaying(folder: Path, n: int) -> Iterator[Callable[[], Awaitable[Round]]]:
    """Replay `n` events of `lives`, stored before the time runs."""
    shop: Application[UUID] = Application(
        env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "pyeventsourcing.db")}
    )
    orders = _fill(shop, n)

    async def do() -> Round:
        return await asyncio.to_thread(_replay, shop, folder / "view.db", n, orders)

    try:
        yield do
    finally:
        shop.close()


def _fill(shop: Application[UUID], n: int) -> int:
    """Store these lives. How many orders they are."""
    decode = msgspec.json.Decoder(Commit[OrderEvent]).decode
    orders: dict[str, Order] = {}
    touched: dict[str, Order] = {}
    for lived in lives(n):
        (happened,) = decode(lived.commit).events
        if isinstance(happened, OrderPlaced):
            lines = [msgspec.to_builtins(line) for line in happened.lines]
            orders[lived.order_id] = Order(
                happened.order_id, happened.customer_id, happened.currency, lines, happened.total_cents
            )
        else:
            kind = type(happened).__name__.removeprefix("Order").lower()
            detail = getattr(happened, "captured_cents", getattr(happened, "reason", ""))
            orders[lived.order_id].move(kind, detail)
        touched[lived.order_id] = orders[lived.order_id]
        if len(touched) == SAVED_AT_ONCE:
            shop.save(*touched.values())
            touched.clear()
    shop.save(*touched.values())
    expect(shop.recorder.max_notification_id() or 0, n, "pyeventsourcing's table")
    return len(orders)


def _replay(shop: Application[UUID], path: Path, n: int, orders: int) -> Round:
    datastore = SQLiteDatastore(str(path))
    with datastore.get_connection(commit=True) as connection:
        connection.cursor().execute("PRAGMA synchronous = NORMAL")
    view = View(datastore)
    view.create_table()
    summary = Summary(view)
    began = time.perf_counter()
    position = 0
    while page := shop.recorder.select_notifications(position + 1, PAGE):
        for each in page:
            summary.process_event(shop.mapper.to_domain_event(each), Tracking(shop.name, each.id))
        position = page[-1].id
    spent_s = time.perf_counter() - began
    expect(view.max_tracking_id(shop.name) or 0, n, "pyeventsourcing's view")
    expect(view.rows(), orders, "pyeventsourcing's view")
    datastore.close()
    remove(path)
    return Round(spent_s, array("d", [spent_s]), n)
