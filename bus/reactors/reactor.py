"""Reactors: whatever does something about events. Reads a log from a checkpoint, reacts at least once, in order a key.

A reaction must be idempotent: its effects carry ids that derive from the position of what it reacts to. A slow or
failing key holds up nobody but itself, until `window_max` reactions are under way. What fails for good is parked, and
what comes later for its key queues behind it, in order; at the next start the parked ones are tried again, first.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from bus import metrics, tracing
from bus.announcements import REPEAT_S, Announcer, Standing
from bus.logs.blocks import Block, BlockDecoder, Chain, Commit
from bus.logs.log import Log, LogDamaged
from bus.reactors.checkpoints import Checkpoints

Event = TypeVar("Event")

log = logging.getLogger(__name__)


class Again(Exception):
    """The reaction could not be done now, for a reason that passes; it is tried again until it can, but not before
    `after_s` are over."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Occurrence(NamedTuple):
    """One event, and where and in what company it happened."""

    event: object
    log: str
    sequence: int
    offset: int
    """Of the event among all of its block."""
    commit: Commit[object]
    at: datetime

    @property
    def position(self) -> str:
        return f"{self.log}={self.sequence}"

    @property
    def id(self) -> str:
        """Names this event for ever, and with it whatever is caused by it."""
        return f"{self.log}-{self.sequence}-{self.offset}"


