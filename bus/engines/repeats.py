"""First answers given again, from the blocks that hold them.

The latest of those blocks are kept decoded; each is fetched once, however many ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from bus import metrics
from bus.commands import Refused, Stored, Unknown
from bus.engines.filling import Item
from bus.engines.partition import Partition
from bus.logs.blocks import Block
from bus.logs.log import Log, LogDamaged, LogUnreachable

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

REUSED = Refused("id_reused", "this id was used for another command before")

_encode = msgspec.json.Encoder().encode

log = logging.getLogger(__name__)


class Repeats(Generic[State, Command, Event]):
    """Answers commands that were answered before. `halt` hears of what must not be, such as a log that does not hold
    any more what it held."""

    def __init__(
        self,
        domain: str,
        source: Log,
        partition: Partition[State, Command, Event],
        blocks_max: int,
        halt: Callable[[BaseException], None],
    ) -> None:
        self._domain = domain
        self._partition = partition
        self._halt = halt
        self._blocks = _Blocks(source, partition.decode, blocks_max)
        self._running: dict[asyncio.Task[None], Item] = {}

    @property
    def running(self) -> Collection[asyncio.Task[None]]:
        return self._running.keys()

    def give(self, item: Item, sequence: int) -> None:
        """Give a command the answer that it was given first, out of the block at `sequence`."""
        task = asyncio.get_running_loop().create_task(self._give(item, sequence))
        self._running[task] = item
        task.add_done_callback(self._given)

    async def _give(self, item: Item, sequence: int) -> None:
        """Raises `LogDamaged` where the log does not hold the first answer any more."""
        try:
            block = await self._blocks.get(sequence)
        except (LogUnreachable, msgspec.DecodeError) as error:
            log.warning("block %d cannot be read: %s", sequence, str(error) or type(error).__name__)
            with suppress(LogUnreachable):
                await self._partition.still_holds()
            item.answer(Unknown("log_unreachable"))  # It was stored; what it did cannot be told now.
            return
        first = next((commit for commit in block.commits if commit.id == item.envelope.id), None)
        if first is None:
            raise LogDamaged(f"block {sequence} of {self._partition} does not hold what {item.envelope.id} did")
        if first.digest != item.digest:
            item.answer(REUSED)
            metrics.commands_answered.labels(self._domain, "refused").inc()
            return
        item.answer(Stored(sequence, first.version, Raw(_encode(first.events)), repeated=True))
        metrics.commands_answered.labels(self._domain, "repeated").inc()

    def _given(self, task: asyncio.Task[None]) -> None:
        item = self._running.pop(task)
        if task.cancelled():  # Perhaps before it began.
            item.answer(Unknown("stopping"))
        elif (error := task.exception()) is not None:
            item.answer(Unknown("halted"))
            self._halt(error)


class _Blocks(Generic[Event]):
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
