"""Handles queued commands: takes frames off the queue at its own pace, sends them, and says what became of each.

A few frames of a domain are under way at a time, so a burst waits in the queue and the engines' other senders go on; a
domain whose engine is away holds up its own queue only. What cannot be done now is tried again, with backoff, for as
long as the engine is away. What fails again and again in an engine that is there (it never says, or it has a defect)
is parked after the last attempt, and the frame goes on.

At least once: a frame that its worker did not acknowledge comes again, and what was written is known by its id. Only a
refusal is decided anew then, as any repeat of one is, if its worker died before it could tell.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Union

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from bus import metrics
from bus.commands import Refused, Stored, Unavailable, Unchanged, Unknown, encode
from bus.queues.command_queue import (
    OUTCOMES,
    QUEUE,
    REQUEST_S,
    Done,
    GivenUp,
    NotQueued,
    Outcome,
    Place,
    Queued,
    Rejected,
    decode_queued,
    outcome_subject,
    parked_subject,
    publish_once,
    queue_subject,
)
from bus.queues.parked_commands import ParkedCommand
from bus.sender import Sender
from bus.servers.connection import still_wanted

PING = "commands.ping"
"""The control verb that whoever handles the queue answers."""
PULL_S = 5.0
"""How long a pull waits at the broker; also how long a worker may not notice that the broker forgot it."""
RETRY_S = 0.5
DEFECTS = frozenset(("internal_error", "malformed_frame"))
"""Refusals that are no answer of the business, but failures of the engine or of who sent."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """`attempts_max` are of a command that fails; none counts while its engine is away. `frames_in_flight_max` are of
    one domain, in one worker. So long after its worker last said that it is at work a frame comes again:
    `ack_wait_s`."""

    attempts_max: int = 8
    backoff_s: float = 0.1
    backoff_max_s: float = 10.0
    frames_in_flight_max: int = 4
    ack_wait_s: float = 10.0


class QueueWorker:
    """`commands` are those of each domain that may be queued. `erased`: domains whose commands tell of people, and are
    overwritten in the broker's store once they are done; else their bytes lie there until it is tidied up."""

    def __init__(
        self,
        client: Client,
        sender: Sender,
        commands: Mapping[str, Sequence[type]],
        limits: QueueLimits | None = None,
        erased: Collection[str] = (),
    ) -> None:
        self._client = client
        self._sender = sender
        self._decode = {
            domain: msgspec.json.Decoder(Union[tuple(types)]).decode  # noqa: UP007  # Made at run time.
            for domain, types in commands.items()
        }
        self._limits = limits or QueueLimits()
        self._erased = frozenset(erased)
        self._context = client.jetstream(timeout=REQUEST_S)

    async def run(self) -> None:
        """Until cancelled: first no more frames are taken, then those under way are given back."""
        async with asyncio.TaskGroup() as handling, asyncio.TaskGroup() as taking:
            for domain in self._decode:
                taking.create_task(self._take(handling, domain))

    async def _take(self, handling: asyncio.TaskGroup, domain: str) -> None:
        room = asyncio.Semaphore(self._limits.frames_in_flight_max)
        while True:
            try:
                async with self._pulling(domain) as pull:
                    while True:
                        async with room:  # Wait until there is some.
                            message = await _next(pull)
                        if message is not None:
                            await room.acquire()
                            task = handling.create_task(self._handle(domain, message))
                            task.add_done_callback(lambda _: room.release())
            except (nats.errors.Error, APIError, OSError) as error:  # The consumer may be gone, with the broker's data.
                still_wanted()
                log.info("the queue of %s cannot be read: %s", domain, str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_S)

    @asynccontextmanager
    async def _pulling(self, domain: str) -> AsyncIterator[JetStreamContext.PullSubscription]:
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=self._limits.ack_wait_s, max_ack_pending=1_000)
        name = f"{domain}-queue"
        pull = await self._context.pull_subscribe(queue_subject(domain), durable=name, stream=QUEUE, config=config)
        try:
            yield pull
        finally:
            if self._client.is_connected:  # Or the broker would send what is given back to where nobody listens.
                await pull.unsubscribe()

    async def _handle(self, domain: str, message: Msg) -> None:
        """Deal with a frame. Whatever goes wrong, it is still in the queue."""
        holding = asyncio.create_task(_hold(message, self._limits.ack_wait_s))
        try:
            sequence = message.metadata.sequence.stream
            metrics.queue_waiting.labels(domain).set(message.metadata.num_pending)
            again = message.metadata.num_delivered > 1
            if not (again and await self._told(sequence)):
                frame = decode_queued(message.data)
                places = [Place(sequence, offset) for offset in range(len(frame))]
                pairs = zip(frame, places, strict=True)
                outcomes = await asyncio.gather(*(self._settle(domain, queued, place) for queued, place in pairs))
                await self._tell(sequence, frame, outcomes)
            if domain in self._erased:
                await self._erase(sequence)
            await message.ack_sync(timeout=REQUEST_S)
        except msgspec.DecodeError as error:  # Of another version: it stays until there is one that can read it.
            log.error("frame %s of the queue of %s cannot be read: %s", message.metadata.sequence.stream, domain, error)
        except (nats.errors.Error, APIError, NotQueued, OSError) as error:
            still_wanted()
            log.warning("a frame of the queue of %s comes again: %s", domain, str(error) or type(error).__name__)
        except asyncio.CancelledError:
            await message.nak()  # Another worker need not wait until it is noticed.
            raise
        finally:
            holding.cancel()

    async def _erase(self, sequence: int) -> None:
        try:
            await self._context.delete_msg(QUEUE, sequence)
        except NotFoundError:
            log.debug("frame %d was erased before", sequence)

    async def _settle(self, domain: str, queued: Queued, place: Place) -> Outcome:
        """What becomes of a command: definitely, or parked."""
        try:
            command = self._decode[domain](queued.command)
            outcome = await self._insist(domain, queued, command)
        except msgspec.ValidationError as error:
            outcome = GivenUp(f"it is no command of {domain}: {error}")
        except Exception as error:  # Whatever it is, its neighbours go on; it is counted, logged and kept.
            log.exception("command %s of %s cannot be sent", queued.id, domain)
            outcome = GivenUp(repr(error))
        metrics.queue_handled.labels(domain, type(outcome).__name__.lower()).inc()
        if isinstance(outcome, GivenUp):
            log.warning("command %s of %s is parked: %s", queued.id, domain, outcome.error)
            parked = ParkedCommand(queued, queued.origin or str(place), time.time(), outcome.error)
            await publish_once(self._client, parked_subject(domain), encode(parked))
        return outcome

    async def _insist(self, domain: str, queued: Queued, command: Struct) -> Outcome:
        limits, failures, tries = self._limits, 0, 0
        while True:
            answer = await self._sender.send(
                command,
                id=queued.id,
                digest=queued.digest,
                actor=queued.actor,
                correlation=queued.correlation,
                trace=queued.trace,
                expect=queued.expect,
            )
            match answer:
                case Stored(position=position, version=version) | Unchanged(position, version):
                    return Done(position, version, queued.location, self._sender.partition_for(command))
                case Refused(code, detail) if code in DEFECTS:
                    failures, error = failures + 1, f"{code}: {detail}"
                case Refused(code, detail, field):
                    return Rejected(code, detail, field)
                case Unknown(reason):
                    failures, error = failures + 1, reason
                case Unavailable(code):
                    error = code
            if failures >= limits.attempts_max:
                return GivenUp(error)
            metrics.queue_retries.labels(domain).inc()
            tries = min(tries + 1, 32)
            await asyncio.sleep(random.uniform(0, min(limits.backoff_max_s, limits.backoff_s * 2.0**tries)))

    async def _told(self, sequence: int) -> bool:
        """Whether what became of a frame was told before: its worker died in the moment after."""
        try:
            await self._context.get_last_msg(OUTCOMES, outcome_subject(sequence))
        except NotFoundError:
            return False
        return True

    async def _tell(self, sequence: int, frame: Sequence[Queued], outcomes: Sequence[Outcome]) -> None:
        """A command that was parked before is told of under its first place, too."""
        for queued, outcome in zip(frame, outcomes, strict=True):
            if queued.origin and not isinstance(outcome, GivenUp):
                await publish_once(self._client, outcome_subject(queued.origin), encode([outcome]))
        await publish_once(self._client, outcome_subject(sequence), encode(outcomes))


async def _next(pull: JetStreamContext.PullSubscription) -> Msg | None:
    """The next frame, if one comes soon."""
    try:
        (message,) = await pull.fetch(1, timeout=PULL_S)
    except (nats.errors.TimeoutError, TimeoutError):
        still_wanted()
        return None
    still_wanted()
    return message


async def _hold(message: Msg, ack_wait_s: float) -> None:
    """Say that one is still at work on it, until cancelled."""
    while True:
        await asyncio.sleep(ack_wait_s / 3)
        await message.in_progress()
