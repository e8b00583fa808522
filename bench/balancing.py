"""One of three instances is 20 times slower: what do callers see of it, by how instances are chosen?

Three HTTP services, two that answer after 20 ms and one that takes 400 ms, each a process of its own. Calls begin at
fixed moments, 60 a second, whatever became of those before; the same with:

- `round_robin`: each instance in its turn;
- `balanced`: `bus/calls/balancing.py`, the better of two by latency and by what is under way.

Both know nothing of the instances before. Reported beside it, `slow_share`: which share of calls the slow one got.

Budget: round_robin's p99 >= 5x balanced's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

from bench.report import Report, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Pace, Told
from bench.scenarios.callee import Behaviour, behave
from bench.scenarios.offered import Kind, between, offer
from bench.scenarios.served import served
from bus.calls.balancing import Balancer
from bus.calls.call import Call, CallFailed, Reply, Step, http_call
from bus.calls.over_http import HttpTransport, client
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy

TAKES_S = {"one": 0.02, "two": 0.02, "slow": 0.4}
CALLS_PER_S = 60.0
LOAD_S, QUICK_LOAD_S = 20.0, 8.0
POLICY = CallPolicy(concurrency=1_000)
ROUND_ROBIN, BALANCED = "round_robin", "balanced"


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    seconds = QUICK_LOAD_S if quick else LOAD_S
    ways = {ROUND_ROBIN: _round_robin, BALANCED: _balanced}
    results, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        machine = environment("none", Path(name))
        async with AsyncExitStack() as stack:
            instances = _Instances({each: await _instance(stack, Path(name), each) for each in TAKES_S})
            for way, choose in ways.items():
                instances.got = dict.fromkeys(TAKES_S, 0)
                path = CallPath(way, POLICY, choose(instances.steps))

                async def call(number: int, path: CallPath = path) -> bool:
                    try:
                        return (await path.call(http_call("GET", "/"))).status == 200
                    except CallFailed:
                        return False

                seen = await offer([Kind(way, CALLS_PER_S, call)], seconds)
                if failed := sum(not each.succeeded for each in seen):
                    raise BenchmarkFailed(f"{failed} of {len(seen)} calls failed: this machine is too busy")
                results.append(result(way, [between(seen, way, 0.0, seconds)]))
                figures[f"{way}_slow_share"] = round(instances.got["slow"] / len(seen), 4)
                told(line(results[-1]))
    by_name = {each.name: each for each in results}
    ratios = {"round_robin/balanced_p99": round(by_name[ROUND_ROBIN].p99_ms / by_name[BALANCED].p99_ms, 2)}
    budgets = [budget("round_robin/balanced_p99", 5.0, ratios)]
    return Report("balancing", machine, results, ratios, budgets, figures, quick=quick)


class _Instances:
    """The transports, counted."""

    def __init__(self, transports: Mapping[str, Step]) -> None:
        self.got: dict[str, int] = {}
        self.steps = {name: self._counted(name, step) for name, step in transports.items()}

    def _counted(self, name: str, step: Step) -> Step:
        async def counted(call: Call, deadline: float) -> Reply:
            self.got[name] += 1
            return await step(call, deadline)

        return counted


async def _instance(stack: AsyncExitStack, folder: Path, name: str) -> Step:
    url = await stack.enter_async_context(served("bench.scenarios.callee", folder, {}))
    http = await stack.enter_async_context(client(url))
    await behave(http, Behaviour(TAKES_S[name]))
    return HttpTransport(name, http)


def _balanced(instances: Mapping[str, Step]) -> Step:
    return Balancer("instances", instances)


def _round_robin(instances: Mapping[str, Step]) -> Step:
    turns = cycle(instances.values())

    async def next_one(call: Call, deadline: float) -> Reply:
        return await next(turns)(call, deadline)

    return next_one
