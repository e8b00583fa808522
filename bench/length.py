"""Does a rebuild stay as fast, and as small, however long the log is?

`order_summary` built from blocks (`bench/rebuild.py`): once from a log of 5,000,000 events, and before and after that
from one of 100,000. In a quick run 100,000 and 10,000, which says little. The long log is of the same shop, gone on for
fifty times as long: as many orders are under way at a time. (Of a shop that is fifty times as busy more rows change
long after they were made, which is not the log's length.) Reported: what this process holds after a tenth of the long
rebuild, at its end, and at most.

Budget: an event of the long log costs at most 1.15x as much.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.histories import in_blocks
from bench.rebuild import building
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Told
from bench.server import Server, filled, rss_bytes
from gateway.runtime.collector import calm_the_collector
from projections.order_summary import order_summary

LONG, SHORT = 5_000_000, 100_000
QUICK_LONG, QUICK_SHORT = 100_000, 10_000
LOOK_EVERY_S = 0.05


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    n_long, n_short = (QUICK_LONG, QUICK_SHORT) if quick else (LONG, SHORT)
    told(f"writing {n_long:,} events and {n_short:,}")

    async def both(server: Server) -> None:
        await in_blocks(server.client, await server.log("long"), n_long, of_shop=n_short)
        await in_blocks(server.client, await server.log("short"), n_short)

    async with filled(both) as server:
        long, short = await server.log("long"), await server.log("short")
        gc.collect()
        build_short = building(short, (order_summary,), server.folder / "short", n_short)
        await build_short()  # To warm up.
        rounds = [await build_short() for _ in range(pace.rounds)]
        async with _watched() as held:
            whole = await building(long, (order_summary,), server.folder / "long", n_long)()
        rounds += [await build_short() for _ in range(pace.rounds)]
    results = [result(f"summary_{n_long}", [whole]), result(f"summary_{n_short}", rounds)]
    for each in results:
        told(line(each))
    ratios = {"cost_of_an_event_long/short": ratio(f"summary_{n_short}", f"summary_{n_long}", rates(results))}
    figures = {
        "rss_after_a_tenth_mb": round(held[len(held) // 10] / 1e6, 1),
        "rss_at_the_end_mb": round(held[-1] / 1e6, 1),
        "rss_at_most_mb": round(max(held) / 1e6, 1),
    }
    budgets = [budget("cost_of_an_event_long/short", 1.15, ratios, at_most=True)]
    return Report("length", server.environment, results, ratios, budgets, figures, quick=quick)


@asynccontextmanager
async def _watched() -> AsyncIterator[list[int]]:
    """What this process holds, looked at again and again while inside."""
    held = [rss_bytes()]

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            held.append(rss_bytes())

    looking = asyncio.create_task(look())
    try:
        yield held
    finally:
        looking.cancel()
        held.append(rss_bytes())
