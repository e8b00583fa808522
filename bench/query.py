"""How much of a web server's rate is left when every GET is answered from a read model?

A whole system as `tally up` runs it, with the events of many orders (500,000; a quick run: 50,000), load by wrk on the
same cores, in rounds that take turns, at 32 and 256 connections (a quick run: 256):

- `http_static`: a GET that is answered with the bytes of an order's page, by the same framework and server;
- `http_order`: `GET /v1/orders/{id}`, one of all orders by chance a request: token, three lookups in two read models,
  JSON;
- `sqlite_lookup`: the same three statements on a plain `sqlite3` connection in a loop, no server and no framework.

Every answer counted was a success.

Budgets: http_order >= 0.6x http_static at either number of connections.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from bench import wrk
from bench.closed_loop import for_seconds
from bench.lives import ORDER_ID, SEED, orders_in
from bench.report import Bars, Report, Result, budget, environment, line, rates, ratio, result
from bench.rounds import Pace, Round, Told, Way, take_turns
from bench.server import ALWAYS
from bench.shop import Shop, shop_with_orders
from bench.static_route import PATH, static_server
from projections.files import ReadModelFiles
from projections.order_detail import LINES, ORDER
from projections.payments import PAYMENT

EVENTS = 500_000
QUICK_EVENTS = 50_000
CONNECTIONS = (32, 256)
STATIC, ORDER_PAGE, LOOKUP = "http_static", "http_order", "sqlite_lookup"


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    n = QUICK_EVENTS if quick else EVENTS
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        folder = Path(name)
        machine = environment(ALWAYS, folder)
        if not wrk.installed():
            told("skipped: queries over HTTP: wrk is not installed")
            return Report("query", machine, [], skipped=["queries over HTTP: wrk is not installed"], quick=quick)
        told(f"starting a system on {n:,} events")
        async with shop_with_orders(folder, n) as shop:
            page = (await shop.http.get(f"/v1/orders/{ORDER_ID % 0}")).raise_for_status().content
            async with static_server(folder, page) as static_url:
                pages = {
                    STATIC: wrk.Page(static_url, PATH),
                    ORDER_PAGE: wrk.Page(shop.url, f"/v1/orders/{ORDER_ID}", orders_in(n), shop.token),
                }
                results = await _over_http(pages, folder, pace, told, CONNECTIONS[-1:] if quick else CONNECTIONS)
            with _looking_up(shop, orders_in(n)) as look_up:
                results.append(result(LOOKUP, (await take_turns({LOOKUP: look_up}, pace))[LOOKUP]))
                told(line(results[-1]))
    return _report(Report("query", machine, results, quick=quick))


async def _over_http(
    pages: dict[str, wrk.Page], folder: Path, pace: Pace, told: Told, at: tuple[int, ...]
) -> list[Result]:
    results: list[Result] = []
    for connections in at:
        ways: dict[str, Way] = {
            f"{name}_{connections}": partial(wrk.get, page, connections, folder=folder) for name, page in pages.items()
        }
        for name, rounds in (await take_turns(ways, pace)).items():
            results.append(result(name, rounds))
            told(line(results[-1]))
    return results


def _report(measured: Report) -> Report:
    rate = rates(measured.results)
    at = [connections for connections in CONNECTIONS if f"{ORDER_PAGE}_{connections}" in rate]
    ratios = {
        f"order/static_{connections}": ratio(f"{ORDER_PAGE}_{connections}", f"{STATIC}_{connections}", rate)
        for connections in at
    }
    ratios |= {
        f"order/sqlite_lookup_{connections}": ratio(f"{ORDER_PAGE}_{connections}", LOOKUP, rate) for connections in at
    }
    budgets = [budget(f"order/static_{connections}", 0.6, ratios) for connections in at]
    bars = [Bars("rate", "Answers a second", "rate_per_s", list(rate))]
    return replace(measured, ratios=ratios, budgets=budgets, bars=bars)


@contextmanager
def _looking_up(shop: Shop, ids: int) -> Iterator[Way]:
    """Orders by chance, on connections of our own to the files that are live."""
    files, dice = ReadModelFiles(shop.settings.read_models), random.Random(SEED)
    with ExitStack() as stack:
        statements = []
        for query in (ORDER, LINES, PAYMENT):
            live = files.live(query.projection.name)
            assert live is not None
            connection = sqlite3.connect(f"{live.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            statements.append((stack.enter_context(closing(connection)), query.sql))

        async def way(seconds: float) -> Round:
            times_s = array("d")
            going = for_seconds(seconds)
            began = time.perf_counter()
            while going(len(times_s)):
                started = time.perf_counter()
                key = {"order_id": ORDER_ID % dice.randrange(ids)}
                order, *_ = [connection.execute(sql, key).fetchall() for connection, sql in statements]
                assert order, f"there is no order {key}"
                times_s.append(time.perf_counter() - started)
            return Round(time.perf_counter() - began, times_s, len(times_s))

        yield way
