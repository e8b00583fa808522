"""Reads whole logs again, once after a start: is all of it there, and is it what was written?

A broker that was stopped cleanly does not look at its old blocks when it starts, and an engine begins behind them. What
was damaged there meanwhile would be noticed by the next rebuild only, and perhaps by nobody for months.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from bus.logs.blocks import Chain
from bus.logs.log import Log, LogDamaged, LogUnreachable

RETRY_S = 1.0

log = logging.getLogger(__name__)


class _Link(Struct, frozen=True):
    """What the chain is made of. The rest is taken for JSON, and hashed."""

    epoch: str
    prev: str


_decode = msgspec.json.Decoder(_Link).decode


class Scrub:
    """Reads one log after the other. Half of the time is left to whatever else the process does."""

    def __init__(self, logs: Mapping[str, Log]) -> None:
        self._logs = logs
        loop = asyncio.get_running_loop()
        self._found: dict[str, asyncio.Future[None]] = {name: loop.create_future() for name in logs}

    def watch(self, name: str, damaged: Callable[[BaseException], None]) -> None:
        """Call `damaged` once this log has been found so, be it long ago."""

        def found(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                damaged(error)

        self._found[name].add_done_callback(found)

    async def run(self) -> None:
        """Until all are read."""
        for name, source in self._logs.items():
            try:
                await _until_read(source)
                self._found[name].set_result(None)
            except LogDamaged as error:
                log.critical("%s is damaged: %s", name, error)
                self._found[name].set_exception(error)
                self._found[name].exception()  # Whoever watches it hears of it.


async def _until_read(source: Log) -> None:
    while True:
        try:
            await whole(source)
            return
        except LogUnreachable as error:
            log.info("%s cannot be read (%s); trying again", source.name, error)
            await asyncio.sleep(RETRY_S)


async def whole(source: Log) -> None:
    """Read a log from its first block to its end. Raises `LogDamaged`, or `LogUnreachable`."""
    chain = Chain(source.epoch, whole=True)
    async for records in source.read(0, await source.head()):
        began = time.perf_counter()
        for record in records:
            chain.follow(record, _decode)
        await asyncio.sleep(time.perf_counter() - began)
