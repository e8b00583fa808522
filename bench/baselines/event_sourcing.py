"""The library pyeventsourcing: a new aggregate a command, saved in a transaction of its own, synced.

Its writers block, so more than one in flight is a thread each. Imported only where the package is installed.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from bench.load import new_tag, place_order
from bench.rounds import Round
from bench.stored import expect
from domains.orders.messages import PlaceOrder

SYNCHRONOUS_FULL = 2
PAGE = 1_000


class Order(Aggregate):
    """A placed order with what ours says."""

    @event("Placed")
    def __init__(self, order_id: str, customer_id: str, currency: str, lines: list[dict[str, str | int]]) -> None:
        self.order_id = order_id
        self.customer_id = customer_id
        self.currency = currency
        self.lines = lines
        self.total_cents = sum(int(line["quantity"]) * int(line["unit_price_cents"]) for line in lines)


class Shop(Application[UUID]):
    def place(self, command: PlaceOrder) -> None:
        lines: list[dict[str, str | int]] = [
            {
                "sku": line.sku,
                "name": line.name,
                "category": line.category,
                "quantity": line.quantity,
                "unit_price_cents": line.unit_price_cents,
            }
            for line in command.lines
        ]
        self.save(Order(command.order_id, command.customer_id, command.currency, lines))


Do = Callable[[int, int], Awaitable[Round]]


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Do]:
    """In a file of its own, journal in WAL mode as the library sets it, `synchronous = FULL`."""
    from eventsourcing.sqlite import SQLiteApplicationRecorder

    shop = Shop(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "pyeventsourcing.db")})
    recorder = shop.recorder
    assert isinstance(recorder, SQLiteApplicationRecorder)
    with recorder.datastore.transaction(commit=False) as cursor:
        cursor.execute("PRAGMA synchronous")
        (synchronous,) = cursor.fetchone()
    assert synchronous == SYNCHRONOUS_FULL, "this SQLite does not sync every transaction by default"
    try:
        yield _placing(shop)
    finally:
        shop.close()


@contextmanager
def on_postgres(socket: Path, port: int, user: str, database: str, connections: int) -> Iterator[Do]:
    """On a server that asks for no password, with so many connections."""
    shop = Shop(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_HOST": str(socket),
            "POSTGRES_PORT": str(port),
            "POSTGRES_USER": user,
            "POSTGRES_PASSWORD": "unused",
            "POSTGRES_DBNAME": database,
            "POSTGRES_POOL_SIZE": str(connections),
        }
    )
    try:
        yield _placing(shop)
    finally:
        shop.close()


def _placing(shop: Shop) -> Do:
    async def do(in_flight: int, n: int) -> Round:
        tag, before = new_tag(), shop.recorder.max_notification_id() or 0
        commands = [place_order(tag) for _ in range(n)]
        done = await asyncio.to_thread(_place_all, shop, commands, in_flight)
        expect(_placed_since(shop, before), n, "pyeventsourcing's table")
        return done

    return do


def _place_all(shop: Shop, commands: list[PlaceOrder], threads: int) -> Round:
    times_s = array("d")

    def place_some(first: int) -> None:
        for command in commands[first::threads]:
            began = time.perf_counter()
            shop.place(command)
            times_s.append(time.perf_counter() - began)

    began = time.perf_counter()
    if threads == 1:
        place_some(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(place_some, range(threads)))
    return Round(time.perf_counter() - began, times_s, len(times_s))


def _placed_since(shop: Shop, position: int) -> int:
    """How many events it stored after a position, counted a page at a time."""
    placed = 0
    while page := shop.recorder.select_notifications(position + 1, PAGE):
        placed += len(page)
        position = page[-1].id
    return placed
