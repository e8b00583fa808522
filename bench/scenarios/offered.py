"""A load that does not wait: calls begin at their moments whatever became of those before, as customers do.

How long a call took is counted from the moment at which it was to begin, and one that failed or was given up counts as
long as a customer waits: so what nobody answered is in the percentiles, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import httpx
from msgspec import Struct

from bench.rounds import Round

PATIENCE_S = 10.0
"""Then a customer goes away."""
OUTSTANDING_MAX = 1_500
"""Of one kind of call; one that would be too many counts as failed."""


class Kind(Struct, frozen=True):
    """One kind of call and how many begin in a second. `call` makes the one with this number and says whether it
    succeeded."""

    name: str
    per_s: float
    call: Callable[[int], Awaitable[bool]]


class Seen(NamedTuple):
    """One call: when it was to begin, in seconds after the load did, how long it took, whether it succeeded."""

    kind: str
    began_s: float
    took_s: float
    succeeded: bool


def requests(http: httpx.AsyncClient, make: Callable[[int], httpx.Request]) -> Callable[[int], Awaitable[bool]]:
    """Calls over HTTP."""

    async def call(number: int) -> bool:
        try:
            return (await http.send(make(number))).is_success
        except httpx.HTTPError:
            return False

    return call


async def offer(kinds: Sequence[Kind], seconds: float) -> list[Seen]:
    """All that was seen, once the last call has ended."""
    seen: list[Seen] = []
    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for kind in kinds:
            tasks.create_task(_begin(kind, began, seconds, seen))
    return seen


async def _begin(kind: Kind, began: float, seconds: float, seen: list[Seen]) -> None:
    under_way: set[asyncio.Task[None]] = set()
    for number in range(int(seconds * kind.per_s)):
        at = number / kind.per_s
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        if len(under_way) >= OUTSTANDING_MAX:
            seen.append(Seen(kind.name, at, PATIENCE_S, succeeded=False))
            continue
        task = asyncio.create_task(_one(kind, number, began, seen))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way)


async def _one(kind: Kind, number: int, began: float, seen: list[Seen]) -> None:
    at = number / kind.per_s
    try:
        async with asyncio.timeout(max(0.0, began + at + PATIENCE_S - time.perf_counter())):
            succeeded = await kind.call(number)
    except TimeoutError:
        succeeded = False
    took_s = time.perf_counter() - began - at
    succeeded = succeeded and took_s <= PATIENCE_S
    seen.append(Seen(kind.name, at, took_s if succeeded else PATIENCE_S, succeeded))


def between(seen: Sequence[Seen], kind: str, first_s: float, last_s: float) -> Round:
    """What was answered in this time, and how long what began in it took."""
    answered = sum(
        each.kind == kind and each.succeeded and first_s <= each.began_s + each.took_s < last_s for each in seen
    )
    times_s = [each.took_s for each in seen if each.kind == kind and first_s <= each.began_s < last_s]
    return Round(last_s - first_s, times_s, answered)