Reaction = Callable[[Occurrence], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReactorLimits:
    window_max: int = 512
    """Reactions under way."""
    attempts_max: int = 5
    """Tries of a reaction that fails for another reason than `Again`; after that it is parked."""
    backoff_s: float = 0.05
    backoff_max_s: float = 5.0
    after_max_s: float = 60.0
    """What `Again` may ask for."""
    checkpoint_every_s: float = 0.5
    announce_every_s: float = 0.02
    """At most; a position that moves after such a time without is told at once."""


class Reactor(Generic[Event]):
    """`reactions` names the event types that matter and what to do about each."""

    def __init__(
        self,
        name: str,
        log: Log,
        decoder: BlockDecoder[Event],
        reactions: Mapping[type, Reaction],
        checkpoints: Checkpoints,
        limits: ReactorLimits | None = None,
        told: Announcer | None = None,
    ) -> None:
        self._name = name
        self._log = log
        self._decode = decoder.decode
        self._reactions = reactions
        self._checkpoints = checkpoints
        self._limits = limits or ReactorLimits()
        self._told = told
        self._moved = asyncio.Event()
        self._window = asyncio.Semaphore(self._limits.window_max)
        self._under_way: Counter[int] = Counter()
        self._last_of_key: dict[str, asyncio.Task[None]] = {}
        self._parked_keys: set[str] = set()
        self._parked_before: set[tuple[int, int]] = set()
        self._seen = 0
        self._saved = 0
        self.working = 0
        """Reactions under way, for those who want to know whether all is quiet."""

    @property
    def position(self) -> int:
        """Everything up to here is done."""
        return min(self._under_way) - 1 if self._under_way else self._seen

    async def run(self) -> None:
        """Until cancelled. Raises `LogDamaged` when the log is not what it was."""
        self._seen = self._saved = await self._checkpoints.load(self._name, self._log.epoch)
        chain = Chain(self._log.epoch, whole=self._seen == 0)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_checkpoint())
                if self._told is not None:
                    tasks.create_task(self._announce(self._told))
                await self._retry_parked(tasks)
                async for batch in self._log.read(self._seen):
                    for record in batch:
                        block = chain.follow(record, self._decode)
                        await self._react(tasks, record.sequence, block)
                        self._seen = record.sequence
                        self._moved.set()
        except BaseExceptionGroup as troubles:  # The first is what ended it.
            raise troubles.exceptions[0] from None

    async def save(self) -> None:
        """Write the checkpoint down, if it moved."""
        position = self.position
        metrics.reactor_position.labels(self._name).set(position)
        if position > self._saved:
            await self._checkpoints.save(self._name, self._log.epoch, position)
            self._saved = position

    async def _keep_checkpoint(self) -> None:
        while True:
            await asyncio.sleep(self._limits.checkpoint_every_s)
            await self.save()

    async def _announce(self, told: Announcer) -> None:
        """Say where it stands whenever that moved, and again from time to time."""
        while True:
            self._moved.clear()
            position = self.position
            await told.announce(Standing(self._name, 0, self._log.name, position, max(position, self._seen)))
            await asyncio.sleep(self._limits.announce_every_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPEAT_S):
                    await self._moved.wait()

    async def _retry_parked(self, tasks: asyncio.TaskGroup) -> None:
        for sequence, offset in await self._checkpoints.parked(self._name):
            record = await self._log.get(sequence)
            if record is None:
                raise LogDamaged(f"block {sequence} of {self._log.name}, which {self._name} parked, is gone")
            self._parked_before.add((sequence, offset))
            await self._react(tasks, sequence, self._decode(record.data), only=offset)

    async def _react(
        self, tasks: asyncio.TaskGroup, sequence: int, block: Block[Event], only: int | None = None
    ) -> None:
        """Begin the reactions to a block's events, or to the one at the offset `only`."""
        offset = -1
        for commit in block.commits:
            for event in commit.events:
                offset += 1
                reaction = self._reactions.get(type(event))
                if reaction is None or (only is not None and offset != only):
                    continue
                await self._window.acquire()
                at = commit.occurred_at or block.at
                what = Occurrence(event, self._log.name, sequence, offset, commit, at)  # type: ignore[arg-type]  # Only read.
                key = commit.aggregate
                self._under_way[sequence] += 1
                self.working += 1
                before = self._last_of_key.get(key)
                task = tasks.create_task(self._perform(what, reaction, block.at, before))
                self._last_of_key[key] = task
                task.add_done_callback(partial(self._forget, key))

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        if self._last_of_key.get(key) is task:
            del self._last_of_key[key]

    async def _perform(
        self, what: Occurrence, reaction: Reaction, written_at: datetime, before: asyncio.Task[None] | None
    ) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})
            if what.commit.aggregate in self._parked_keys:
                await self._park(what, "queues behind what was parked before")
            else:
                await self._insist(what, reaction, written_at)
        finally:
            self._window.release()
        # Only what is done leaves the window below which the checkpoint may go; what was cancelled comes again.
        self.working -= 1
        self._under_way[what.sequence] -= 1
        if not self._under_way[what.sequence]:
            del self._under_way[what.sequence]
            self._moved.set()

    async def _insist(self, what: Occurrence, reaction: Reaction, written_at: datetime) -> None:
        """Whatever it causes is of the event's trace."""
        if not tracing.collected():
            tracing.stand(what.commit.trace)  # Of this task, which ends with it.
            await self._try(what, reaction, tracing.UNCOLLECTED)
            return
        replayed = (datetime.now(UTC) - written_at).total_seconds() > tracing.REPLAYED_AFTER_S
        with tracing.span(
            f"{self._name} {type(what.event).__name__}",
            "consumer",
            parent="" if replayed else what.commit.trace,
            links=(what.commit.trace,) if replayed else (),
            attributes={"tally.position": what.position, "tally.about": what.commit.correlation},
        ) as span:
            await self._try(what, reaction, span)

    async def _try(self, what: Occurrence, reaction: Reaction, span: tracing.Span) -> None:
        """As often as it takes."""
        limits = self._limits
        failures = tries = 0
        while True:
            after_s = 0.0
            try:
                await reaction(what)
                if (what.sequence, what.offset) in self._parked_before:
                    await self._checkpoints.unpark(self._name, what.sequence, what.offset)
                return
            except Again as trouble:
                log.info("%s: %s must wait: %s", self._name, what.id, trouble)
                span.event("again", str(trouble))
                after_s = min(limits.after_max_s, trouble.after_s)
            except Exception as error:  # Whatever it is, the other keys go on; it is counted, logged and kept.
                failures += 1
                if failures >= limits.attempts_max:
                    log.exception("%s: %s is given up and parked", self._name, what.id)
                    await self._park(what, repr(error))
                    span.failed(f"parked: {error!r}")
                    return
                log.warning("%s: %s failed: %r", self._name, what.id, error)
                span.event("failed", repr(error))
            metrics.reactor_retries.labels(self._name).inc()
            tries = min(tries + 1, 32)
            ceiling = min(limits.backoff_max_s, limits.backoff_s * 2.0**tries)
            await asyncio.sleep(after_s + random.uniform(0, ceiling))

    async def _park(self, what: Occurrence, error: str) -> None:
        key = what.commit.aggregate
        self._parked_keys.add(key)
        metrics.reactor_parked.labels(self._name).inc()
        await self._checkpoints.park(self._name, what.sequence, what.offset, key, error)
