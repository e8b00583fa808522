"""A checkout as one writes it first: the card is charged within the request, and the answer waits for it.

What it does is right as long as all goes well: an order is written down, synced, before it is charged, under a key,
and marked as paid afterwards. It runs as most web applications do, in a pool of threads (40, as FastAPI and Starlette
have it), and every request takes one of them. No timeout, no limit of its own, no breaker: that is the point.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
from litestar import Litestar, get, post
from litestar.concurrency import set_asyncio_executor
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from msgspec import Struct

from bus.servers.lifetime import die_with_parent
from gateway.runtime.serve import serve
from gateway.settings import Settings

THREADS = 40
DATABASE = "NAIVE_DATABASE"
PROVIDER = "NAIVE_PROVIDER"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS product (sku TEXT PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS placed (
    order_id TEXT PRIMARY KEY, sku TEXT NOT NULL, cents INTEGER NOT NULL, status TEXT NOT NULL
) STRICT;
INSERT OR IGNORE INTO product VALUES ('mug', 'Mug', 1250);
"""


class Line(Struct, frozen=True):
    sku: str
    quantity: int


class OrderBody(Struct, frozen=True):
    customer_id: str
    currency: str
    lines: list[Line]


class Placed(Struct, frozen=True):
    order_id: str
    status: str
    total_cents: int


class Product(Struct, frozen=True):
    sku: str
    name: str
    price_cents: int


class Shop:
    def __init__(self, file: Path, provider: str) -> None:
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)
        self._lock = threading.Lock()
        self.provider = httpx.Client(base_url=provider, timeout=None, limits=httpx.Limits())

    def execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()

    def product(self, sku: str) -> Product:
        rows = self.execute("SELECT sku, name, price_cents FROM product WHERE sku = ?", sku)
        if not rows:
            raise NotFoundException(f"there is no product {sku}")
        _, name, price_cents = rows[0]
        assert isinstance(price_cents, int)
        return Product(sku, str(name), price_cents)


@get("/v1/products/{sku:str}", sync_to_thread=True)
def get_product(sku: str, state: State) -> Product:
    shop: Shop = state.shop
    return shop.product(sku)


@post("/v1/orders", sync_to_thread=True)
def place_order(data: OrderBody, state: State) -> Placed:
    shop: Shop = state.shop
    (line,) = data.lines
    order_id, cents = uuid4().hex, line.quantity * shop.product(line.sku).price_cents
    shop.execute("INSERT INTO placed VALUES (?, ?, ?, 'placed')", order_id, line.sku, cents)
    charge = {"amount_cents": cents, "currency": data.currency, "token": "tok_ok"}
    shop.provider.post("/charges", json=charge, headers={"Idempotency-Key": order_id}).raise_for_status()
    shop.execute("UPDATE placed SET status = 'paid' WHERE order_id = ?", order_id)
    return Placed(order_id, "paid", cents)


def shop() -> Litestar:
    """What granian's worker runs."""
    die_with_parent()
    set_asyncio_executor(ThreadPoolExecutor(THREADS))
    state = State({"shop": Shop(Path(os.environ[DATABASE]), os.environ[PROVIDER])})
    return Litestar([get_product, place_order], state=state, openapi_config=None, logging_config=None)


if __name__ == "__main__":
    serve(Settings(log_level="WARNING"), "bench.scenarios.naive_shop:shop", port=int(sys.argv[1]))
