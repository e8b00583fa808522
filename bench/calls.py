"""What does the call path cost, with every policy on, over the bare transport?

A transport that answers at once, asked one call after the other: directly (`bare`), and along the whole path
(`path`): deadline, bulkhead, breaker over a window of time, retries with a budget, a timeout for the try, faults by
chance (of a share that never comes), metrics. Reported beside it, `timeout`: the transport within `asyncio.timeout`
alone, the largest part. No sockets and no broker: what is measured is only what is added. Rates are by the processor
time of this process, for nothing here waits; percentiles are by the clock.

Where the metrics of several processes are put together, as `tally up` does it, they cost more; a run with
`PROMETHEUS_MULTIPROC_DIR` set to an empty folder measures that.

Budget: path - bare <= 15 us a call.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.closed_loop import for_seconds
from bench.report import Report, budget, environment, line, rates, result
from bench.rounds import Pace, Round, Told, Way, take_turns
from bus.calls.call import Call, Reply
from bus.calls.path import CallPath
from bus.calls.policy import BreakerPolicy, CallPolicy, FaultPolicy

ADDED_MAX_US = 15.0
NEVER = 1e-12
CALL = Call("/thing", method="GET", repeatable=True)
ANSWER = Reply(200, b"")
POLICY = CallPolicy(
    breaker=BreakerPolicy(window_s=10.0),
    faults=FaultPolicy(delay_share=NEVER, delay_s=1.0, abort_share=NEVER),
)


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    path = CallPath("bench", POLICY, _answer)
    ways = {"bare": _way(_bare), "timeout": _way(_with_a_timeout), "path": _way(lambda: path.call(CALL))}
    results = [result(name, rounds) for name, rounds in (await take_turns(ways, pace)).items()]
    for each in results:
        told(line(each))
    us = {name: 1e6 / rate for name, rate in rates(results).items()}
    added = {f"{name}_adds_us": round(us[name] - us["bare"], 2) for name in ("timeout", "path")}
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as folder:
        machine = environment("none", Path(folder))
    budgets = [budget("path_adds_us", ADDED_MAX_US, added, at_most=True)]
    return Report("calls", machine, results, added, budgets, quick=quick)


async def _answer(call: Call, deadline: float) -> Reply:
    return ANSWER


async def _bare() -> Reply:
    return await _answer(CALL, 0.0)


async def _with_a_timeout() -> Reply:
    async with asyncio.timeout(1.0):
        return await _answer(CALL, 0.0)


def _way(call: Callable[[], Awaitable[Reply]]) -> Way:
    async def way(seconds: float) -> Round:
        times_s = array("d")
        going = for_seconds(seconds)
        began = time.process_time()
        while going(len(times_s)):
            started = time.perf_counter()
            assert await call() is ANSWER
            times_s.append(time.perf_counter() - started)
        return Round(time.process_time() - began, times_s, len(times_s))

    return way
