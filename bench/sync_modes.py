"""What does syncing every block cost? The engine on a broker that does, against one that leaves it for later.

1,024 in flight, in process, two brokers with one disk, in rounds that take turns. `lazy` is the server's default: it
may lose what it acknowledged when the power goes, and is here only to show the difference.

Budget: fsync >= 0.85x lazy.
"""

from __future__ import annotations

from functools import partial

from bench.in_process import placing_orders
from bench.load import collect_as_workers_do
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Told, lasting, take_turns
from bench.server import ALWAYS, LAZY, embedded

IN_FLIGHT = 1_024


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    collect_as_workers_do()
    async with (
        embedded(ALWAYS) as synced,
        embedded(LAZY) as unsynced,
        placing_orders(await synced.log("orders")) as fsync,
        placing_orders(await unsynced.log("orders")) as lazy,
    ):
        ways = {
            "fsync": lasting(partial(fsync, IN_FLIGHT), IN_FLIGHT),
            "lazy": lasting(partial(lazy, IN_FLIGHT), IN_FLIGHT),
        }
        results = [result(f"{name}_{IN_FLIGHT}", rounds) for name, rounds in (await take_turns(ways, pace)).items()]
    for each in results:
        told(line(each))
    ratios = {"fsync/lazy_1024": ratio("fsync_1024", "lazy_1024", rates(results))}
    return Report("sync", synced.environment, results, ratios, [budget("fsync/lazy_1024", 0.85, ratios)], quick=quick)
