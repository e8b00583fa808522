"""Is an engine that has to load every aggregate as good as one that has all in memory? And how soon does it begin?

Two logs hold the same orders. `cold` finds their states in a store on disk, as workers do, and keeps next to nothing in
memory: each order is moved on once, so each command misses. `warm` has read its whole log. 1,024 in flight, in process.
Reported, with no budget: how long each takes to start, the one from its store, the other from its log.

Budget: cold >= 0.4x warm.
"""

from __future__ import annotations

import time

from bench.closed_loop import closed_loop, up_to
from bench.load import new_tag, sent
from bench.placed_orders import placed, project
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Round, Told
from bench.server import embedded
from bench.stored import commits_stored, expect
from bus.engines.engine import Engine
from bus.engines.overlay import OverlaidStates, OverlayLimits
from bus.engines.states import States
from bus.logs.log import Log
from domains.orders.messages import ConfirmReservation, OrderCommand, OrderEvent
from domains.orders.order import Order, orders
from gateway.runtime.collector import calm_the_collector
from projections.aggregate_state import SqliteStateStore

IN_FLIGHT = 1_024
ORDERS = 200_000
QUICK_ORDERS = 20_000
OrderEngine = Engine[Order, OrderCommand, OrderEvent]


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    tag = new_tag()
    ids = [f"{tag}{number:08x}" for number in range(QUICK_ORDERS if quick else ORDERS)]
    async with embedded() as server:
        logs = {name: await placed(server, name, ids) for name in ("cold", "warm")}
        await project(logs["cold"], server.folder)
        limits = OverlayLimits(cache_max=1, commits_max=4 * len(ids))  # Nobody keeps the store up meanwhile.
        states = OverlaidStates(orders, SqliteStateStore(orders, server.folder), limits)
        cold, cold_s = await _started(logs["cold"], states)
        warm, warm_s = await _started(logs["warm"], None)
        await states.tidy()  # It knows by now what was ever seen, as a worker does soon after its start.
        rounds: dict[str, list[Round]] = {"cold": [], "warm": []}
        size = len(ids) // (pace.rounds + 1)
        for number in range(pace.rounds + 1):
            some = ids[number * size : (number + 1) * size]
            rounds["cold"].append(await _move_on(cold, logs["cold"], some))
            rounds["warm"].append(await _move_on(warm, logs["warm"], some))
        await cold.stop()
        await warm.stop()
    results = [result(name, its_rounds[1:]) for name, its_rounds in rounds.items()]  # The first is the warm-up.
    for each in results:
        told(line(each))
    ratios = {"cold/warm": ratio("cold", "warm", rates(results))}
    figures = {
        f"start_of_{len(ids)}_orders_from_the_store_ms": round(cold_s * 1_000, 1),
        f"start_of_{len(ids)}_orders_from_the_log_ms": round(warm_s * 1_000, 1),
    }
    return Report("cold", server.environment, results, ratios, [budget("cold/warm", 0.4, ratios)], figures, quick=quick)


async def _started(log: Log, states: States[Order] | None) -> tuple[OrderEngine, float]:
    began = time.perf_counter()
    engine: OrderEngine = Engine(orders, log, states=states)
    await engine.start()
    return engine, time.perf_counter() - began


async def _move_on(engine: OrderEngine, log: Log, ids: list[str]) -> Round:
    """Confirm the reservation of each of these orders."""
    before = await log.head()
    commands = [sent(ConfirmReservation(order_id), order_id) for order_id in ids]
    done = await closed_loop(lambda number: engine.submit(*commands[number]), IN_FLIGHT, up_to(len(ids)))
    expect(await commits_stored(log, before), len(ids), f"the log {log.name}")
    return done
