"""Each style while all is well: one call at a time, then many at once; and calls that do next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from itertools import count

from msgspec import Struct

from bench.closed_loop import closed_loop, for_seconds
from bench.matrix.effects import Effects
from bench.matrix.styles import Reserve
from bench.report import Result, result
from bench.rounds import WARM_UP_S, BenchmarkFailed, Pace, Round, Told

IN_FLIGHT = 32
FAILED_SHARE_MAX = 0.02
"""More than that, and the machine is too busy for figures. What failed is in none of them."""
SETTLE_S = 120.0

_numbers = count()


class Healthy(Struct, frozen=True):
    """`effects`: from handing a call over to its effect. `drained_per_s`: effects a second, to the last of them, when
    many calls were made at once."""

    alone: Result
    effects: Result
    many: Result
    drained_per_s: float


async def healthy(styles: Mapping[str, Reserve], effects: Effects, pace: Pace, told: Told) -> dict[str, Healthy]:
    """In turns, so that a noisy neighbour meets all of them."""
    alone: dict[str, list[Round]] = {style: [] for style in styles}
    many: dict[str, list[Round]] = {style: [] for style in styles}
    until_effect: dict[str, list[Round]] = {style: [] for style in styles}
    drained: dict[str, list[float]] = {style: [] for style in styles}
    for style, reserve in styles.items():
        await _warm_up(style, reserve, pace)
    for _ in range(pace.rounds):
        for style, reserve in styles.items():
            called, took, _ = await _round(style, reserve, effects, 1, pace.round_s)
            alone[style].append(called)
            until_effect[style].append(took)
            called, _, per_s = await _round(style, reserve, effects, IN_FLIGHT, pace.round_s)
            many[style].append(called)
            drained[style].append(per_s)
            told(f"{style}: {len(called.times_s) / called.spent_s:,.0f}/s with {IN_FLIGHT} in flight")
    return {
        style: Healthy(
            result(f"{style}_alone", alone[style]),
            result(f"{style}_effect", until_effect[style]),
            result(f"{style}_{IN_FLIGHT}", many[style]),
            round(sorted(drained[style])[len(drained[style]) // 2], 1),
        )
        for style in styles
    }


async def nothing(ways: Mapping[str, Reserve], pace: Pace) -> list[Result]:
    """Of calls that do next to nothing, in turns."""
    found: dict[str, list[Round]] = {way: [] for way in ways}
    for _ in range(pace.rounds):
        for way, call in ways.items():

            async def one(number: int, call: Reserve = call) -> bool:
                return await call("")

            found[way].append(await _loop(one, 1, pace.round_s))
    return [result(f"{way}_nothing", rounds) for way, rounds in found.items()]


async def _warm_up(style: str, reserve: Reserve, pace: Pace) -> None:
    """Opens as many connections as there will be calls in flight; on a busy machine some of them come too late."""
    prefix = f"{style}-warm-up"

    async def one(number: int) -> bool:
        return await reserve(f"{prefix}-{number}")

    await _loop(one, IN_FLIGHT, min(WARM_UP_S, pace.round_s))


async def _round(
    style: str, reserve: Reserve, effects: Effects, in_flight: int, seconds: float
) -> tuple[Round, Round, float]:
    """What callers saw, how long effects took, and how many there were in a second."""
    prefix, began_at, took_s = f"{style}-{next(_numbers)}", dict[str, float](), dict[str, float]()

    async def one(number: int) -> None:
        order_id = f"{prefix}-{number}"
        began_at[order_id] = at = time.perf_counter()
        if await reserve(order_id):
            took_s[order_id] = time.perf_counter() - at

    began = time.perf_counter()
    called = await _loop(one, in_flight, seconds)
    if (failed := called.n - len(took_s)) > FAILED_SHARE_MAX * called.n:
        raise BenchmarkFailed(f"{failed} of {called.n} calls in the style {style} failed while all was well")
    if missing := await effects.all_of(took_s, SETTLE_S):
        raise BenchmarkFailed(f"{len(missing)} of {called.n} calls in the style {style} had no effect")
    seen = {order_id: effects.at[order_id] for order_id in took_s}
    if any(len(each) > 1 for each in seen.values()):
        raise BenchmarkFailed(f"a call in the style {style} took effect twice")
    times_s = [at[0] - began_at[order_id] for order_id, at in seen.items()]
    spent_s = max(at[0] for at in seen.values()) - began
    answered = Round(called.spent_s, list(took_s.values()), len(took_s))
    return answered, Round(spent_s, times_s, len(times_s)), len(times_s) / spent_s


async def _loop(one: Callable[[int], Coroutine[None, None, object]], in_flight: int, seconds: float) -> Round:
    return await closed_loop(lambda number: asyncio.ensure_future(one(number)), in_flight, for_seconds(seconds))
