"""Alarms: the timers that follow from a log. Each is held here for a while before it is set, for most are soon wanted
no more: what is done within `hold_s` costs the broker nothing.

Nothing rests on what is held. The position that is kept stays before it, so after a crash it is read again; and a timer
that is set twice, or rings for what is done, changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from bus.logs.blocks import Block, BlockDecoder, Chain
from bus.logs.log import Log
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.reactor import Occurrence
from bus.reactors.timers import Timer, Timers, TimersUnreachable
from domains.kernel import Asleep, Timing, Wake

Event = TypeVar("Event")

HOLD_S = 5.0
"""Less than the shortest deadline; so much of the log is read again after a crash, at least."""
HELD_MAX = 10_000
"""Where more are held the oldest are set early."""
AT_ONCE_MAX = 64
"""Operations under way at the broker."""
TICK_S = 0.5

log = logging.getLogger(__name__)


class Held:
    """A timer that is to be set. `alone`: none can have been set before for its key."""

    __slots__ = ("alone", "due", "key", "sequence", "setting", "since", "timer")

    def __init__(self, key: str, sequence: int, due: datetime, timer: Timer, since: float, alone: bool) -> None:
        self.key = key
        self.sequence = sequence
        self.due = due
        self.timer = timer
        self.since = since
        self.alone = alone
        self.setting = False


class Alarms(Generic[Event]):
    """`timing` says of an event what its aggregate wants: to be told something after a time, instead of what it wanted
    before, or nothing any more."""

    def __init__(
        self,
        name: str,
        log: Log,
        decoder: BlockDecoder[Event],
        timing: Timing,
        timers: Timers,
        checkpoints: Checkpoints,
        hold_s: float = HOLD_S,
        held_max: int = HELD_MAX,
    ) -> None:
        self._name = name
        self._log = log
        self._decode = decoder.decode
        self._timing = timing
        self._timers = timers
        self._checkpoints = checkpoints
        self._hold_s = hold_s
        self._held_max = held_max
        self._held: dict[str, Held] = {}
        """By key, the oldest first."""
        self._unwanted: dict[str, int] = {}
        """What was set and is to be cancelled, and the block that says so."""
        self._letting_go = asyncio.Lock()
        self.seen = self._saved = 0
        """How far it has read."""

    @property
    def position(self) -> int:
        """Everything up to here is set or cancelled."""
        waiting = [held.sequence for held in self._held.values()] + list(self._unwanted.values())
        return min(waiting) - 1 if waiting else self.seen

    async def run(self) -> None:
        """Until cancelled. Raises `LogDamaged` when the log is not what it was."""
        self.seen = self._saved = await self._checkpoints.load(self._name, self._log.epoch)
        chain = Chain(self._log.epoch, whole=self.seen == 0)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep())
                async for batch in self._log.read(self.seen):
                    for record in batch:
                        self._hear(record.sequence, chain.follow(record, self._decode))
                        self.seen = record.sequence
                    while len(self._held) + len(self._unwanted) > self._held_max:
                        if not await self._let_go(held_s=0):
                            await asyncio.sleep(TICK_S)
        except BaseExceptionGroup as troubles:  # The first is what ended it.
            raise troubles.exceptions[0] from None

    async def save(self) -> None:
        """Write the checkpoint down, if it moved."""
        if (position := self.position) > self._saved:
            await self._checkpoints.save(self._name, self._log.epoch, position)
            self._saved = position

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(min(TICK_S, self._hold_s))
            while await self._let_go(self._hold_s):
                pass
            await self.save()

    def _hear(self, sequence: int, block: Block[Event]) -> None:
        offset = -1
        for commit in block.commits:
            key = commit.aggregate
            for event in commit.events:
                offset += 1
                match self._timing(event):
                    case Wake(after_s, command):
                        at = commit.occurred_at or block.at
                        what = Occurrence(event, self._log.name, sequence, offset, commit, at)  # type: ignore[arg-type]  # Only read.
                        encoded = Raw(msgspec.json.encode(command))
                        timer = Timer(f"{what.id}-timer", encoded, what.position, commit.correlation, commit.trace)
                        before = self._held.pop(key, None)
                        alone = commit.version == 1 if before is None else before.alone and not before.setting
                        due, now = at + timedelta(seconds=after_s), asyncio.get_running_loop().time()
                        self._held[key] = Held(key, sequence, due, timer, now, alone)
                        self._unwanted.pop(key, None)
                    case Asleep():
                        before = self._held.pop(key, None)
                        if before is None or before.setting or not before.alone:
                            self._unwanted[key] = sequence

    async def _let_go(self, held_s: float) -> bool:
        """Set some of what was held for so long, cancel what is unwanted. Whether there was any, and all was done."""
        async with self._letting_go:
            until = asyncio.get_running_loop().time() - held_s
            ripe: list[Held] = []
            for held in self._held.values():
                if held.since > until or len(ripe) == AT_ONCE_MAX:
                    break
                ripe.append(held)
            unwanted = list(self._unwanted.items())[: AT_ONCE_MAX - len(ripe)]
            done = await asyncio.gather(*map(self._set, ripe), *(self._cancel(*each) for each in unwanted))
            return _all_of(done)

    async def _set(self, held: Held) -> bool:
        held.setting = True
        try:
            await self._timers.set(held.key, held.due, held.timer)
        except TimersUnreachable as error:
            log.warning("%s: %s", self._name, error)
            return False
        if self._held.get(held.key) is held:
            del self._held[held.key]
        return True

    async def _cancel(self, key: str, sequence: int) -> bool:
        try:
            await self._timers.cancel(key)
        except TimersUnreachable as error:
            log.warning("%s: %s", self._name, error)
            return False
        if self._unwanted.get(key) == sequence:
            del self._unwanted[key]
        return True


def _all_of(done: Sequence[bool]) -> bool:
    return bool(done) and all(done)
