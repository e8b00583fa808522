"""A service has trouble for three seconds: does it come back, when all its callers try again?

One service that handles 50 requests a second, one after the other, also those whose callers are gone. Callers begin
25 calls a second, along the call path, with 1 s a try and up to three retries. For three seconds a request takes ten
times as long. The same twice:

- `no budget`: every call may retry;
- `budget`: retries are at most a fifth of all calls (the default).

The breaker is out of the way in both, so that it is the budget that is seen. Retries that are not bounded by a share
make four tries of each call, which is twice what the service can do, so its queue never drains and every try is
late. `recovered_after_s`: how long after the trouble at least 90 % of calls were answered again, -1: never.

Budgets, of calls answered in the last five seconds against those before the trouble: budget >= 0.9, no budget <= 0.5.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from msgspec.structs import replace

from bench.report import Report, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Told
from bench.scenarios.callee import Behaviour, behave
from bench.scenarios.offered import Kind, Seen, between, offer
from bench.scenarios.served import served
from bench.scenarios.timelines import draw_timelines, timeline
from bus.calls.call import Call, CallFailed, Reply, http_call
from bus.calls.over_http import HttpTransport, client
from bus.calls.path import CallPath
from bus.calls.policy import BreakerPolicy, CallPolicy

NO_BUDGET, BUDGET = "no budget", "budget"
CALLS, TRIES = "calls", "tries"
CALLS_PER_S = 25.0
WELL, ILL = Behaviour(takes_s=0.02, at_once=1), Behaviour(takes_s=0.2, at_once=1)
WARM_UP_S, HEALTHY_S, TROUBLE_S = 2, 5, 3
AFTER_S, QUICK_AFTER_S = 30, 15
LAST_S = 5
HEALTHY_SHARE_MIN = 0.95
RECOVERED_SHARE = 0.9
ILL_FROM, ILL_UNTIL = WARM_UP_S + HEALTHY_S, WARM_UP_S + HEALTHY_S + TROUBLE_S
NEVER = BreakerPolicy(calls_min=100_000, window_calls=100_000)
POLICY = CallPolicy(timeout_s=5.0, try_timeout_s=1.0, retries=3, concurrency=10_000, breaker=NEVER)
POLICIES = {NO_BUDGET: replace(POLICY, retry_burst=100_000), BUDGET: POLICY}


async def run(*, quick: bool, told: Told) -> tuple[Report, dict[str, str]]:
    """The report, and drawings by name."""
    seconds = ILL_UNTIL + (QUICK_AFTER_S if quick else AFTER_S)
    seen: dict[str, list[Seen]] = {}
    with tempfile.TemporaryDirectory(prefix="tallystream-scenario-") as name:
        machine = environment("none", Path(name))
        for way, policy in POLICIES.items():
            told(f"{way}: {seconds} s of load")
            async with served("bench.scenarios.callee", Path(name), {}) as url:
                seen[way] = await _under_load(url, policy, seconds)
    phases = {"healthy": (WARM_UP_S, ILL_FROM), "last": (seconds - LAST_S, seconds)}
    results = [
        result(_named(way, kind, phase), [between(one, kind, *when)])
        for way, one in seen.items()
        for kind in (CALLS, TRIES)
        for phase, when in phases.items()
    ]
    for each in results:
        told(line(each))
    figures = {f"recovered_after_s_{_word(way)}": recovered_after_s(one, seconds) for way, one in seen.items()}
    report = judged(Report("retry-storm", machine, results, figures=figures, quick=quick))
    lines = [timeline(way, kind, one, seconds) for way, one in seen.items() for kind in (CALLS, TRIES)]
    kinds = {CALLS: "calls", TRIES: "tries that reach the service"}
    drawing = draw_timelines("A service takes ten times as long (shaded)", kinds, lines, (ILL_FROM, ILL_UNTIL), machine)
    return report, {"timeline": drawing}


def judged(measured: Report) -> Report:
    """With ratios, budgets and a verdict, all from the results. Raises `BenchmarkFailed` where they mean nothing."""
    rate = {each.name: each.rate_per_s for each in measured.results}
    ratios: dict[str, float] = {}
    said: list[str] = []
    for way, words in ((NO_BUDGET, "Without a budget"), (BUDGET, "With it")):
        healthy, last = (rate[_named(way, CALLS, phase)] for phase in ("healthy", "last"))
        if healthy < HEALTHY_SHARE_MIN * CALLS_PER_S:
            said_rate = f"{healthy:,.0f} of {CALLS_PER_S:,.0f} calls a second"
            raise BenchmarkFailed(f"{said_rate} were answered before the trouble: this machine is too busy")
        ratios[f"{_word(way)}_recovered"] = round(last / healthy, 3)
        recovered_s = measured.figures[f"recovered_after_s_{_word(way)}"]
        fate = f"is over {recovered_s:,.0f} s after it ended" if recovered_s >= 0 else "does not end"
        tries = rate[_named(way, TRIES, "last")]
        said.append(
            f"{words}, {TROUBLE_S} s of trouble {fate}: at last {last / healthy:.0%} of calls are answered, and the "
            f"service gets {tries:,.0f} tries a second for {CALLS_PER_S:,.0f} calls."
        )
    budgets = [
        budget("budget_recovered", RECOVERED_SHARE, ratios),
        budget("no_budget_recovered", 0.5, ratios, at_most=True),
    ]
    return replace(measured, ratios=ratios, budgets=budgets, verdict=said)


def recovered_after_s(seen: Sequence[Seen], seconds: int) -> float:
    """After the trouble, until from then on nearly all calls were answered; -1 where that never came."""
    well = RECOVERED_SHARE * CALLS_PER_S
    bad = [second for second in range(ILL_UNTIL, seconds) if between(seen, CALLS, second, second + 1).n < well]
    since = (bad[-1] + 1 if bad else ILL_UNTIL) - ILL_UNTIL
    return float(since) if ILL_UNTIL + since < seconds else -1.0


async def _under_load(url: str, policy: CallPolicy, seconds: int) -> list[Seen]:
    tries: list[Seen] = []
    async with client(url) as http:
        await behave(http, WELL)
        transport = HttpTransport("callee", http)
        began = time.perf_counter()

        async def counted(call: Call, deadline: float) -> Reply:
            tries.append(Seen(TRIES, time.perf_counter() - began, 0.0, succeeded=True))
            return await transport(call, deadline)

        path = CallPath("callee", policy, counted)

        async def call(number: int) -> bool:
            try:
                await path.call(http_call("GET", "/"))
            except CallFailed:
                return False
            return True

        async with asyncio.TaskGroup() as tasks:
            offering = tasks.create_task(offer([Kind(CALLS, CALLS_PER_S, call)], seconds))
            tasks.create_task(_trouble(http))
        return offering.result() + tries


async def _trouble(http: httpx.AsyncClient) -> None:
    await asyncio.sleep(ILL_FROM)
    await behave(http, ILL)
    await asyncio.sleep(TROUBLE_S)
    await behave(http, WELL)


def _word(way: str) -> str:
    return way.replace(" ", "_")


def _named(way: str, kind: str, phase: str) -> str:
    return f"{_word(way)}_{kind}_{phase}"
