"""How much of a web server's rate is left when every POST is on disk before it is answered?

A whole system as `tally up` runs it (broker, workers, provider, gateway with one process), load by wrk on the same
cores, in rounds that take turns, each only once all that follows from the last (checkouts, read models) is done:

- `http_static`: a POST whose body is decoded and answered with a constant, by the same framework and server;
- `http_receipts`: `POST /v1/stock/{sku}/receipts`, all on one shelf;
- `http_orders`: `POST /v1/orders`, while the checkouts of those orders go on;
- `http_receipts_alone`, `http_orders_alone`: the same while what follows from a command (read models, checkouts, the
  work queue) stands still as long as a round is timed, and catches up before the next: the write path and nothing else.

A quick run has one round, at 256 connections, and no orders. Every answer counted was a success, and what was counted
is counted again in the log.

Budgets: all four >= 0.65x http_static at 256 connections and >= 0.4x at 32.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec.structs import replace

from bench import wrk
from bench.children import standing_still
from bench.load import new_tag
from bench.report import Report, Result, budget, environment, line, point, rates, ratio, result
from bench.rounds import Pace, Round, Told, Way, take_turns
from bench.server import ALWAYS
from bench.static_route import PATH, static_server
from bench.stored import aggregates, expect
from bus.announcements import Standings
from bus.logs.jetstream import JetStreamLog
from bus.servers.connection import close, connect
from domains.inventory.stock import receipt_of
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.up import started
from gateway.settings import Settings, home, jwt_secret

STATIC, RECEIPTS, ORDERS = "http_static", "http_receipts", "http_orders"
FOLLOWS = ("projections", "processes", "queue")
"""The workers of what follows from a command."""
CONNECTIONS = (32, 256)
SKU = "bench-product"
UNITS = 1_000_000
ORDERS_SHARE = 0.4
"""Of a round's time: what follows from an order takes some ten times as long as to place it, and is waited for."""
READY_TIMEOUT_S = 20.0
SETTLE_TIMEOUT_S = 300.0
STILL_S = 0.5
"""Logs that did not grow for so long are at rest."""


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        folder = Path(name)
        machine = environment(ALWAYS, folder)
        if not wrk.installed():
            told("skipped: HTTP: wrk is not installed")
            return Report("http", machine, [], skipped=["HTTP: wrk is not installed"], quick=quick)
        async with static_server(folder) as static_url, _shop(folder) as shop:
            static = wrk.Target(static_url, PATH, '{"order_id": "%s"}')
            results = await _measure(static, shop, replace(pace, rounds=1) if quick else pace, told, whole=not quick)
    skipped = ["HTTP at 32 connections, and orders over HTTP: not in a quick run"] if quick else []
    return _report(Report("http", machine, results, skipped=skipped, quick=quick))


async def _measure(static: wrk.Target, shop: _Shop, pace: Pace, told: Told, *, whole: bool) -> list[Result]:
    results: list[Result] = []
    for connections in CONNECTIONS if whole else CONNECTIONS[-1:]:
        ways: dict[str, Way] = {STATIC: partial(shop.only_answered, static, connections)}
        for name, way in (RECEIPTS, shop.receive), (ORDERS, shop.place):
            if whole or name == RECEIPTS:
                ways[name] = partial(way, connections)
                ways[f"{name}_alone"] = partial(way, connections, alone=True)
        for name, rounds in (await take_turns(ways, pace)).items():
            durable = name != STATIC  # Only what is on disk belongs among the curves.
            results.append(point(name, connections, rounds) if durable else result(f"{name}_{connections}", rounds))
            told(line(results[-1]))
    return results


def _report(measured: Report) -> Report:
    rate = rates(measured.results)
    ratios = {
        f"{each.way}/static_{each.in_flight}": ratio(each.name, f"{STATIC}_{each.in_flight}", rate)
        for each in measured.results
        if each.way
    }
    budgets = [
        budget(f"{way}/static_{connections}", wanted, ratios)
        for way in (RECEIPTS, f"{RECEIPTS}_alone", ORDERS, f"{ORDERS}_alone")
        for connections, wanted in ((256, 0.65), (32, 0.4))
        if f"{way}/static_{connections}" in ratios
    ]
    return replace(measured, ratios=ratios, budgets=budgets)


