"""Blocks read again to repeat first answers: the latest of them kept decoded, each fetched once however many ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from bus.logs.blocks import Block
from bus.logs.log import Log, LogUnreachable

Event = TypeVar("Event")


class StoredBlocks(Generic[Event]):
    """At most `blocks_max` of them; more are fetched again when they are asked for."""

    def __init__(self, log: Log, decode: Callable[[bytes], Block[Event]], blocks_max: int) -> None:
        self._log = log
        self._decode = decode
        self._blocks_max = blocks_max
        self._blocks: OrderedDict[int, asyncio.Task[Block[Event]]] = OrderedDict()

    async def get(self, sequence: int) -> Block[Event]:
        """Raises `LogUnreachable`, or msgspec's error for what is no block."""
        fetched = self._blocks.get(sequence)
        if fetched is None:
            fetched = self._blocks[sequence] = asyncio.get_running_loop().create_task(self._fetch(sequence))
            while len(self._blocks) > self._blocks_max:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(sequence)
        try:
            return await asyncio.shield(fetched)  # Who stops waiting does not take it from the others.
        except Exception:  # Whatever it was: it is raised, and the next who asks fetches anew.
            if self._blocks.get(sequence) is fetched:
                del self._blocks[sequence]
            raise

    async def _fetch(self, sequence: int) -> Block[Event]:
        record = await self._log.get(sequence)
        if record is None:
            raise LogUnreachable(f"block {sequence} is not there")
        return self._decode(record.data)
