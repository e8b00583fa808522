"""Three servers with a copy of the log each, the log's leader killed while orders are placed: nothing acknowledged is
lost or doubled, and writing goes on by itself.

The long form (`pytest -m long`) kills leader after leader; the suite kills one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest

from bus.engines.endpoint import Endpoint
from bus.engines.engine import Engine
from bus.logs.blocks import hash_of
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import Appended, LogUnreachable
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.servers.cluster import LocalCluster
from bus.servers.connection import Client, close, connect
from domains.orders.messages import CancelOrder, PlaceOrder
from domains.orders.order import orders
from tests.journeys.load import IN_FLIGHT, Load, commits_of, everything_acknowledged
from tests.system import PATIENCE_S, Shop, order_of, running_system, unique, until

CALM_S = 0.5
"""How long orders are placed before the leader is killed, and after all is well again."""


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "cluster") as running:
        yield running


@asynccontextmanager
async def engine_on(url: str) -> AsyncIterator[tuple[Client, JetStreamLog, Engine[object, object, object]]]:
    """The engine of orders and its endpoint, on a connection of their own."""
    client = await connect(url, "engine")
    log = await JetStreamLog.open(client, "orders", replicas=3)
    engine: Engine[object, object, object] = Engine(orders, log)  # type: ignore[arg-type]  # Hosted only.
    await engine.start()
    endpoint = Endpoint(client, engine, "orders")
    await endpoint.start()
    yield client, log, engine
    await endpoint.stop()
    await engine.stop()
    await endpoint.drain()
    await close(client)


async def leader_of(cluster: LocalCluster, client: Client) -> EmbeddedBroker:
    """The server that leads the log, once there is one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await cluster.leader_of(client, "orders")
            except (nats.errors.Error, LookupError):
                await asyncio.sleep(0.05)


async def kill_leader(cluster: LocalCluster, client: Client) -> None:
    """`kill -9` the server that leads the log; start it again a little later."""
    leader = await leader_of(cluster, client)
    leader.kill()
    await asyncio.sleep(CALM_S)
    leader.start()


async def follow(log: JetStreamLog, seen: list[int]) -> None:
    """What a read model's reader does: every block, in order, for ever. Raises `LogDamaged` for a gap."""
    async for batch in log.read():
        seen += [record.sequence for record in batch]


async def orders_survive(cluster: LocalCluster, kills: int) -> None:
    async with engine_on(cluster.url) as (client, log, engine):
        clients = await connect(cluster.url, "clients")
        seen: list[int] = []
        reader = asyncio.create_task(follow(await JetStreamLog.open(clients, "orders", replicas=3), seen))
        load = Load(Sender(clients, {PlaceOrder: "orders", CancelOrder: "orders"}))
        await load.more(10 * IN_FLIGHT)
        for _ in range(kills):
            await kill_leader(cluster, client)
            await load.more(10 * IN_FLIGHT)
        acknowledged = await load.stop()
        assert not engine.failed.done()
        stored = await commits_of(log)
        async with asyncio.timeout(PATIENCE_S):
            while seen[-1:] != [await log.head()]:
                assert not reader.done(), reader.exception()
                await asyncio.sleep(0.02)
        assert seen == list(range(2, seen[-1] + 1))
        reader.cancel()
        await asyncio.wait({reader})
        await close(clients)
    everything_acknowledged(acknowledged, stored)


async def test_what_is_acknowledged_survives_the_death_of_the_logs_leader(own_cluster: LocalCluster) -> None:
    await orders_survive(own_cluster, kills=1)


@pytest.mark.long
async def test_what_is_acknowledged_survives_the_death_of_one_leader_after_the_other(own_cluster: LocalCluster) -> None:
    await orders_survive(own_cluster, kills=8)


@pytest.mark.long
async def test_a_former_leader_is_not_believed_about_the_logs_end(own_cluster: LocalCluster) -> None:
    """It was frozen, others wrote on, and it is asked before it hears of that."""
    client = await connect(own_cluster.url, "test")
    await JetStreamLog.open(client, "orders", replicas=3)
    last = 0
    for number in range(4):
        leader = await leader_of(own_cluster, client)
        isolated = await connect(leader.url, "isolated")
        others = await connect(",".join(each.url for each in own_cluster.servers if each is not leader), "others")
        isolated_log = await JetStreamLog.open(isolated, "orders", replicas=3)
        os.kill(leader.pid, signal.SIGSTOP)
        last = await insist(await JetStreamLog.open(others, "orders", replicas=3), b"block %d" % number, last)
        heads = [asyncio.create_task(isolated_log.head()) for _ in range(5)]
        await asyncio.sleep(0.1)
        os.kill(leader.pid, signal.SIGCONT)
        for head in await asyncio.gather(*heads, return_exceptions=True):
            assert isinstance(head, LogUnreachable) or head == last
        await close(isolated)
        await close(others)
    await close(client)


async def insist(log: JetStreamLog, block: bytes, expected: int) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            outcome = await log.append(0, block, hash_of(block), expected)
            if isinstance(outcome, Appended):
                return outcome.sequence
            await asyncio.sleep(0.1)


def cluster_of(cluster: LocalCluster) -> dict[str, str]:
    return {"TALLY_NATS_URL": cluster.url, "TALLY_NATS_SYSTEM_URL": cluster.system_url, "TALLY_REPLICAS": "3"}


@pytest.mark.long
def test_a_system_on_a_cluster_ships_an_order(own_cluster: LocalCluster, tmp_path: Path) -> None:
    with running_system(tmp_path / "data", **cluster_of(own_cluster)) as system:
        shop = Shop(system)
        assert shop.settled(shop.place(shop.product(units=1))["order_id"])["status"] == "shipped"
        shop.close()


@pytest.mark.long
@pytest.mark.parametrize("victim", range(3))
def test_a_system_on_a_cluster_goes_on_without_any_one_server(
    own_cluster: LocalCluster, tmp_path: Path, victim: int
) -> None:
    with running_system(tmp_path / "data", **cluster_of(own_cluster)) as system:
        shop = Shop(system)
        body, key = order_of(shop.product(units=1)), {"Idempotency-Key": unique("key")}
        own_cluster.servers[victim].kill()

        def placed() -> str | None:
            answer = shop.http.post("/v1/orders", json=body, headers=key)
            assert answer.status_code in (201, 409, 503), answer.text  # Again under the same key until it is done.
            return str(answer.json()["order_id"]) if answer.status_code == 201 else None

        path = f"/v1/orders/{until(placed, 'an order without one server', every_s=0.2)}"
        until(lambda: shop.http.get(path).json().get("status") == "shipped", "the end of the order", every_s=0.2)
        shop.close()
