"""A state-stored service: takes frames of commands as an engine does, and keeps states in a database of its own.

All commands that wait are decided in one transaction, so their writing costs one sync. Then the relay is woken, and
each answer waits until its change is on the log, to tell its position: but not for long. What is in the database is
done, and will be told of; so when the log takes nothing the answer has the position 0.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw, Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus import metrics, tracing
from bus.calls.call import Call
from bus.calls.deadline import deadline_of
from bus.calls.path import CallPath, Fallback
from bus.commands import Answer, Envelope, Stored, Unavailable, Unchanged, Unknown, digest_of
from bus.engines.filling import Frame, Item
from bus.outboxes.database import Database, Outboxed, Outcome

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What a service holds at most."""

    queue_max: int = 20_000
    """Commands that wait to be decided; more are answered `overloaded` at once."""
    batch_max: int = 1_000
    """Commands in one transaction."""
    published_within_s: float = 0.7
    """How long an answer waits for its change to be on the log. Less than a sender waits before it sends again."""
    waiting_max: int = 20_000
    """Answers that wait for it."""


class StateStoredService(Generic[State, Command, Event]):
    def __init__(
        self,
        database: Database[State, Command, Event],
        wake: Callable[[], None],
        *,
        limits: ServiceLimits | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._name = database.service.name
        self._wake = wake
        self._limits = limits or ServiceLimits()
        self._now = now
        self._queue: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._untold: dict[int, list[tuple[Item, Outboxed]]] = {}
        """Answers by the row that they wait for."""
        self._waiting = 0
        self._last = self._sequence = 0
        """The last row that is known to be on the log, and where."""
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._queued = metrics.engine_queue.labels(self._name)

    @property
    def waiting(self) -> int:
        """How many commands wait to be decided."""
        return len(self._queue)

    def submit(self, frame: Sequence[Envelope]) -> asyncio.Future[list[Answer]]:
        """Take a frame; the future gives one answer a command, in order, once all of them are definite."""
        done: asyncio.Future[list[Answer]] = self._loop.create_future()
        if not frame:
            done.set_result([])
            return done
        if self._closed or len(self._queue) + len(frame) > self._limits.queue_max:
            code = "stopping" if self._closed else "overloaded"
            metrics.commands_answered.labels(self._name, code).inc(len(frame))
            done.set_result([Unavailable(code)] * len(frame))
            return done
        waiting = Frame.of(len(frame), done)
        for index, envelope in enumerate(frame):
            digest = envelope.digest or digest_of(envelope.command)
            self._queue.append(Item(envelope, digest, waiting, index))
        self._arrived.set()
        return done

    def published(self, first: int, last: int, sequence: int) -> None:
        """These rows are on the log: whoever waits for them is answered."""
        self._last, self._sequence = last, sequence
        for number in range(first, last + 1):
            for item, outcome in self._untold.pop(number, ()):
                self._waiting -= 1
                self._tell(item, outcome, sequence)

    async def run(self) -> None:
        """Until cancelled. Raises `Doubtful` when nobody can tell what the database holds."""
        batch: list[Item] = []
        try:
            while True:
                await self._arrived.wait()
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._limits.batch_max))]
                if not self._queue:
                    self._arrived.clear()
                self._queued.set(len(self._queue))
                await self._write(batch)
                batch = []
        finally:
            self._closed = True
            for item in batch:
                item.answer(Unknown("halted"))
            for item in self._queue:
                item.answer(Unavailable("stopping"))
            self._queue.clear()
            self._answer_without(list(self._untold))

    async def _write(self, batch: list[Item]) -> None:
        outcomes: list[Outcome]
        try:
            outcomes = await self._database.write([item.envelope for item in batch], self._now())
        except sqlite3.Error as error:
            log.error("the database of %s takes nothing: %s", self._name, error)
            outcomes = [Unavailable("database_unavailable") for _ in batch]
        told: list[int] = []
        fresh = False
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Outboxed):
                fresh |= outcome.events is not None and not outcome.repeated
                if outcome.sequence or outcome.number <= self._last:
                    self._tell(item, outcome, outcome.sequence or self._sequence)
                elif self._waiting < self._limits.waiting_max:
                    self._untold.setdefault(outcome.number, []).append((item, outcome))
                    self._waiting += 1
                    told.append(outcome.number)
                else:
                    self._tell(item, outcome, 0)
            else:
                item.answer(outcome)
                kind = "unavailable" if isinstance(outcome, Unavailable) else "refused"
                metrics.commands_answered.labels(self._name, kind).inc()
        if told:
            self._loop.call_later(self._limits.published_within_s, self._answer_without, told)
        if fresh:
            self._wake()

    def _answer_without(self, numbers: Sequence[int]) -> None:
        """Tell that it is done, and not where."""
        for number in numbers:
            for item, outcome in self._untold.pop(number, ()):
                self._waiting -= 1
                self._tell(item, outcome, 0)

    def _tell(self, item: Item, outcome: Outboxed, sequence: int) -> None:
        if outcome.events is None:
            item.answer(Unchanged(sequence, outcome.version))
            kind = "unchanged"
        else:
            item.answer(Stored(sequence, outcome.version, outcome.events, outcome.repeated))
            kind = "repeated" if outcome.repeated else "stored"
        metrics.commands_answered.labels(self._name, kind).inc()


class Kept(Struct, frozen=True):
    """An aggregate as its service keeps it; version 0: it keeps nothing."""

    version: int
    state: Raw


class Unanswered(Exception):
    """The service did not say what it keeps, but something else."""


def state_subject(service: str, instance: str = "") -> str:
    """Of a service; with an instance the subject that only that one hears."""
    return f"state.{service}.{instance}" if instance else f"state.{service}"


async def answer_queries(client: Client, database: Database[State, Command, Event], instance: str = "") -> None:
    """Tell whoever asks what is kept of an aggregate: as it is on disk at that moment."""

    name = database.service.name

    async def arrived(message: Msg) -> None:
        if deadline_of(message.headers or {}, 0.0) <= 0:
            return  # Nobody waits for it any more.
        parent = (message.headers or {}).get(tracing.HEADER, "")
        with tracing.span(f"answer {state_subject(name)}", "server", parent=parent):
            known = database.state(message.data.decode("ascii", "replace"))
            kept = Kept(known.version, Raw(msgspec.json.encode(known.state)))
            if message.reply:
                await client.publish(message.reply, msgspec.json.encode(kept))

    for subject in dict.fromkeys((state_subject(name), state_subject(name, instance))):
        await client.subscribe(subject, queue="state", cb=arrived)


async def ask(service: CallPath, aggregate: str, deadline: float = math.inf, fallback: Fallback | None = None) -> Kept:
    """What a service keeps of an aggregate. Raises `CallFailed` where there is no `fallback`; `Unanswered` where the
    answer makes no sense."""
    name = service.destination
    call = Call(state_subject(name), aggregate.encode(), repeatable=True)
    reply = await service.call(call, deadline=deadline, fallback=fallback)
    try:
        return msgspec.json.decode(reply.body, type=Kept)
    except msgspec.DecodeError as error:
        raise Unanswered(f"{name} does not say: {error}") from error
