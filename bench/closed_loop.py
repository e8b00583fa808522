"""A closed loop: a fixed number of operations in flight, each that ends begins the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def closed_loop(
    begin: Callable[[int], asyncio.Future[Result]], n: int, in_flight: int
) -> tuple[float, list[float]]:
    """Do `begin(0)` to `begin(n - 1)`. How long that took and how long each did, in seconds; raises what one raised."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    times: list[float] = []
    numbers = iter(range(n))

    def next_one() -> None:
        number = next(numbers, None)
        if number is None or over.done():
            return
        began = time.perf_counter()
        operation = begin(number)

        def ended(operation: asyncio.Future[Result]) -> None:
            times.append(time.perf_counter() - began)
            if over.done():
                return
            if (error := operation.exception()) is not None:
                over.set_exception(error)
            elif len(times) == n:
                over.set_result(None)
            else:
                next_one()

        operation.add_done_callback(ended)

    began = time.perf_counter()
    for _ in range(min(in_flight, n)):
        next_one()
    await over
    return time.perf_counter() - began, times
