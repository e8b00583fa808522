"""What does syncing every block cost, and what do three copies? The engine on brokers that differ in just that.

1,024 in flight, in process, all brokers on one disk and the same cores, in rounds that take turns. `fsync` is one that
syncs every block; `lazy` the server's default, which may lose what it acknowledged when the power goes, and is here
only to show the difference; `three_copies` a cluster of three that each sync (R3).

Budgets: fsync >= 0.85x lazy, three_copies >= 0.6x fsync.
"""

from __future__ import annotations

from functools import partial

from bench.in_process import placing_orders
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Told, lasting, take_turns
from bench.server import ALWAYS, LAZY, clustered, embedded
from gateway.runtime.collector import calm_the_collector

IN_FLIGHT = 1_024


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    async with (
        embedded(ALWAYS) as synced,
        embedded(LAZY) as unsynced,
        clustered(sync=ALWAYS) as cluster,
        placing_orders(await synced.log("orders")) as fsync,
        placing_orders(await unsynced.log("orders")) as lazy,
        placing_orders(await cluster.log("orders")) as three_copies,
    ):
        ways = {
            name: lasting(partial(way, IN_FLIGHT), IN_FLIGHT)
            for name, way in (("fsync", fsync), ("lazy", lazy), ("three_copies", three_copies))
        }
        results = [result(f"{name}_{IN_FLIGHT}", rounds) for name, rounds in (await take_turns(ways, pace)).items()]
    for each in results:
        told(line(each))
    rate = rates(results)
    ratios = {
        "fsync/lazy_1024": ratio("fsync_1024", "lazy_1024", rate),
        "three_copies/fsync_1024": ratio("three_copies_1024", "fsync_1024", rate),
    }
    budgets = [budget("fsync/lazy_1024", 0.85, ratios), budget("three_copies/fsync_1024", 0.6, ratios)]
    return Report("sync", synced.environment, results, ratios, budgets, quick=quick)
