"""The broker's store is full: writes are refused cleanly, reads go on, and writing goes on once there is room again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from nats.js.errors import ServiceUnavailableError

from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.connection import close, connect
from tests.gateway.asserts import problem
from tests.system import Shop, System, order_of, running_system, unique

STORE_BYTES = 4_000_000
BALLAST_BYTES = 500_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    settings = BrokerSettings(tmp_path / "broker", free_port(), "password", file_store_bytes_max=STORE_BYTES)
    with EmbeddedBroker(settings) as running:
        yield running


@pytest.fixture
def own(small: EmbeddedBroker, tmp_path: Path) -> Iterator[System]:
    own = {"TALLY_NATS_URL": small.url, "TALLY_NATS_SYSTEM_URL": small.settings.system_url}
    with running_system(tmp_path / "data", **own) as system:
        yield system


async def fill_up(url: str) -> None:
    """Something else takes all that is left."""
    client = await connect(url, "tests")
    stream = client.jetstream()
    await stream.add_stream(name="ballast", subjects=["ballast"])
    with suppress(ServiceUnavailableError):
        while True:
            await stream.publish("ballast", random.randbytes(BALLAST_BYTES))
    await close(client)


async def make_room(url: str) -> None:
    client = await connect(url, "tests")
    await client.jetstream().purge_stream("ballast")
    await close(client)


def test_a_full_store_is_503_and_nothing_is_half_written(own: System, small: EmbeddedBroker) -> None:
    shop = Shop(own)
    sku = shop.product(units=5)
    paid = shop.settled(shop.place(sku)["order_id"])
    own.quiet()
    asyncio.run(fill_up(small.url))
    before = own.inside.heads()
    body, key = order_of(sku), {"Idempotency-Key": unique("key")}
    refused = shop.http.post("/v1/orders", json=body, headers=key)
    problem(refused, 503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert own.inside.heads() == before
    assert shop.order(paid["order_id"]) == paid
    customer = {"name": "Ada", "email": "ada@example.org"}
    kept = shop.http.put("/v1/customers/ada", json=customer)  # It has a store of its own, and tells of it later.
    assert (kept.status_code, "Position" in kept.headers) == (201, False)
    assert shop.http.get("/v1/customers/ada").json()["email"] == customer["email"]
    assert own.inside.heads() == before
    asyncio.run(make_room(small.url))
    accepted = shop.http.post("/v1/orders", json=body, headers=key)
    assert accepted.status_code == 201
    assert shop.settled(accepted.json()["order_id"])["status"] == "shipped"
    own.quiet()
    assert shop.stock(sku) == (3, 0, 3)
    told = shop.http.put("/v1/customers/ada", json=customer)
    assert told.headers["Position"] == f"customers={own.inside.heads()['customers']}"
    shop.close()
