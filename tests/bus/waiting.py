"""Waiting for what must come, and not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 10.0
"""After this long what a test waits for will not come."""


async def until(condition: Callable[[], object], what: str = "what the test waits for") -> None:
    """Let everything else go on until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    turns = 0
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        turns += 1
        await asyncio.sleep(0 if turns < 100 else 0.002)  # Conditions here are of any kind.


async def until_told(condition: Callable[[], Awaitable[object]], what: str = "what the test waits for") -> None:
    """The same of a condition that has to be asked for, again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.005)  # Nobody tells when it comes true.


async def turns(count: int = 50) -> None:
    """Let everything go on that can go on without the outside world."""
    for _ in range(count):
        await asyncio.sleep(0)
