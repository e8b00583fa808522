"""The queue of commands that nobody waits for: accepted by a gateway, on disk at once, handled at a worker's pace.

The unit is the batch here, too. What comes together is one message, a frame of queued commands on `queue.<domain>`, in
a stream that forgets a frame once it is dealt with. What became of its commands is one message on `outcome.<sequence>`,
in the order of the frame: so a command's place, its frame's sequence and its offset, is all that one must know to ask.
A command that was given up lies on `parked.<domain>` until somebody has it dealt with again or discards it; what comes
of that is told on `outcome.<sequence>.<offset>`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from secrets import token_hex

import msgspec
import nats.errors
from msgspec import Raw, Struct
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RawStreamMsg, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from bus.commands import FRAME_BYTES_MAX, ShortText, encode
from bus.logs.streams import ENSURE_AGAIN_S, ENSURE_TIMEOUT_S, NO_PEERS, STREAM_NAME_IN_USE, StreamMisconfigured
from bus.servers.connection import BrokerUnreachable, still_wanted

QUEUE = "queue"
OUTCOMES = "outcomes"
FRAMES_MAX = 100_000
"""That wait, and parked commands with them: beyond it none is accepted."""
OUTCOMES_MAX = 250_000
"""Frames whose outcome is remembered, the latest, for `OUTCOMES_S`."""
OUTCOMES_S = 7 * 24 * 3600
FRAME_COMMANDS_MAX = 128
IN_FLIGHT_MAX = 2
"""Frames on their way to the broker: what comes meanwhile travels together."""
WAITING_MAX = 50_000
"""Commands of one domain that wait in a gateway for their frame."""
PUT_TIMEOUT_S = 2.0
PUT_ATTEMPTS_MAX = 3
REQUEST_S = 2.0
FULL = frozenset((10002, 10023, 10077))
"""Error codes of a stream, an account or a server that has no room."""

log = logging.getLogger(__name__)


class Queued(Struct, frozen=True, omit_defaults=True):
    """A command that waits: as an `Envelope`, without a deadline. `location` is what its outcome says where it is to be
    seen; `origin` is its place where it was parked before."""

    id: str
    command: Raw
    digest: ShortText = ""
    actor: ShortText = ""
    correlation: ShortText = ""
    trace: ShortText = ""
    expect: int | None = None
    location: ShortText = ""
    origin: str = ""


class Place(Struct, frozen=True):
    """Where a command lies, or lay: the sequence of its frame, and which of the frame it is."""

    sequence: int
    offset: int

    def __str__(self) -> str:
        return f"{self.sequence}.{self.offset}"


class Done(Struct, frozen=True, tag="done", tag_field="outcome", omit_defaults=True):
    """Written, or all was already so. `position` is 0 where an outbox tells of it later."""

    position: int
    version: int
    location: str = ""
    partition: int = 0


class Rejected(Struct, frozen=True, tag="rejected", tag_field="outcome", omit_defaults=True):
    """Definitely not written: the business said no, or somebody discarded it."""

    code: str
    detail: str = ""
    field: str = ""


class GivenUp(Struct, frozen=True, tag="given_up", tag_field="outcome"):
    """It failed again and again, and is parked."""

    error: str


Outcome = Done | Rejected | GivenUp

decode_queued = msgspec.json.Decoder(list[Queued]).decode
decode_outcomes = msgspec.json.Decoder(list[Outcome]).decode


class NotQueued(Exception):
    """The command is not in the queue. `maybe`: or it is, for the broker did not say."""

    def __init__(self, code: str, *, maybe: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.maybe = maybe


class QueueUnreachable(Exception):
    """The broker does not say what became of a command."""


def queue_subject(domain: str) -> str:
    return f"queue.{domain}"


def parked_subject(domain: str) -> str:
    return f"parked.{domain}"


def outcome_subject(place: Place | int | str) -> str:
    """Of a frame, or of one command that was parked."""
    return f"outcome.{place}"


def queue_stream(replicas: int = 1) -> StreamConfig:
    """A frame is gone once it is acknowledged."""
    return StreamConfig(
        name=QUEUE,
        subjects=[queue_subject("*"), parked_subject("*")],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        num_replicas=replicas,
        discard=DiscardPolicy.NEW,
        max_msgs=FRAMES_MAX,
        max_msg_size=FRAME_BYTES_MAX + 64 * 1024,
        duplicate_window=120,
    )


def outcomes_stream(replicas: int = 1) -> StreamConfig:
    """The latest of each frame, for a while."""
    return StreamConfig(
        name=OUTCOMES,
        subjects=["outcome.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        discard=DiscardPolicy.OLD,
        max_msgs=OUTCOMES_MAX,
        max_msgs_per_subject=1,
        max_age=OUTCOMES_S,
        max_msg_size=FRAME_BYTES_MAX,
        allow_direct=True,
        duplicate_window=120,
    )


async def ensure_queue(client: Client, replicas: int = 1) -> None:
    """Make both streams where there are none, and as they are wanted now where they were made with other limits.

    Raises `StreamMisconfigured`, `BrokerUnreachable`."""
    for config in (queue_stream(replicas), outcomes_stream(replicas)):
        await _ensure(client.jetstream(timeout=REQUEST_S), config)


async def _ensure(context: JetStreamContext, config: StreamConfig) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENSURE_TIMEOUT_S
    while True:
        try:
            try:
                await context.add_stream(config)
            except APIError as error:
                if error.err_code != STREAM_NAME_IN_USE:
                    raise
                await context.update_stream(config)
            still_wanted()
            return
        except (nats.errors.TimeoutError, NoStreamResponseError, ServiceUnavailableError) as error:
            trouble: Exception = error
        except APIError as error:
            if error.err_code != NO_PEERS:
                raise StreamMisconfigured(f"stream {config.name} cannot be made: {error.description}") from error
            trouble = error
        still_wanted()
        if loop.time() > deadline:
            raise BrokerUnreachable(f"the stream {config.name} is led by no server: {trouble}") from trouble
        await asyncio.sleep(ENSURE_AGAIN_S)


class CommandQueue:
    """A gateway's side: commands go in, and what became of them is asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._context = client.jetstream(timeout=REQUEST_S)
        self._lanes: dict[str, _Lane] = {}

    async def put(self, domain: str, queued: Queued) -> Place:
        """Its place, once it is on disk. Raises `NotQueued`."""
        lane = self._lanes.get(domain)
        if lane is None:
            lane = self._lanes[domain] = _Lane(self._client, queue_subject(domain))
        return await lane.put(encode(queued))

    async def outcome(self, place: Place) -> Outcome | None:
        """What became of a command, as far as anything did. Raises `QueueUnreachable`."""
        found = await self._last(outcome_subject(place.sequence))
        if found is None:
            return None
        outcomes = decode_outcomes(found.data or b"")
        if place.offset >= len(outcomes):
            return None
        outcome = outcomes[place.offset]
        if isinstance(outcome, GivenUp) and (later := await self._last(outcome_subject(place))) is not None:
            (outcome,) = decode_outcomes(later.data or b"")
        return outcome

    async def waits(self, place: Place) -> bool:
        """Whether its frame is in the queue still. Raises `QueueUnreachable`."""
        try:
            await self._context.get_msg(QUEUE, place.sequence)
        except NotFoundError:
            return False
        except (nats.errors.Error, APIError, OSError) as error:
            raise QueueUnreachable(str(error) or type(error).__name__) from error
        finally:
            still_wanted()
        return True

    async def _last(self, subject: str) -> RawStreamMsg | None:
        try:
            return await self._context.get_last_msg(OUTCOMES, subject, direct=True)
        except NotFoundError:
            return None
        except (nats.errors.Error, APIError, OSError) as error:
            raise QueueUnreachable(str(error) or type(error).__name__) from error
        finally:
            still_wanted()


