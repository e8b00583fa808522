"""Reactors: whatever does something about events. Reads a log from a checkpoint, reacts at least once, in order a key.

A reaction must be idempotent: its effects carry ids that derive from the position of what it reacts to. A slow or
failing key holds up nobody but itself, until `window_max` reactions are under way; a restart repeats what was
unfinished, not all that came behind it. What fails for good is parked, and what comes later for its key queues behind
it, in order, until somebody has it tried again or gives it up; at the next start the parked ones are tried again, too.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from bus import metrics, tracing
from bus.announcements import REPEAT_S, Announcer, Standing
from bus.logs.blocks import Block, BlockDecoder, Chain, Commit
from bus.logs.log import Log, LogDamaged
from bus.reactors.checkpoints import Checkpoints, Place, Stands
from bus.reactors.parking import Parking

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
    def place(self) -> Place:
        return Place(self.sequence, self.offset)

    @property
    def position(self) -> str:
        return f"{self.log}={self.sequence}"

    @property
    def id(self) -> str:
        """Names this event for ever, and with it whatever is caused by it."""
        return f"{self.log}-{self.sequence}-{self.offset}"


class Found(NamedTuple):
    """An event in the log, and when its block was written."""

    what: Occurrence
    written_at: datetime


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
        self.name = name
        self._log = log
        self._decode = decoder.decode
        self._reactions = reactions
        self._checkpoints = checkpoints
        self._limits = limits or ReactorLimits()
        self._told = told
        self._moved = asyncio.Event()
        self._window = asyncio.Semaphore(self._limits.window_max)
        self._under_way: dict[int, set[int]] = {}
        """The offsets of what is not finished, by block; bounded by the window, and by that of the run before."""
        self._last_of_key: dict[str, asyncio.Task[None]] = {}
        self.parking = Parking(name, checkpoints)
        self._parked_before: set[Place] = set()
        self._seen = 0
        self._saved = 0
        self._saved_ahead = Stands(0)
        self.working = 0
        """Reactions under way, for those who want to know whether all is quiet."""

    @property
    def observes(self) -> str:
        """The log that it reads."""
        return self._log.name

    @property
    def position(self) -> int:
        """Everything up to here is done."""
        return min(self._under_way) - 1 if self._under_way else self._seen

    async def run(self) -> None:
        """Until cancelled. Raises `LogDamaged` when the log is not what it was."""
        self._seen, unfinished = await self._checkpoints.stands(self.name, self._log.epoch)
        for place in unfinished:
            self._under_way.setdefault(place.sequence, set()).add(place.offset)
        self._saved = self.position
        chain = Chain(self._log.epoch, whole=self._seen == 0)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_checkpoint())
                if self._told is not None:
                    tasks.create_task(self._announce(self._told))
                await self._resume(tasks)
                async for batch in self._log.read(self._seen):
                    for record in batch:
                        block = chain.follow(record, self._decode)
                        for what in self._occurrences(record.sequence, block):
                            await self._begin(tasks, what, block.at)
                        self._seen = record.sequence
                        self._moved.set()
        except BaseExceptionGroup as troubles:  # The first is what ended it.
            raise troubles.exceptions[0] from None

    async def save(self) -> None:
        """Write down where it stands, if that moved."""
        position = self.position
        metrics.reactor_position.labels(self.name).set(position)
        if position > self._saved:
            await self._checkpoints.save(self.name, self._log.epoch, position)
            self._saved = position
        if position < self._seen:  # What is begun of a block that is not all begun comes again with it.
            ahead = Stands(self._seen, frozenset(place for place in self._unfinished() if place.sequence <= self._seen))
            if ahead != self._saved_ahead:
                await self._checkpoints.save_ahead(self.name, self._log.epoch, ahead)
                self._saved_ahead = ahead

    async def find(self, place: Place) -> Found | None:
        """An event, from the log; None where it is none that matters, by today's code. Raises `LogDamaged`,
        `LogUnreachable`."""
        record = await self._log.get(place.sequence)
        if record is None:
            raise LogDamaged(f"block {place.sequence} of {self._log.name}, which {self.name} knew, is gone")
        block = self._decode(record.data)
        found = (what for what in self._occurrences(place.sequence, block) if what.offset == place.offset)
        return next((Found(what, block.at) for what in found), None)

    async def react(self, what: Occurrence) -> None:
        """Once, whatever comes of it: for what is parked."""
        with tracing.standing(what.commit.trace):
            await self._reactions[type(what.event)](what)

    async def _keep_checkpoint(self) -> None:
        while True:
            await asyncio.sleep(self._limits.checkpoint_every_s)
            await self.save()

    async def _announce(self, told: Announcer) -> None:
        """Say where it stands whenever that moved, and again from time to time."""
        while True:
            self._moved.clear()
            position = self.position
            await told.announce(Standing(self.name, 0, self._log.name, position, max(position, self._seen)))
            await asyncio.sleep(self._limits.announce_every_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPEAT_S):
                    await self._moved.wait()

    async def _resume(self, tasks: asyncio.TaskGroup) -> None:
        """Begin with what was given up, and with what was not finished before."""
        self._parked_before.update(await self._checkpoints.parked(self.name))
        for place in sorted(self._parked_before | set(self._unfinished())):
            found = await self.find(place)
            if found is not None:
                await self._begin(tasks, *found)
            elif place not in self._parked_before:
                self._finish(place)

    def _occurrences(self, sequence: int, block: Block[Event]) -> Iterator[Occurrence]:
        """What matters of a block."""
        offset = -1
        for commit in block.commits:
            for event in commit.events:
                offset += 1
                if type(event) in self._reactions:
                    at = commit.occurred_at or block.at
                    yield Occurrence(event, self._log.name, sequence, offset, commit, at)  # type: ignore[arg-type]  # Only read.

    async def _begin(self, tasks: asyncio.TaskGroup, what: Occurrence, written_at: datetime) -> None:
        """As soon as there is room."""
        await self._window.acquire()
        key = what.commit.aggregate
        self._under_way.setdefault(what.sequence, set()).add(what.offset)
        self.working += 1
        before = self._last_of_key.get(key)
        task = tasks.create_task(self._perform(what, written_at, before))
        self._last_of_key[key] = task
        task.add_done_callback(partial(self._forget, key))

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        if self._last_of_key.get(key) is task:
            del self._last_of_key[key]

    async def _perform(self, what: Occurrence, written_at: datetime, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})
            if not await self.parking.queues_behind(what.place, what.commit.aggregate):
                await self._insist(what, written_at)
        finally:
            self._window.release()
        # Only what is done leaves the window below which the checkpoint may go; what was cancelled comes again.
        self.working -= 1
        self._finish(what.place)

    def _unfinished(self) -> Iterator[Place]:
        return (Place(sequence, offset) for sequence, offsets in self._under_way.items() for offset in offsets)

    def _finish(self, place: Place) -> None:
        offsets = self._under_way[place.sequence]
        offsets.discard(place.offset)
        if not offsets:
            del self._under_way[place.sequence]
            self._moved.set()

    async def _insist(self, what: Occurrence, written_at: datetime) -> None:
        """Whatever it causes is of the event's trace."""
        if not tracing.collected():
            tracing.stand(what.commit.trace)  # Of this task, which ends with it.
            await self._try(what, tracing.UNCOLLECTED)
            return
        replayed = (datetime.now(UTC) - written_at).total_seconds() > tracing.REPLAYED_AFTER_S
        with tracing.span(
            f"{self.name} {type(what.event).__name__}",
            "consumer",
            parent="" if replayed else what.commit.trace,
            links=(what.commit.trace,) if replayed else (),
            attributes={"tally.position": what.position, "tally.about": what.commit.correlation},
        ) as span:
            await self._try(what, span)

    async def _try(self, what: Occurrence, span: tracing.Span) -> None:
        """As often as it takes."""
        limits, reaction = self._limits, self._reactions[type(what.event)]
        failures = tries = 0
        while True:
            after_s = 0.0
            try:
                await reaction(what)
                if what.place in self._parked_before:
                    await self.parking.done(what.place)
                return
            except Again as trouble:
                log.info("%s: %s must wait: %s", self.name, what.id, trouble)
                span.event("again", str(trouble))
                after_s = min(limits.after_max_s, trouble.after_s)
            except Exception as error:  # Whatever it is, the other keys go on; it is counted, logged and kept.
                failures += 1
                if failures >= limits.attempts_max:
                    log.exception("%s: %s is given up and parked", self.name, what.id)
                    await self.parking.park(what.place, what.commit.aggregate, repr(error))
                    span.failed(f"parked: {error!r}")
                    return
                log.warning("%s: %s failed: %r", self.name, what.id, error)
                span.event("failed", repr(error))
            metrics.reactor_retries.labels(self.name).inc()
            tries = min(tries + 1, 32)
            ceiling = min(limits.backoff_max_s, limits.backoff_s * 2.0**tries)
            await asyncio.sleep(after_s + random.uniform(0, ceiling))
