"""Does anyone notice a rebuild? Queries over HTTP while read models are rebuilt, and while none is.

A whole system as `tally up` runs it, with 1,000,000 events of orders (a quick run: 50,000). 16 clients ask for one
order after the other by `GET /v1/orders/{id}`, each with a pause of 40 ms before, so some 350 a second: queries as a
shop has them, not as many as go. In turns: `queries_quiet`, and `queries_rebuilding`, where `order_summary` and
`order_detail` are rebuilt one after the other for as long as the round takes. Every answer counted was a success, every
rebuild found what it built equal to the live one.

Budget: p99 while rebuilding at most 2x of the p99 while not.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import httpx

from bench import wrk
from bench.lives import ORDER_ID, orders_in
from bench.report import Bars, Report, budget, environment, line, ratio, result
from bench.rounds import BenchmarkFailed, Pace, Round, Told, take_turns
from bench.server import ALWAYS
from bench.shop import shop_with_orders

EVENTS = 1_000_000
QUICK_EVENTS = 50_000
CONNECTIONS = 16
PAUSE_MS = 40
ROUND_S = 10.0
QUICK_ROUND_S = 3.0
REBUILT = ("order_summary", "order_detail")
LOOK_EVERY_S = 0.1
REBUILD_TIMEOUT_S = 300.0


class RebuildFailed(BenchmarkFailed):
    """A rebuild came to another end than the switch."""


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    n = QUICK_EVENTS if quick else EVENTS
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        folder = Path(name)
        machine = environment(ALWAYS, folder)
        if not wrk.installed():
            told("skipped: queries meanwhile: wrk is not installed")
            return Report("meanwhile", machine, [], skipped=["queries meanwhile: wrk is not installed"], quick=quick)
        told(f"starting a system on {n:,} events")
        async with shop_with_orders(folder, n) as shop:
            page = wrk.Page(shop.url, f"/v1/orders/{ORDER_ID}", orders_in(n), shop.token)
            rebuilds: list[str] = []

            async def quiet(seconds: float) -> Round:
                return await wrk.get(page, CONNECTIONS, seconds, folder, PAUSE_MS)

            async def rebuilding(seconds: float) -> Round:
                async with _rebuilding(shop.http, rebuilds):
                    return await quiet(seconds)

            pace = Pace(pace.rounds, QUICK_ROUND_S if quick else ROUND_S)
            rounds = await take_turns({"queries_quiet": quiet, "queries_rebuilding": rebuilding}, pace)
    results = [result(each, its_rounds) for each, its_rounds in rounds.items()]
    for one in results:
        told(line(one))
    p99 = {one.name: one.p99_ms for one in results}
    ratios = {"p99_rebuilding/quiet": ratio("queries_rebuilding", "queries_quiet", p99)}
    return Report(
        "meanwhile",
        machine,
        results,
        ratios,
        [budget("p99_rebuilding/quiet", 2.0, ratios, at_most=True)],
        {"rebuilds_meanwhile": float(len(rebuilds))},
        quick=quick,
        bars=[Bars("queries", "Milliseconds of a query, p99", "p99_ms", list(p99))],
    )


@asynccontextmanager
async def _rebuilding(http: httpx.AsyncClient, done: list[str]) -> AsyncIterator[None]:
    """One rebuild after the other while inside, the last one to its end; their outcomes go into `done`."""
    leaving = asyncio.Event()

    async def again_and_again() -> None:
        for name in cycle(REBUILT):
            done.append(await _rebuild(http, name))
            if leaving.is_set():
                return

    rebuilding = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        leaving.set()
        await rebuilding


async def _rebuild(http: httpx.AsyncClient, name: str) -> str:
    (await http.post(f"/v1/projections/{name}/rebuilds")).raise_for_status()
    async with asyncio.timeout(REBUILD_TIMEOUT_S):
        while True:
            rebuild = (await http.get(f"/v1/projections/{name}")).raise_for_status().json()["rebuild"]
            if rebuild is not None and rebuild["state"] in ("done", "failed"):
                break
            await asyncio.sleep(LOOK_EVERY_S)
    if rebuild["state"] == "failed" or not rebuild["detail"].startswith("equal"):
        raise RebuildFailed(f"the rebuild of {name} came to this: {rebuild['detail']}")
    return str(rebuild["detail"])
