"""Does an engine slow down as aggregates pile up? New orders after 2,000,000 others, against new orders after 100,000.

Two logs hold that many placed orders; both engines find their states in a store on disk, as workers do. 1,024 in
flight, in process, in rounds that take turns. Reported, with no budget: the resident memory of the broker before and
after the 2,000,000, and what each engine added to this process.

Budget: after_2000000 >= 0.9x after_100000 (when quick, a tenth of each).
"""

from __future__ import annotations

from functools import partial

from bench.in_process import placing_orders
from bench.placed_orders import placed, project
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import OPERATIONS_MAX, Pace, Told, lasting, take_turns
from bench.server import Server, embedded, rss_bytes
from bus.engines.overlay import OverlaidStates, OverlayLimits
from bus.logs.log import Log
from domains.orders.messages import OrderCommand, OrderEvent
from domains.orders.order import Order, orders
from gateway.runtime.collector import calm_the_collector
from projections.aggregate_state import SqliteStateStore

IN_FLIGHT = 1_024
FEW, MANY = 100_000, 2_000_000
QUICK_SHARE = 10


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    few, many = (count // QUICK_SHARE if quick else count for count in (FEW, MANY))
    figures: dict[str, float] = {}
    async with embedded() as server:
        before = rss_bytes(server.pids[0])
        few_log, few_states = await _filled(server, "few", few)
        many_log, many_states = await _filled(server, "many", many)
        figures["broker_rss_before_mb"] = round(before / 1e6, 1)
        figures[f"broker_rss_after_{many}_mb"] = round(rss_bytes(server.pids[0]) / 1e6, 1)
        held = rss_bytes()
        async with placing_orders(many_log, many_states) as after_many:
            await many_states.tidy()  # Fills the filter of what was ever seen.
            figures[f"engine_rss_of_{many}_mb"] = round((rss_bytes() - held) / 1e6, 1)
            async with placing_orders(few_log, few_states) as after_few:
                await few_states.tidy()
                ways = {
                    "after_few": lasting(partial(after_few, IN_FLIGHT), IN_FLIGHT),
                    "after_many": lasting(partial(after_many, IN_FLIGHT), IN_FLIGHT),
                }
                results = [result(name, rounds) for name, rounds in (await take_turns(ways, pace)).items()]
    for each in results:
        told(line(each))
    ratios = {"after_many/after_few": ratio("after_many", "after_few", rates(results))}
    budgets = [budget("after_many/after_few", 0.9, ratios)]
    return Report("many", server.environment, results, ratios, budgets, figures, quick=quick)


async def _filled(server: Server, name: str, count: int) -> tuple[Log, OverlaidStates[Order, OrderCommand, OrderEvent]]:
    """A log of so many orders and the states over its store, which nobody keeps up meanwhile."""
    log = await placed(server, name, [f"{number:016x}" for number in range(count)])
    folder = server.folder / f"stored-{name}"
    await project(log, folder)
    limits = OverlayLimits(commits_max=20 * OPERATIONS_MAX)
    return log, OverlaidStates(orders, SqliteStateStore(orders, folder), limits)
