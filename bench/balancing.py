"""One of three instances is 20 times slower: what do callers see of it, by how instances are chosen?

Three HTTP services, two that answer after 20 ms and one that takes 400 ms, each a process of its own. Calls begin at
fixed moments, 60 a second, whatever became of those before; the same with:

- `round_robin`: each instance in its turn;
- `balanced`: `bus/calls/balancing.py`, the better of two by latency and by what is under way;
- `discovered`: the same, its instances announced over a broker and followed by `bus/calls/discovery.py`.

All know nothing of the instances before. Reported beside it: `slow_share`, which share of calls the slow one got, and
`left_out_after_s`, how long after an instance's last word the balancer has forgotten it.

Budget: round_robin's p99 >= 5x balanced's and discovered's.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from uuid import uuid4

from bench.report import Report, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Pace, Told
from bench.scenarios.callee import Behaviour, behave
from bench.scenarios.offered import Kind, between, offer
from bench.scenarios.served import served
from bus.calls.balancing import Balancer
from bus.calls.call import Call, CallFailed, Reply, Step, http_call
from bus.calls.discovery import LOOK_EVERY_S, Discovery
from bus.calls.over_http import HttpTransport, client
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.presence import Announcing, Present, this_process
from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.connection import close, connect

TAKES_S = {"one": 0.02, "two": 0.02, "slow": 0.4}
CALLS_PER_S = 60.0
LOAD_S, QUICK_LOAD_S = 20.0, 8.0
POLICY = CallPolicy(concurrency=1_000)
ROUND_ROBIN, BALANCED, DISCOVERED = "round_robin", "balanced", "discovered"
HEARD_TIMEOUT_S = 10.0


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    seconds = QUICK_LOAD_S if quick else LOAD_S
    results, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        machine = environment("none", Path(name))
        async with AsyncExitStack() as stack:
            instances = _Instances({each: await _instance(stack, Path(name), each) for each in TAKES_S})
            announced = await _announced(stack, Path(name), instances.steps)
            ways: dict[str, Step] = {
                ROUND_ROBIN: _round_robin(instances.steps),
                BALANCED: Balancer("instances", instances.steps),
                DISCOVERED: announced.balancer,
            }
            for way, end in ways.items():
                instances.got = dict.fromkeys(TAKES_S, 0)
                path = CallPath(way, POLICY, end)

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
            figures["left_out_after_s"] = round(await announced.left_out_after_s(), 2)
    by_name = {each.name: each for each in results}
    slow_ms = by_name[ROUND_ROBIN].p99_ms
    ratios = {f"round_robin/{way}_p99": round(slow_ms / by_name[way].p99_ms, 2) for way in (BALANCED, DISCOVERED)}
    budgets = [budget(name, 5.0, ratios) for name in ratios]
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


class _Announced:
    """The same instances, each announced as if by a process of its own."""

    def __init__(self, present: Present, balancer: Balancer, announcing: Mapping[str, asyncio.Task[None]]) -> None:
        self.balancer = balancer
        self._present = present
        self._announcing = announcing

    async def left_out_after_s(self) -> float:
        """One falls silent: how long after that it is not chosen from any more."""
        self._announcing["slow"].cancel()
        began = asyncio.get_running_loop().time()
        await _until_known(self._present, len(TAKES_S) - 1)
        await asyncio.sleep(LOOK_EVERY_S)  # At most, until that is looked at.
        return asyncio.get_running_loop().time() - began


async def _announced(stack: AsyncExitStack, folder: Path, steps: Mapping[str, Step]) -> _Announced:
    settings = BrokerSettings(folder / "broker", free_port(), uuid4().hex)
    client = await connect(stack.enter_context(EmbeddedBroker(settings)).url, "bench")
    stack.push_async_callback(close, client)
    present = Present(client)
    await present.start()
    announcing: dict[str, asyncio.Task[None]] = {}
    for name in steps:
        one = Announcing(client, this_process((name,), "1.0.0"))
        one.offer("instances", name)
        announcing[name] = asyncio.create_task(one.run())
        stack.callback(announcing[name].cancel)
    discovery = Discovery(present)
    balancer = discovery.balancer("instances", lambda name: steps[name])
    watching = asyncio.create_task(discovery.watch())
    stack.callback(watching.cancel)
    await _until_known(present, len(steps))
    await asyncio.sleep(2 * LOOK_EVERY_S)  # Two looks: the balancer knows them.
    return _Announced(present, balancer, announcing)


async def _until_known(present: Present, number: int) -> None:
    async with asyncio.timeout(HEARD_TIMEOUT_S):
        while len(present.offers("instances")) != number:  # noqa: ASYNC110  # Silence sets no event.
            await asyncio.sleep(0.01)


def _round_robin(instances: Mapping[str, Step]) -> Step:
    turns = cycle(instances.values())

    async def next_one(call: Call, deadline: float) -> Reply:
        return await next(turns)(call, deadline)

    return next_one
