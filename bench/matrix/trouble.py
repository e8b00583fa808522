"""All five styles at once, a steady load each, while the callee is killed, brought back, made slow, and restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from statistics import median

from msgspec import Struct

from bench.matrix.effects import Effects
from bench.matrix.site import Site, engine_answers
from bench.matrix.styles import Reserve
from domains.inventory.stock import inventory

CALLS_PER_S = 8.0
"""In each style, whatever became of those before."""
SETTLE_S = 120.0
DOWN, SLOW, RESTARTED = "down", "slow", "restarted"


class Plan(Struct, frozen=True):
    """For how many seconds all is well before, between and after; the callee is killed and away; it is slow."""

    calm_s: float
    down_s: float
    slow_s: float


FULL = Plan(8.0, 10.0, 12.0)
QUICK = Plan(3.0, 3.0, 4.0)


class Asked(Struct, frozen=True):
    """One call: when it began and how long its caller waited, in seconds; whether the answer was as hoped for; and when
    it took effect, if it did, and how often."""

    style: str
    began_s: float
    took_s: float
    answered: bool
    effect_s: float | None
    effects: int


class Window(Struct, frozen=True):
    """When a trouble began and when it was over: the callee was started again, or quick again. Of one that is restarted
    at once: when it answered again."""

    trouble: str
    began_s: float
    ended_s: float


class Figures(Struct, frozen=True):
    """What became of the calls of a style that began while there was trouble. `told_no_s`: after how long half of those
    were told that did not succeed. `recovered_s`: from the trouble's end to the next effect of a call in this style."""

    calls: int
    answered: int
    effective: int
    answered_max_s: float
    told_no_s: float
    effect_max_s: float
    recovered_s: float


class Ran(Struct, frozen=True):
    asked: list[Asked]
    windows: list[Window]
    lost: Mapping[str, int]
    """By style: answered as hoped for, and never done."""
    doubled: Mapping[str, int]
    denied: Mapping[str, int]
    """Answered otherwise or not at all, and done nevertheless: what a caller has to ask again for."""


class _Call(Struct, frozen=True):
    order_id: str
    began_s: float
    took_s: float
    answered: bool


async def disturbed(site: Site, styles: Mapping[str, Reserve], effects: Effects, plan: Plan) -> Ran:
    calls: dict[str, list[_Call]] = {style: [] for style in styles}
    over, began = asyncio.Event(), time.perf_counter()
    loads = [asyncio.create_task(_load(style, make, began, over, calls[style])) for style, make in styles.items()]
    try:
        windows = await _disturb(site, began, plan)
        over.set()
        await asyncio.gather(*loads)
    finally:
        for load in loads:
            load.cancel()
    accepted = {each.order_id for of_style in calls.values() for each in of_style if each.answered}
    missing = await effects.all_of(accepted, SETTLE_S)
    asked = {style: [_asked(style, each, effects, began) for each in of_style] for style, of_style in calls.items()}
    return Ran(
        [each for of_style in asked.values() for each in of_style],
        windows,
        lost={style: sum(each.order_id in missing for each in of_style) for style, of_style in calls.items()},
        doubled={style: sum(each.effects > 1 for each in of_style) for style, of_style in asked.items()},
        denied={
            style: sum(each.effects > 0 and not each.answered for each in of_style) for style, of_style in asked.items()
        },
    )


async def _load(style: str, reserve: Reserve, began: float, over: asyncio.Event, calls: list[_Call]) -> None:
    """Calls at their moments until it is over. Each ends by itself: its caller waits so long and no longer."""

    async def one(order_id: str) -> None:
        at = time.perf_counter()
        answered = await reserve(order_id)
        calls.append(_Call(order_id, at - began, time.perf_counter() - at, answered))

    number = 0
    async with asyncio.TaskGroup() as tasks:
        while not over.is_set():
            tasks.create_task(one(f"{style}-trouble-{number}"))
            number += 1
            await asyncio.sleep(max(0.0, began + number / CALLS_PER_S - time.perf_counter()))


async def _disturb(site: Site, began: float, plan: Plan) -> list[Window]:
    def now() -> float:
        return time.perf_counter() - began

    callee = site.callee
    await asyncio.sleep(plan.calm_s)
    first = now()
    await asyncio.to_thread(callee.kill)
    await asyncio.sleep(plan.down_s)
    callee.start()
    down = Window(DOWN, first, now())
    await engine_answers(site.sender, inventory.name)
    await asyncio.sleep(plan.calm_s)
    first = now()
    callee.slow()
    await asyncio.sleep(plan.slow_s)
    callee.quick()
    slow = Window(SLOW, first, now())
    await asyncio.sleep(plan.calm_s)
    first = now()
    await asyncio.to_thread(callee.stop)
    callee.start()
    await engine_answers(site.sender, inventory.name)
    restarted = Window(RESTARTED, first, now())
    await asyncio.sleep(plan.calm_s)
    return [down, slow, restarted]


def figures_of(ran: Ran, style: str, window: Window) -> Figures:
    of_style = [each for each in ran.asked if each.style == style]
    during = [each for each in of_style if window.began_s <= each.began_s < window.ended_s]
    told_no_s = [each.took_s for each in during if not each.answered]
    waits_s = [each.effect_s - each.began_s for each in during if each.effect_s is not None]
    after = [each.effect_s for each in of_style if each.effect_s is not None and each.effect_s >= window.ended_s]
    return Figures(
        calls=len(during),
        answered=sum(each.answered for each in during),
        effective=sum(each.effects > 0 for each in during),
        answered_max_s=round(max((each.took_s for each in during if each.answered), default=0.0), 2),
        told_no_s=round(median(told_no_s), 3) if told_no_s else 0.0,
        effect_max_s=round(max(waits_s, default=0.0), 2),
        recovered_s=round(min(after, default=window.ended_s) - window.ended_s, 2),
    )


def _asked(style: str, call: _Call, effects: Effects, began: float) -> Asked:
    at = effects.at.get(call.order_id, [])
    return Asked(style, call.began_s, call.took_s, call.answered, at[0] - began if at else None, len(at))
