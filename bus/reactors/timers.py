"""Timers: commands that are to be sent at a time, as scheduled messages in a stream of their own.

The broker holds each until it is due, whatever is restarted meanwhile, and hands it out then until it is dealt with. A
key has one timer: to set it again replaces it. What is due is sent under an id that is given when it is set, so that it
takes effect once however often it is handed out; and it may come late, or after it was cancelled, which whoever gets it
has to bear.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import nats.errors
from msgspec import Raw, Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StoreCompression, StreamConfig
from nats.js.errors import APIError, NotFoundError

from bus.logs.streams import ENSURE_AGAIN_S, ENSURE_TIMEOUT_S, NO_PEERS, STREAM_NAME_IN_USE, StreamMisconfigured
from bus.servers.connection import still_wanted

STREAM = "timers"
REQUEST_S = 2.0
DUE_MAX = 64
"""Taken at once, and under way at once."""
WAIT_S = 5.0
"""How long a request for what is due waits at the broker."""
AGAIN_S = 10.0
"""What is due and was not dealt with for so long is handed out again."""
PAUSE_S = 0.5
"""Before the broker is asked again after trouble."""
_RELIED_ON = ("subjects", "storage", "max_age", "num_replicas", "allow_msg_schedules")

log = logging.getLogger(__name__)


class TimersUnreachable(Exception):
    """The broker does not answer at the moment; what was asked of it may have been done."""


class Timer(Struct, frozen=True):
    """What is to be sent, as it lies in the stream: the command as JSON, and what goes with it."""

    id: str
    command: Raw
    cause: str = ""
    correlation: str = ""
    trace: str = ""


class Due:
    """A timer whose time has come."""

    def __init__(self, timer: Timer, message: Msg, stream: JetStreamContext) -> None:
        self.timer = timer
        self._message = message
        self._js = stream

    async def done(self) -> None:
        """Take it away for good. Where that fails it comes again."""
        about = self._message.metadata
        with suppress(nats.errors.Error, APIError):
            await self._js.delete_msg(about.stream, about.sequence.stream)
            await self._message.ack()
        still_wanted()


class Timers:
    """The timers of one process. Everything raises `TimersUnreachable`."""

    def __init__(
        self, client: Client, process: str, replicas: int = 1, stream: str = STREAM, again_s: float = AGAIN_S
    ) -> None:
        self._js = client.jetstream(timeout=REQUEST_S)
        self._process = process
        self._stream = stream
        self._again_s = again_s
        self._config = StreamConfig(
            name=stream,
            subjects=[f"{stream}.>"],
            storage=StorageType.FILE,
            compression=StoreCompression.S2,
            num_replicas=replicas,
            max_age=0,
            allow_msg_schedules=True,
        )

    async def open(self) -> None:
        """Make the stream where there is none. Raises `StreamMisconfigured`, too."""
        deadline = asyncio.get_running_loop().time() + ENSURE_TIMEOUT_S
        while True:
            try:
                found = await self._ensured()
                break
            except (nats.errors.Error, APIError, TimeoutError) as error:
                still_wanted()
                if asyncio.get_running_loop().time() > deadline:
                    raise TimersUnreachable(f"the stream {self._stream} is led by no server: {error}") from error
                await asyncio.sleep(ENSURE_AGAIN_S)
        for field in _RELIED_ON:
            if getattr(found, field) != getattr(self._config, field):
                wanted = f"{field}={getattr(found, field)}, wanted {getattr(self._config, field)}"
                raise StreamMisconfigured(f"stream {self._stream} has {wanted}")

    async def set(self, key: str, due: datetime, timer: Timer) -> None:
        """Not before `due`, and up to a second later. A key is an id."""
        at = (due.astimezone(UTC) + timedelta(microseconds=999_999)).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers = {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": self._subject("due", key)}
        try:
            await self._js.publish(self._subject("set", key), msgspec.json.encode(timer), headers=headers)
        except (nats.errors.Error, APIError, TimeoutError) as error:
            still_wanted()
            raise TimersUnreachable(f"a timer for {key} cannot be set: {error!r}") from error

    async def cancel(self, key: str) -> None:
        try:
            await self._js.purge_stream(self._stream, subject=self._subject("set", key))
        except (nats.errors.Error, APIError, TimeoutError) as error:
            still_wanted()
            raise TimersUnreachable(f"the timer for {key} cannot be cancelled: {error!r}") from error

    async def due(self) -> AsyncIterator[list[Due]]:
        """What is due, for ever, as it comes. What is not `done` comes again. A broker that is away is waited for."""
        while True:
            try:
                async for due in self._due():
                    yield due
            except (nats.errors.Error, APIError, TimeoutError) as error:
                still_wanted()
                log.warning("timers of %s: %r", self._process, error)
                await asyncio.sleep(PAUSE_S)

    async def _due(self) -> AsyncIterator[list[Due]]:
        subject = self._subject("due", ">")
        durable = f"{self._stream}-{self._process}"
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=self._again_s, max_ack_pending=DUE_MAX)
        consumer = await self._js.pull_subscribe(subject, durable, stream=self._stream, config=config)
        try:
            while True:
                try:
                    messages = await consumer.fetch(DUE_MAX, timeout=WAIT_S)
                except TimeoutError:  # Nothing was due, which is how it should be.
                    still_wanted()
                    continue
                yield [due for message in messages if (due := await self._read(message)) is not None]
        finally:
            await consumer.unsubscribe()

    async def _read(self, message: Msg) -> Due | None:
        try:
            timer = msgspec.json.decode(message.data, type=Timer)
        except msgspec.DecodeError as error:
            log.error("timers of %s: %s cannot be read and is dropped: %s", self._process, message.subject, error)
            await message.term()
            return None
        return Due(timer, message, self._js)

    async def _ensured(self) -> StreamConfig:
        try:
            return (await self._js.stream_info(self._stream)).config
        except NotFoundError:
            try:
                return (await self._js.add_stream(self._config)).config
            except APIError as error:
                if error.err_code in (STREAM_NAME_IN_USE, NO_PEERS):  # Another was first, or a server is missing.
                    raise
                raise StreamMisconfigured(f"stream {self._stream} cannot be made: {error.description}") from error

    def _subject(self, kind: str, key: str) -> str:
        return f"{self._stream}.{kind}.{self._process}.{key}"
