"""The payment provider takes 5 to 10 s: does a shop go down with it?

The same load, at the same moments whatever was answered, on two shops with one provider, one after the other:

- `naive`: charges the card within the request, with nothing around the call (`bench/scenarios/naive_shop.py`);
- `fixed`: the system as `tally up` runs it. An order is answered when it is on disk; the charge follows, along the call
  path: 2 s a try, 5 s in all, a breaker, 32 calls at most. The breaker tries again after 5 s, so that the run is short
  (the default is 30 s).

Orders, and calls that have nothing to do with payments: the page of a product. First the provider is well, then every
charge takes 5 to 10 s, then it is well again. Customers go away after 10 s; a call that failed or was given up counts
as long as that. `settled_after_s`: how long after the provider is well again all orders of the fixed shop are paid,
each charged once. `naive_charged_without_an_answer`: cards charged by the naive one for orders whose customers were
told nothing.

Budgets, of calls that have nothing to do with payments, while the provider is slow against while it is well: fixed
throughput >= 0.9, fixed p99 <= 2x, naive throughput <= 0.5 (it collapses).
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec.structs import replace

from bench.report import Report, Result, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Told
from bench.scenarios.naive_shop import DATABASE, PROVIDER
from bench.scenarios.offered import OUTSTANDING_MAX, Kind, Seen, between, offer, requests
from bench.scenarios.served import served
from bench.scenarios.timelines import Timeline, draw_timelines, timeline
from bench.server import ALWAYS
from gateway.http.tokens import Tokens
from gateway.runtime.up import started
from gateway.settings import Settings, jwt_secret

NAIVE, FIXED = "naive", "fixed"
ORDERS, UNRELATED = "orders", "unrelated"
ORDERS_PER_S, UNRELATED_PER_S = 20.0, 60.0
HEALTHY_SHARE_MIN = 0.95
"""Of the calls that are offered: a shop that answers fewer when all is well says nothing about trouble."""
SLOW_S = 5.0, 10.0
DRAW_EVERY_S = 0.25
"""So often is it drawn anew how long a charge takes that begins now."""
SKU = "mug"
MESH = """
[destinations.provider]
timeout_s = 5.0
try_timeout_s = 2.0
breaker = { open_s = 5.0 }
"""
PAID = {"paid", "shipped"}
SETTLE_TIMEOUT_S = 90.0
POLL_S = 0.2


class Phases(NamedTuple):
    """Seconds. `warm_up` is thrown away."""

    warm_up: int
    healthy: int
    slow: int
    after: int

    @property
    def slow_from(self) -> int:
        return self.warm_up + self.healthy

    @property
    def slow_until(self) -> int:
        return self.slow_from + self.slow

    @property
    def whole(self) -> int:
        return self.slow_until + self.after


FULL = Phases(warm_up=5, healthy=12, slow=25, after=10)
QUICK = Phases(warm_up=5, healthy=5, slow=12, after=3)


class Ran(NamedTuple):
    seen: list[Seen]
    figures: dict[str, float]


async def run(*, quick: bool, told: Told) -> tuple[Report, dict[str, str]]:
    """The report, and drawings by name."""
    phases = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="tallystream-scenario-") as name:
        folder = Path(name)
        machine = environment(ALWAYS, folder)
        ran: dict[str, Ran] = {}
        for way, shop in ((NAIVE, _naive), (FIXED, _fixed)):
            told(f"{way}: {phases.whole} s of load")
            (folder / way).mkdir()
            ran[way] = await shop(folder / way, phases)
    results = [
        result(f"{way}_{kind}_{phase}", [between(one.seen, kind, *when)])
        for way, one in ran.items()
        for kind in (UNRELATED, ORDERS)
        for phase, when in (
            ("healthy", (phases.warm_up, phases.slow_from)),
            ("slow", (phases.slow_from, phases.slow_until)),
        )
    ]
    for each in results:
        told(line(each))
    figures = {name: value for one in ran.values() for name, value in one.figures.items()}
    report = judged(Report("payment-timeout", machine, results, figures=figures, quick=quick))
    lines: list[Timeline] = [
        timeline(way, kind, one.seen, phases.whole) for way, one in ran.items() for kind in (UNRELATED, ORDERS)
    ]
    kinds = {UNRELATED: "calls that have nothing to do with payments", ORDERS: "orders"}
    title = "The payment provider takes 5 to 10 s (shaded)"
    return report, {"timeline": draw_timelines(title, kinds, lines, (phases.slow_from, phases.slow_until), machine)}


def judged(measured: Report) -> Report:
    """With ratios, budgets and a verdict, all from the results. Raises `BenchmarkFailed` where they mean nothing."""
    by_name = {each.name: each for each in measured.results}
    for way in (NAIVE, FIXED):
        healthy = by_name[f"{way}_{UNRELATED}_healthy"].rate_per_s
        if healthy < HEALTHY_SHARE_MIN * UNRELATED_PER_S:
            said = f"the {way} shop answered {healthy:,.0f} of {UNRELATED_PER_S:,.0f} calls a second"
            raise BenchmarkFailed(f"{said} while the provider was well: this machine is too busy")

    def share(way: str, kind: str, of: Callable[[Result], float]) -> float:
        healthy = of(by_name[f"{way}_{kind}_healthy"])
        return round(of(by_name[f"{way}_{kind}_slow"]) / healthy, 3) if healthy else 0.0

    ratios: dict[str, float] = {}
    for way in (FIXED, NAIVE):
        for kind in (UNRELATED, ORDERS):
            ratios[f"{way}_{kind}_throughput"] = share(way, kind, lambda each: each.rate_per_s)
            ratios[f"{way}_{kind}_p99"] = share(way, kind, lambda each: each.p99_ms)
    budgets = [
        budget(f"{FIXED}_{UNRELATED}_throughput", 0.9, ratios),
        budget(f"{FIXED}_{UNRELATED}_p99", 2.0, ratios, at_most=True),
        budget(f"{NAIVE}_{UNRELATED}_throughput", 0.5, ratios, at_most=True),
    ]
    return replace(measured, ratios=ratios, budgets=budgets, verdict=_verdict(by_name, ratios, measured.figures))


def _verdict(by_name: dict[str, Result], ratios: dict[str, float], figures: dict[str, float]) -> list[str]:
    said: list[str] = []
    for way, words in ((NAIVE, "Without the fix"), (FIXED, "With it")):
        healthy, slow = (by_name[f"{way}_{UNRELATED}_{phase}"] for phase in ("healthy", "slow"))
        throughput, p99 = (ratios[f"{way}_{UNRELATED}_{measure}"] for measure in ("throughput", "p99"))
        orders = ratios[f"{way}_{ORDERS}_throughput"]
        fate = "collapse" if throughput <= 0.5 else "go on" if throughput >= 0.9 and p99 <= 2 else "suffer"
        said.append(
            f"{words}, calls that have nothing to do with payments {fate}: {throughput:.0%} of their throughput "
            f"({slow.rate_per_s:,.0f}/s of {healthy.rate_per_s:,.0f}/s), p99 {slow.p99_ms:,.0f} ms instead of "
            f"{healthy.p99_ms:,.0f} ms ({p99:,.1f}x); orders keep {orders:.0%} of theirs."
        )
    said.append(
        f"The naive shop charged {figures['naive_charged_without_an_answer']:,.0f} cards and told their owners "
        f"nothing; the fixed one had all {figures['fixed_orders']:,.0f} orders paid, each charged once, "
        f"{figures['settled_after_s']:,.1f} s after the provider was well again."
    )
    return said


async def _naive(folder: Path, phases: Phases) -> Ran:
    async with _provider(folder) as provider:
        variables = {DATABASE: str(folder / "shop.db"), PROVIDER: provider.url}
        async with served("bench.scenarios.naive_shop", folder, variables) as url:
            seen = await _under_load(url, "", provider, phases)
            answered = sum(each.kind == ORDERS and each.succeeded for each in seen)
            charges = await _until_still(provider)
    return Ran(seen, {"naive_charged_without_an_answer": float(charges - answered)})


async def _fixed(folder: Path, phases: Phases) -> Ran:
    mesh = folder / "mesh.toml"
    await asyncio.to_thread(mesh.write_text, MESH)
    async with _provider(folder) as provider:
        settings = Settings(
            data_dir=folder / "data", http_port=0, log_level="WARNING", provider_url=provider.url, mesh_file=mesh
        )
        async with started(settings, lambda line: None) as (_, where):
            token = Tokens(jwt_secret(settings)).issue("admin", "scenario")
            await _stock(where.http_url, token)
            seen = await _under_load(where.http_url, token, provider, phases)
            settled_s = await _until_settled(where.http_url, token, provider)
            accepted = (await provider.ledger())["charges"]
    return Ran(seen, {"fixed_orders": float(accepted), "settled_after_s": round(settled_s, 1)})


class Provider:
    """How the scenario speaks to the provider."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self.well_since = time.monotonic()

    async def takes(self, seconds: float) -> None:
        (await self._http.put("/mode", json={"latency_ms": round(seconds * 1_000)})).raise_for_status()
        self.well_since = time.monotonic()

    async def ledger(self) -> dict[str, int]:
        found: dict[str, int] = (await self._http.get("/ledger")).raise_for_status().json()
        return found


