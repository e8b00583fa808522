"""When a reservation takes effect: when the log shows it, to a reader beside the callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from bench.rounds import BenchmarkFailed
from bus.logs.blocks import decoder_of
from bus.logs.jetstream import JetStreamLog
from domains.inventory.messages import StockReserved
from domains.inventory.stock import inventory

LOOK_EVERY_S = 0.05


class Effects:
    """`at`: when each order's reservation was seen, by `time.perf_counter`; more than once where it was made twice."""

    def __init__(self) -> None:
        self.at: dict[str, list[float]] = {}

    async def follow(self, log: JetStreamLog) -> None:
        """Until cancelled."""
        decoder = decoder_of(inventory)
        async for records in log.read(await log.head()):
            now = time.perf_counter()
            for record in records:
                for commit in decoder.decode(record.data).commits:
                    for event in commit.events:
                        if isinstance(event, StockReserved):
                            self.at.setdefault(event.order_id, []).append(now)

    async def all_of(self, order_ids: Iterable[str], patience_s: float) -> set[str]:
        """Waits until each has one; those that have none by then."""
        missing = set(order_ids)
        deadline = time.monotonic() + patience_s
        while missing := {each for each in missing if each not in self.at}:
            if time.monotonic() > deadline:
                return missing
            await asyncio.sleep(LOOK_EVERY_S)
        return missing


@asynccontextmanager
async def watched(log: JetStreamLog) -> AsyncIterator[Effects]:
    effects = Effects()
    following = asyncio.create_task(effects.follow(log))
    await asyncio.sleep(0)
    try:
        yield effects
    finally:
        following.cancel()
        (ended,) = await asyncio.gather(following, return_exceptions=True)
        if isinstance(ended, Exception):
            raise BenchmarkFailed(f"the log could not be followed: {ended}") from ended