class _Waiting:
    __slots__ = ("data", "place")

    def __init__(self, data: bytes, place: asyncio.Future[Place]) -> None:
        self.data = data
        self.place = place


class _Lane:
    """Commands on their way to one domain's queue: a bounded number waits, two frames are under way."""

    def __init__(self, client: Client, subject: str) -> None:
        self._client = client
        self._subject = subject
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._due = False

    async def put(self, data: bytes) -> Place:
        if len(self._waiting) >= WAITING_MAX:
            raise NotQueued("overloaded")
        if not self._client.is_connected:
            raise NotQueued("broker_unreachable")
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Place] = loop.create_future()
        self._waiting.append(_Waiting(data, place))
        if not self._due and len(self._in_flight) < IN_FLIGHT_MAX:
            self._due = True
            loop.call_soon(self._flush)  # What is put in this turn of the loop goes together.
        return await place

    def _flush(self) -> None:
        self._due = False
        while self._waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            frame: list[_Waiting] = []
            size = 2
            while self._waiting and len(frame) < FRAME_COMMANDS_MAX:
                size += len(self._waiting[0].data) + 1
                if frame and size > FRAME_BYTES_MAX:
                    break
                waiting = self._waiting.popleft()
                if not waiting.place.done():  # Its request is gone.
                    frame.append(waiting)
            if not frame:
                return
            task = asyncio.get_running_loop().create_task(self._publish(frame))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._flush()

    async def _publish(self, frame: list[_Waiting]) -> None:
        data = b"[" + b",".join([each.data for each in frame]) + b"]"
        try:
            sequence = await publish_once(self._client, self._subject, data)
        except NotQueued as error:
            for each in frame:
                if not each.place.done():
                    each.place.set_exception(NotQueued(error.code, maybe=error.maybe))
            return
        for offset, each in enumerate(frame):
            if not each.place.done():
                each.place.set_result(Place(sequence, offset))


async def publish_once(client: Client, subject: str, data: bytes) -> int:
    """Put a message into a stream, once, however often it is sent until the broker says so: its sequence.

    Raises `NotQueued`."""
    context = client.jetstream(timeout=PUT_TIMEOUT_S)
    message_id = token_hex(16)
    error: Exception | None = None
    for _ in range(PUT_ATTEMPTS_MAX):
        try:
            acknowledged = await context.publish(subject, data, headers={"Nats-Msg-Id": message_id})
            return acknowledged.seq
        except NoStreamResponseError as failed:
            error = failed  # No server leads the stream at the moment, or this one is not there yet.
        except APIError as failed:
            if failed.err_code in FULL:
                raise NotQueued("queue_full") from failed
            error = failed
        except (nats.errors.Error, OSError) as failed:
            error = failed
        still_wanted()
    log.warning("%s takes nothing: %s", subject, str(error) or type(error).__name__)
    raise NotQueued("queue_unavailable", maybe=not isinstance(error, NoStreamResponseError)) from error