@asynccontextmanager
async def _provider(folder: Path) -> AsyncIterator[Provider]:
    variables = {"TALLY_DATA_DIR": str(folder / "provider")}
    async with AsyncExitStack() as stack:
        provider = served("gateway.cli.main", folder, variables, "provider", "--port")
        url = await stack.enter_async_context(provider)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=10.0))
        yield Provider(url, http)


async def _under_load(url: str, token: str, provider: Provider, phases: Phases) -> list[Seen]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    limits = httpx.Limits(max_connections=2 * OUTSTANDING_MAX, max_keepalive_connections=OUTSTANDING_MAX)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=None
    ) as http:  # `offer` has one.

        def order(number: int) -> httpx.Request:
            line = {"sku": SKU, "quantity": random.randint(1, 3)}
            body = {"customer_id": f"customer-{number % 97}", "currency": "EUR", "lines": [line]}
            return http.build_request("POST", "/v1/orders", json=body)

        def page(number: int) -> httpx.Request:
            return http.build_request("GET", f"/v1/products/{SKU}")

        kinds = (
            Kind(ORDERS, ORDERS_PER_S, requests(http, order)),
            Kind(UNRELATED, UNRELATED_PER_S, requests(http, page)),
        )
        async with asyncio.TaskGroup() as tasks:
            offering = tasks.create_task(offer(kinds, phases.whole))
            tasks.create_task(_trouble(provider, phases))
        return offering.result()


