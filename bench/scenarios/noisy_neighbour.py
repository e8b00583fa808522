"""One of two services that a process calls is slow: what becomes of the calls to the other?

A process that has 40 places, as a pool of threads or connections has; each request takes one until it is answered,
also where whoever sent it has gone away meanwhile. Of 80 requests a second half need one service, half the other. Both
answer after 20 ms; then one, the noisy neighbour, takes 4 s. The same twice, along the call path:

- `no bulkhead`: calls to the noisy one hold as many places as there are;
- `bulkhead`: at most 10 of them are under way, and others are refused at once.

Timeout and breaker are out of the way in both, so that it is the bulkhead that is seen.

Budgets, of calls to the other one, while its neighbour is slow against before: bulkhead throughput >= 0.9, p99 <= 2x;
no bulkhead throughput <= 0.5.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from msgspec.structs import replace

from bench.report import Report, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Told
from bench.scenarios.callee import Behaviour, behave
from bench.scenarios.offered import PATIENCE_S, Kind, Seen, between, offer
from bench.scenarios.served import served
from bench.scenarios.timelines import draw_timelines, timeline
from bus.calls.call import CallFailed, http_call
from bus.calls.over_http import HttpTransport, client
from bus.calls.path import CallPath
from bus.calls.policy import BreakerPolicy, CallPolicy

NO_BULKHEAD, BULKHEAD = "no_bulkhead", "bulkhead"
NOISY, OTHER = "noisy", "other"
PLACES = 40
CALLS_PER_S = 40.0
"""To each."""
WELL, ILL = Behaviour(takes_s=0.02), Behaviour(takes_s=4.0)
WARM_UP_S, HEALTHY_S = 2, 5
TROUBLE_S, QUICK_TROUBLE_S = 20, 12
AFTER_S = 3
HEALTHY_SHARE_MIN = 0.95
NEVER = BreakerPolicy(calls_min=100_000, window_calls=100_000)
POLICY = CallPolicy(timeout_s=PATIENCE_S, try_timeout_s=PATIENCE_S, retries=0, concurrency=10_000, breaker=NEVER)
POLICIES = {NO_BULKHEAD: POLICY, BULKHEAD: replace(POLICY, concurrency=10, queue=0)}


async def run(*, quick: bool, told: Told) -> tuple[Report, dict[str, str]]:
    """The report, and drawings by name."""
    trouble = WARM_UP_S + HEALTHY_S, WARM_UP_S + HEALTHY_S + (QUICK_TROUBLE_S if quick else TROUBLE_S)
    seconds = trouble[1] + AFTER_S
    seen: dict[str, list[Seen]] = {}
    with tempfile.TemporaryDirectory(prefix="tallystream-scenario-") as name:
        machine = environment("none", Path(name))
        for way, policy in POLICIES.items():
            told(f"{way}: {seconds} s of load")
            seen[way] = await _under_load(Path(name), policy, trouble, seconds)
    phases = {"healthy": (WARM_UP_S, trouble[0]), "slow": trouble}
    results = [
        result(f"{way}_{kind}_{phase}", [between(one, kind, *when)])
        for way, one in seen.items()
        for kind in (OTHER, NOISY)
        for phase, when in phases.items()
    ]
    for each in results:
        told(line(each))
    report = judged(Report("noisy-neighbour", machine, results, quick=quick))
    lines = [
        timeline(way.replace("_", " "), kind, one, seconds) for way, one in seen.items() for kind in (OTHER, NOISY)
    ]
    kinds = {OTHER: "calls to the other service", NOISY: "calls to the noisy one"}
    drawing = draw_timelines("One of two services takes 4 s (shaded)", kinds, lines, trouble, machine)
    return report, {"timeline": drawing}


def judged(measured: Report) -> Report:
    """With ratios, budgets and a verdict, all from the results. Raises `BenchmarkFailed` where they mean nothing."""
    by_name = {each.name: each for each in measured.results}
    ratios: dict[str, float] = {}
    said: list[str] = []
    for way, words in ((NO_BULKHEAD, "Without a bulkhead"), (BULKHEAD, "With one")):
        healthy, slow = (by_name[f"{way}_{OTHER}_{phase}"] for phase in ("healthy", "slow"))
        if healthy.rate_per_s < HEALTHY_SHARE_MIN * CALLS_PER_S:
            rates = f"{healthy.rate_per_s:,.0f} of {CALLS_PER_S:,.0f} calls a second"
            raise BenchmarkFailed(f"{rates} were answered before the trouble: this machine is too busy")
        ratios[f"{way}_throughput"] = round(slow.rate_per_s / healthy.rate_per_s, 3)
        ratios[f"{way}_p99"] = round(slow.p99_ms / healthy.p99_ms, 3)
        said.append(
            f"{words}, calls to the other service keep {ratios[f'{way}_throughput']:.0%} of their throughput, with a "
            f"p99 of {slow.p99_ms:,.0f} ms instead of {healthy.p99_ms:,.0f} ms ({ratios[f'{way}_p99']:,.1f}x)."
        )
    budgets = [
        budget(f"{BULKHEAD}_throughput", 0.9, ratios),
        budget(f"{BULKHEAD}_p99", 2.0, ratios, at_most=True),
        budget(f"{NO_BULKHEAD}_throughput", 0.5, ratios, at_most=True),
    ]
    return replace(measured, ratios=ratios, budgets=budgets, verdict=said)


async def _under_load(folder: Path, policy: CallPolicy, trouble: tuple[int, int], seconds: int) -> list[Seen]:
    places = asyncio.Semaphore(PLACES)
    under_way: set[asyncio.Task[bool]] = set()
    async with AsyncExitStack() as stack:
        clients = {name: await _service(stack, folder) for name in (NOISY, OTHER)}
        policies = {NOISY: policy, OTHER: POLICY}

        def kind(name: str) -> Kind:
            path = CallPath(name, policies[name], HttpTransport(name, clients[name]))

            async def answered() -> bool:
                try:
                    await path.call(http_call("GET", "/"))
                except CallFailed:
                    return False
                finally:
                    places.release()
                return True

            async def call(number: int) -> bool:
                await places.acquire()
                task = asyncio.create_task(answered())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                return await asyncio.shield(task)

            return Kind(name, CALLS_PER_S, call)

        async with asyncio.TaskGroup() as tasks:
            offering = tasks.create_task(offer([kind(NOISY), kind(OTHER)], seconds))
            tasks.create_task(_trouble(clients[NOISY], trouble))
        await asyncio.gather(*under_way)
        return offering.result()


async def _service(stack: AsyncExitStack, folder: Path) -> httpx.AsyncClient:
    url = await stack.enter_async_context(served("bench.scenarios.callee", folder, {}))
    http = await stack.enter_async_context(client(url))
    await behave(http, WELL)
    return http


async def _trouble(noisy: httpx.AsyncClient, trouble: tuple[int, int]) -> None:
    begin, end = trouble
    await asyncio.sleep(begin)
    await behave(noisy, ILL)
    await asyncio.sleep(end - begin)
    await behave(noisy, WELL)
