"""A service that comes later knows the past: its policy reads the orders' log from its beginning."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from nats.aio.client import Client

from bus.engines.endpoint import Endpoint
from bus.engines.engine import Engine
from bus.logs.log import Log, MemoryLog
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.processes import follow
from bus.reactors.reactor import Reactor
from bus.sender import Sender
from domains.loyalty.points import loyalty
from domains.orders.messages import OrderCancelled, OrderPaid, OrderPlaced
from gateway import compose
from projections.loyalty import loyalty as loyalty_view
from projections.store import Store
from tests.bus.waiting import until
from tests.projections.history import history_of
from tests.projections.tally import batch_of

(POLICY,) = (policy for policy in compose.POLICIES if policy.name == "loyalty")
DECODERS = compose.decoders()


async def test_loyalty_builds_its_points_from_all_orders_there_ever_were(
    client: Client, unique: str, tmp_path: Path
) -> None:
    orders = await history_of("orders", seed=3, aggregates=80)
    points = MemoryLog(unique)
    engine = Engine(loyalty, points)
    await engine.start()
    endpoint = Endpoint(client, engine, unique)
    await endpoint.start()
    await client.flush()
    try:
        await first_start(orders, Sender(client, dict.fromkeys(loyalty.commands, unique)), tmp_path / "reactors.db")
    finally:
        await endpoint.stop()
        await engine.stop()

    expected = await points_by_customer(orders)
    assert len(expected) > 1
    with Store.create(loyalty_view, tmp_path / "loyalty@1.1.db", "memory") as store:
        store.apply(await batch_of(points, DECODERS["loyalty"]))
        found = {customer_id: (earned, returned) for customer_id, earned, returned in store.rows("loyalty")}
    assert found == expected


async def first_start(orders: Log, sender: Sender, path: Path) -> None:
    """The policy runs for the first time, until it has seen all that there is."""
    checkpoints = await Checkpoints.open(path)
    reactions = dict.fromkeys(POLICY.observes["orders"], follow(sender, POLICY))
    reactor = Reactor("loyalty-from-orders", orders, DECODERS["orders"], reactions, checkpoints)
    running = asyncio.create_task(reactor.run())
    head = await orders.head()
    try:
        await until(lambda: reactor.position == head, "the end of the history")
        assert await checkpoints.parked("loyalty-from-orders") == []
    finally:
        running.cancel()
        await asyncio.wait({running})
        await checkpoints.close()


async def points_by_customer(orders: MemoryLog) -> dict[str, tuple[int, int]]:
    """Earned and returned, by the orders alone."""
    buyers: dict[str, str] = {}
    paid: dict[str, int] = {}
    earned, returned = Counter[str](), Counter[str]()
    for block in (await batch_of(orders, DECODERS["orders"])).blocks:
        for event in (event for commit in block.commits for event in commit.events):
            match event:
                case OrderPlaced(order_id, customer_id):
                    buyers[order_id] = customer_id
                case OrderPaid(order_id, captured_cents):
                    paid[order_id] = captured_cents // 100
                    earned[buyers[order_id]] += paid[order_id]
                case OrderCancelled(order_id) if order_id in paid:
                    returned[buyers[order_id]] += paid[order_id]
                case _:
                    pass
    return {customer_id: (points, returned[customer_id]) for customer_id, points in earned.items() if points}
