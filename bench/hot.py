"""Is a hot aggregate as fast as many cold ones? Goods received on one shelf, on 100, on 100,000.

1,024 in flight, in process, on one engine of the inventory; a receipt is two commits in one block, of its shelf and of
itself. `uniform` chooses among all shelves evenly, `zipf` with the exponent 1. Beside them `retrying_writers`: 16
writers without an owner on one subject.

Budgets: hot_1 >= 0.95x uniform_100000 and >= 150x retrying_writers.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import accumulate

from bench.baselines.retrying_writers import retrying_writers
from bench.closed_loop import closed_loop, up_to
from bench.load import new_tag, receive_stock, sent
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Round, Told, lasting, take_turns
from bench.server import embedded
from bench.stored import aggregates, expect
from bus.engines.engine import Engine
from bus.logs.log import Log
from domains.inventory.messages import InventoryCommand, InventoryEvent
from domains.inventory.stock import Stock, inventory, receipt_of
from gateway.runtime.collector import calm_the_collector

IN_FLIGHT = 1_024
WRITERS = 16
SHELVES = 100_000
SEED = 7

Choose = Callable[[int], list[str]]
"""So many SKUs, one a command."""


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    async with embedded() as server:
        log = await server.log("inventory")
        engine = Engine(inventory, log)
        await engine.start()
        try:
            ways = {name: lasting(_receiving(engine, log, choose), IN_FLIGHT) for name, choose in _choices().items()}
            ways["retrying_writers"] = lasting(partial(await retrying_writers(server), WRITERS), WRITERS)
            rounds = await take_turns(ways, pace)
        finally:
            await engine.stop()
    results = [result(name, its_rounds) for name, its_rounds in rounds.items()]
    for each in results:
        told(line(each))
    rate = rates(results)
    ratios = {
        "hot_1/uniform_100000": ratio("hot_1", "uniform_100000", rate),
        "hot_1/zipf_100000": ratio("hot_1", "zipf_100000", rate),
        "hot_1/retrying_writers": ratio("hot_1", "retrying_writers", rate),
    }
    budgets = [budget("hot_1/uniform_100000", 0.95, ratios), budget("hot_1/retrying_writers", 150.0, ratios)]
    return Report("hot", server.environment, results, ratios, budgets, quick=quick)


def _choices() -> dict[str, Choose]:
    dice = random.Random(SEED)
    shelves = [f"sku-{number}" for number in range(SHELVES)]
    zipf = list(accumulate(1 / rank for rank in range(1, SHELVES + 1)))
    return {
        "hot_1": lambda n: dice.choices(shelves[:1], k=n),
        "uniform_100": lambda n: dice.choices(shelves[:100], k=n),
        "uniform_100000": lambda n: dice.choices(shelves, k=n),
        "zipf_100000": lambda n: dice.choices(shelves, cum_weights=zipf, k=n),
    }


def _receiving(
    engine: Engine[Stock, InventoryCommand, InventoryEvent], log: Log, choose: Choose
) -> Callable[[int], Awaitable[Round]]:
    async def do(n: int) -> Round:
        tag, before = new_tag(), await log.head()
        commands = [receive_stock(sku, tag) for sku in choose(n)]
        frames = [sent(command, command.sku) for command in commands]
        done = await closed_loop(lambda number: engine.submit(*frames[number]), IN_FLIGHT, up_to(n))
        receipts = {receipt_of(command.sku, command.receipt_id) for command in commands}
        assert len(receipts) == n
        expect(len(receipts & await aggregates(log, before)), n, "the log inventory")
        return done

    return do
