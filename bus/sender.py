"""Senders: what gateways, processes and the CLI send commands with. Commands that come together travel together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

import msgspec
import nats.errors
from msgspec import Raw, Struct
from nats.aio.client import Client

from bus import tracing
from bus.commands import (
    COMMAND_BYTES_MAX,
    FRAME_BYTES_MAX,
    Answer,
    Envelope,
    Refused,
    Unavailable,
    Unknown,
    command_subject,
    decode_answers,
    decode_envelope,
    encode,
    partition_of,
    position_in,
)
from bus.engines.deciding import malformed

QUEUE_MAX = 50_000
FRAME_COMMANDS_MAX = 128
"""Commands in a full frame: more would cost hardly less each, and all of them wait for the last one's answer."""
FRAMES_IN_FLIGHT_MAX = 16
PARTIAL_IN_FLIGHT_MAX = 2
"""Frames in flight beyond which only full ones go: what comes meanwhile travels together."""
ANSWER_WITHIN_S = 1.0
"""A frame that is not answered by then is sent again, later twice as late each time, until its commands time out."""
SEND_AGAIN_AFTER_S = 0.1
LOOK_EVERY_S = 0.05
"""How much later than its time is up a command may be told so."""
COMMAND_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


class _Waiting:
    __slots__ = ("answer", "data", "ends")

    def __init__(self, data: bytes, ends: float, answer: asyncio.Future[Answer]) -> None:
        self.data = data
        self.ends = ends
        """By the loop's clock: from then on nobody waits for it."""
        self.answer = answer

    def tell(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class _Lane:
    """Commands on their way to one partition: a bounded queue and a few frames in flight."""

    def __init__(self, client: Client, subject: str, address: Callable[[], str]) -> None:
        self._client = client
        self._subject = subject
        self._address = address
        self._queue: deque[_Waiting] = deque()
        self._in_flight: dict[asyncio.Task[None], list[_Waiting]] = {}
        self._due = False
        self._looking: asyncio.TimerHandle | None = None

    def put(self, waiting: _Waiting) -> None:
        if len(self._queue) >= QUEUE_MAX:
            waiting.tell(Unavailable("overloaded"))
            return
        loop = asyncio.get_running_loop()
        self._queue.append(waiting)
        if self._looking is None:
            self._looking = loop.call_later(LOOK_EVERY_S, self._look)
        if not self._due and self._may_go:
            self._due = True
            loop.call_soon(self._flush)  # What is put in this turn of the loop goes together.

    def _look(self) -> None:
        """Tell those whose time is up. One look at all of them now and then costs less than a timer each (0.8 us)."""
        loop = asyncio.get_running_loop()
        now, waits = loop.time(), False
        for waiting in chain(self._queue, *self._in_flight.values()):
            if not waiting.answer.done():
                waits = True
                if waiting.ends <= now:
                    waiting.answer.set_result(Unknown("no answer in time"))
        self._looking = loop.call_later(LOOK_EVERY_S, self._look) if waits else None

    @property
    def _may_go(self) -> bool:
        full = len(self._queue) >= FRAME_COMMANDS_MAX
        return len(self._in_flight) < (FRAMES_IN_FLIGHT_MAX if full else PARTIAL_IN_FLIGHT_MAX)

    def _flush(self) -> None:
        self._due = False
        while self._queue and self._may_go:
            frame: list[_Waiting] = []
            size = 2
            while self._queue and len(frame) < FRAME_COMMANDS_MAX:
                waiting = self._queue[0]
                if waiting.answer.done():  # Timed out or cancelled before it left: definitely not written.
                    self._queue.popleft()
                    continue
                size += len(waiting.data) + 1
                if frame and size > FRAME_BYTES_MAX:
                    break
                frame.append(self._queue.popleft())
            if not frame:
                return
            task = asyncio.get_running_loop().create_task(self._exchange(frame))
            self._in_flight[task] = frame
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._flush()

    async def _exchange(self, frame: list[_Waiting]) -> None:
        """Send a frame until it is answered or nobody waits for it any more.

        Sending it again is harmless, for an id takes effect once, and an engine that died with it has a successor
        soon. Once it may have reached an engine, only an engine can say that nothing was written.
        """
        answer_within_s = ANSWER_WITHIN_S
        may_have_arrived = False
        while waiting := [each for each in frame if not each.answer.done()]:
            try:
                self._tell(waiting, await self._request(waiting, answer_within_s), again=may_have_arrived)
                if all(each.answer.done() for each in waiting):
                    return
            except _NotThere as reason:
                if not may_have_arrived and not reason.soon:
                    for each in waiting:
                        each.tell(Unavailable(str(reason)))
                    return
            except (nats.errors.Error, OSError, msgspec.DecodeError) as error:
                log.debug("a frame on %s is sent again: %s", self._subject, str(error) or type(error).__name__)
                may_have_arrived = True
                answer_within_s *= 2
            await asyncio.sleep(SEND_AGAIN_AFTER_S)

    async def _request(self, waiting: list[_Waiting], timeout_s: float) -> list[Answer]:
        if not self._client.is_connected:
            raise _NotThere("broker_unreachable")
        body = b"[" + b",".join([each.data for each in waiting]) + b"]"
        address = self._address()
        for subject in dict.fromkeys((address, self._subject)):  # Its owner's, as far as known; then anybody's.
            try:
                message = await self._client.request(subject, body, timeout=timeout_s)
            except nats.errors.NoRespondersError:
                continue
            return decode_answers(message.data)
        raise _NotThere("no_engine", soon=address != self._subject)

    @staticmethod
    def _tell(waiting: list[_Waiting], answers: list[Answer], *, again: bool) -> None:
        """Give the answers. That one owner wrote nothing is none for what was sent `again`: another may yet."""
        if len(answers) != len(waiting):
            whole = len(answers) == 1 and isinstance(answers[0], Refused)  # The frame itself made no sense.
            answers = [answers[0] if whole else Unknown("answers do not match the frame")] * len(waiting)
        for each, answer in zip(waiting, answers, strict=True):
            if not (again and isinstance(answer, Unavailable)):
                each.tell(answer)


class _NotThere(Exception):
    """Nobody got the frame. `soon`: the owner was there a moment ago, and is about to be followed by another."""

    def __init__(self, reason: str, *, soon: bool = False) -> None:
        super().__init__(reason)
        self.soon = soon


class Sender:
    """Sends commands to the engines that own them.

    `domains` maps each command type to its domain, `partitions` each domain to its number of partitions (1 where it
    is not named), `targets` what each domain's commands are about: a command's own aggregate chooses the partition.
    `address` says on which subject a partition's owner is reached (`bus/presence.py`).
    Every command gets an answer or, after its timeout, `Unknown`: repeat it under the same id then.
    """

    def __init__(
        self,
        client: Client,
        domains: Mapping[type, str],
        partitions: Mapping[str, int] | None = None,
        targets: Mapping[str, Callable[[Any], tuple[str, ...]]] | None = None,
        address: Callable[[str, int], str] = command_subject,
    ) -> None:
        self._client = client
        self._domains = domains
        self._partitions = partitions or {}
        self._targets = targets or {}
        self._address = address
        self._lanes: dict[tuple[str, int], _Lane] = {}

    async def send(
        self,
        command: Struct,
        *,
        id: str,
        aggregate: str = "",
        digest: str = "",
        actor: str = "",
        cause: str = "",
        correlation: str = "",
        trace: str = "",
        expect: int | None = None,
        occurred_at: datetime | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
        bytes_max: int = COMMAND_BYTES_MAX,
    ) -> Answer:
        """Send one command. `aggregate` chooses the partition where `targets` does not say what it is about; `trace`,
        where it is not given, is the current one."""
        envelope = Envelope(
            id=id,
            deadline=time.time() + timeout_s,
            command=Raw(encode(command)),
            digest=digest,
            actor=actor,
            cause=cause,
            correlation=correlation,
            trace=trace or tracing.current(),
            expect=expect,
            occurred_at=occurred_at,
        )
        if not tracing.collected():
            return await self._deliver(command, envelope, aggregate, timeout_s, bytes_max)
        about = {"messaging.system": "nats", "tally.domain": self._domains[type(command)], "tally.about": correlation}
        with tracing.span(
            f"send {type(command).__name__}", "producer", parent=envelope.trace, attributes=about
        ) as span:
            traced = msgspec.structs.replace(envelope, trace=span.traceparent)
            answer = await self._deliver(command, traced, aggregate, timeout_s, bytes_max)
            span.tell("tally.outcome", type(answer).__name__.lower())
            if isinstance(answer, Unavailable | Unknown):
                span.failed(answer.code if isinstance(answer, Unavailable) else answer.reason)
            return answer

    async def _deliver(
        self, command: Struct, envelope: Envelope, aggregate: str, timeout_s: float, bytes_max: int
    ) -> Answer:
        domain = self._domains[type(command)]
        data = encode(envelope)
        try:
            decode_envelope(data)  # Or the engine would refuse the whole frame, and others' commands with it.
        except msgspec.ValidationError as error:
            return malformed(error)
        if len(data) > bytes_max:
            return Refused("command_too_large", f"a command is at most {bytes_max} bytes")
        partition = self.partition_for(command, aggregate)
        lane = self._lanes.get((domain, partition))
        if lane is None:
            address = partial(self._address, domain, partition)
            lane = self._lanes[domain, partition] = _Lane(self._client, command_subject(domain, partition), address)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        lane.put(_Waiting(data, loop.time() + timeout_s, answer))
        return await answer

    def partitions_of(self, domain: str) -> int:
        return self._partitions.get(domain, 1)

    def domain_of(self, command: Struct) -> str:
        """The domain that a command belongs to."""
        return self._domains[type(command)]

    def partition_for(self, command: Struct, aggregate: str = "") -> int:
        """Where it is decided. `aggregate` chooses where `targets` does not say what it is about."""
        domain = self._domains[type(command)]
        partitions = self._partitions.get(domain, 1)
        if partitions > 1 and domain in self._targets:
            aggregate = self._targets[domain](command)[0]
        return partition_of(aggregate, partitions)

    def position(self, command: Struct, sequence: int) -> str:
        """Where what a command did lies, as it is told outside (see `position_in`)."""
        domain = self._domains[type(command)]
        return position_in(domain, sequence, self.partition_for(command), self.partitions_of(domain))

    async def ping(self, domain: str, partition: int = 0, timeout_s: float = 0.5) -> bool:
        """Whether an engine answers: an empty frame, an empty answer."""
        if not self._client.is_connected:
            return False
        try:
            await self._client.request(self._address(domain, partition), b"[]", timeout=timeout_s)
        except (nats.errors.Error, OSError):
            return False
        return True