class _Load(NamedTuple):
    """`prefix`: of the names of the aggregates in `domain` that it leads to."""

    target: wrk.Target
    domain: str
    tag: str
    prefix: str


class _Shop:
    """A running system with one product on the shelf, and its logs."""

    def __init__(
        self,
        url: str,
        token: str,
        logs: dict[str, JetStreamLog],
        standings: Standings,
        supervisor: Supervisor,
        folder: Path,
    ) -> None:
        self._supervisor = supervisor
        self._logs = logs
        self._standings = standings
        self._folder = folder
        receipt = '{"receipt_id": "%s", "quantity": 1}'
        lines = f'"lines": [{{"sku": "{SKU}", "quantity": 1}}]'
        order = '{"order_id": "%s", "customer_id": "customer-1", "currency": "EUR", ' + lines + "}"
        self._receipts = wrk.Target(url, f"/v1/stock/{SKU}/receipts", receipt, token)
        self._orders = wrk.Target(url, "/v1/orders", order, token)

    async def only_answered(self, target: wrk.Target, connections: int, seconds: float) -> Round:
        return await wrk.post(target, new_tag(), connections, seconds, self._folder)

    async def receive(self, connections: int, seconds: float, *, alone: bool = False) -> Round:
        tag = new_tag()
        load = _Load(self._receipts, "inventory", tag, receipt_of(SKU, tag))
        return await self._post(load, connections, seconds, alone=alone)

    async def place(self, connections: int, seconds: float, *, alone: bool = False) -> Round:
        tag = new_tag()
        load = _Load(self._orders, "orders", tag, tag)
        return await self._post(load, connections, seconds * ORDERS_SHARE, alone=alone)

    async def _post(self, load: _Load, connections: int, seconds: float, *, alone: bool) -> Round:
        log = self._logs[load.domain]
        before = await log.head()
        with standing_still(*(self._followers() if alone else ())):
            done = await wrk.post(load.target, load.tag, connections, seconds, self._folder)
        stored = sum(name.startswith(load.prefix) for name in await aggregates(log, before))
        expect(stored, done.n, f"the log {log.name}", more_at_most=connections)  # Those that it did not wait for.
        await self._settle()
        return done

    def _followers(self) -> list[int]:
        pids = [self._supervisor.pid(name) for name in FOLLOWS]
        assert None not in pids, "a worker is not there"
        return [pid for pid in pids if pid is not None]

    async def _settle(self) -> None:
        """Until no log grows any more and every read model shows all of its log."""
        before: dict[str, int] = {}
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while (heads := await self._heads()) != before or not self._shown(heads):
                before = heads
                await asyncio.sleep(STILL_S)

    async def _heads(self) -> dict[str, int]:
        return {name: await log.head() for name, log in self._logs.items()}

    def _shown(self, heads: dict[str, int]) -> bool:
        for model in compose.PROJECTIONS:
            latest = self._standings.latest(model.name)
            if heads[model.stream] > 1 and (latest is None or latest.sequence < heads[model.stream]):
                return False
        return True


@asynccontextmanager
async def _shop(folder: Path) -> AsyncIterator[_Shop]:
    settings = Settings(data_dir=folder / "data", http_port=0, log_level="WARNING")
    async with started(settings, lambda line: None) as (supervisor, where):
        token = Tokens(jwt_secret(settings)).issue("admin", "bench")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=where.http_url, headers=headers, timeout=READY_TIMEOUT_S) as http:
            product = {"name": "A product", "category": "a-category", "price_cents": 1_250, "currency": "EUR"}
            (await http.put(f"/v1/products/{SKU}", json=product)).raise_for_status()
            receipt = {"receipt_id": "all", "quantity": UNITS}
            (await http.post(f"/v1/stock/{SKU}/receipts", json=receipt)).raise_for_status()
        client = await connect(where.nats_url, "bench")
        try:
            standings = Standings(client, home(settings))
            await standings.start()
            logs = await compose.open_logs(client, settings)
            yield _Shop(where.http_url, token, logs, standings, supervisor, folder)
        finally:
            await close(client)