async def _trouble(provider: Provider, phases: Phases) -> None:
    await asyncio.sleep(phases.slow_from)
    until = time.monotonic() + phases.slow
    while time.monotonic() < until:
        await provider.takes(random.uniform(*SLOW_S))
        await asyncio.sleep(DRAW_EVERY_S)
    await provider.takes(0.0)


async def _stock(url: str, token: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30.0) as http:
        product = {"name": "Mug", "category": "kitchen", "price_cents": 1_250, "currency": "EUR"}
        (await http.put(f"/v1/products/{SKU}", json=product)).raise_for_status()
        receipt = {"receipt_id": "first", "quantity": 1_000_000}
        (await http.post(f"/v1/stock/{SKU}/receipts", json=receipt)).raise_for_status()


async def _until_settled(url: str, token: str, provider: Provider) -> float:
    """Until every order is paid: how long after the provider was well again."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30.0) as http:
        while time.monotonic() < deadline:
            answer = (await http.get("/v1/reports/sales", params={"by": "status"})).raise_for_status()
            by_status = {row["key"]: int(row["orders"]) for row in answer.json()["rows"]}
            if by_status.keys() <= PAID:
                settled_s = time.monotonic() - provider.well_since
                paid, charges = sum(by_status.values()), (await provider.ledger())["charges"]
                if charges != paid:
                    raise BenchmarkFailed(f"{paid} orders are paid, and {charges} cards were charged")
                return settled_s
            await asyncio.sleep(POLL_S)
    raise BenchmarkFailed(f"not all orders were paid after {SETTLE_TIMEOUT_S:.0f} s: {by_status}")


async def _until_still(provider: Provider) -> int:
    """Charges, once there are no more of them in the time that a slow one takes."""
    before = -1
    while (charges := (await provider.ledger())["charges"]) != before:
        before = charges
        await asyncio.sleep(max(SLOW_S) / 2)
    return charges
