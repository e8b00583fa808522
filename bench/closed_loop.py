"""A closed loop: a fixed number of operations in flight, each that ends begins the next."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from bench.rounds import Round

Result = TypeVar("Result")


async def closed_loop(
    begin: Callable[[int], asyncio.Future[Result]], in_flight: int, more: Callable[[int], bool]
) -> Round:
    """Do `begin(0)`, `begin(1)` and so on while there is `more(number)`. Raises what one of them raised."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    times_s = array("d")
    numbers = count()
    running = 0

    def next_one() -> None:
        nonlocal running
        number = next(numbers)
        if not more(number):
            return
        running += 1
        began = time.perf_counter()
        operation = begin(number)

        def ended(operation: asyncio.Future[Result]) -> None:
            nonlocal running
            times_s.append(time.perf_counter() - began)
            running -= 1
            if over.done():
                return
            if (error := operation.exception()) is not None:
                over.set_exception(error)
                return
            next_one()
            if not running:
                over.set_result(None)

        operation.add_done_callback(ended)

    began = time.perf_counter()
    for _ in range(in_flight):
        next_one()
    if running:
        await over
    return Round(time.perf_counter() - began, times_s, len(times_s))


def up_to(n: int) -> Callable[[int], bool]:
    """For a loop of `n` operations."""
    return lambda number: number < n


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """For a loop that begins nothing more after a time that starts now."""
    ends = time.perf_counter() + seconds
    return lambda number: time.perf_counter() < ends
