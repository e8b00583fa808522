"""Pulling records from a stream: a consumer, the requests for more, and what they bring, looked at one by one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import NoReturn, Protocol

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus.logs.log import READ_RECORDS_MAX, LogDamaged, Record
from bus.logs.looks import head_of, record_at, sure
from bus.servers.bulk import BulkConnection
from bus.servers.connection import still_wanted

HEARTBEAT_S = 1.0
LOOK_AFTER_HEARTBEATS = 5
"""So much silence, and a reader at the log's end looks whether the log is still what it was."""
PULL_EXPIRES_S = 30.0
OWN_BYTES_MAX = 16 * 1024 * 1024
SHARED_BYTES_MAX = 1024 * 1024
"""Of one request. Some forty readers share a connection, and a server closes one that is behind by 64 MiB."""

log = logging.getLogger(__name__)


class Message(Protocol):
    """What comes. Without a `reply` it is a status, which its headers tell."""

    @property
    def subject(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...


Arrived = Callable[[Iterable[Message]], None]
Lost = Callable[[Exception], None]


class Missed(Exception):
    """Records behind `position` are in the log, and did not come: who read again gets them. A server that closes a
    connection has told its consumer already of what it had yet to send."""

    def __init__(self, position: int, said: str) -> None:
        super().__init__(said)
        self.position = position


class Line(Protocol):
    """What requests go out by, and messages come in."""

    bytes_max: int
    """What one request may bring."""

    async def listen(self, arrived: Arrived, lost: Lost) -> None: ...

    async def ask(self, subject: str, request: bytes) -> None:
        """What answers it goes to whom `listen` was given; nothing before that."""
        ...

    async def stop(self) -> None: ...


class SharedLine:
    """The client's connection, for what trickles: whoever follows a log."""

    bytes_max = SHARED_BYTES_MAX

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()

    async def listen(self, arrived: Arrived, lost: Lost) -> None:
        async def one(message: Msg) -> None:
            arrived((message,))

        self._subscription = await self._client.subscribe(self._inbox, cb=one)

    async def ask(self, subject: str, request: bytes) -> None:
        await self._client.publish(subject, request, reply=self._inbox)

    async def stop(self) -> None:
        subscription = getattr(self, "_subscription", None)
        if subscription is not None and not self._client.is_closed:
            await subscription.unsubscribe()


class OwnLine:
    """A connection of its own, for what pours: long stretches of a log."""

    bytes_max = OWN_BYTES_MAX

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._connection: BulkConnection | None = None

    async def listen(self, arrived: Arrived, lost: Lost) -> None:
        self._connection = await BulkConnection.open(self._client, arrived, lost)
        self._connection.subscribe(self._inbox)

    async def ask(self, subject: str, request: bytes) -> None:
        assert self._connection is not None
        self._connection.publish(subject, request, self._inbox)

    async def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Pull:
    """One ephemeral, unacknowledged pull consumer and the messages on their way from it.

    Pulling is the flow control: at most one window of records and bytes is ever in this process.
    """

    def __init__(self, client: Client, line: Line, stream: str, position: int, replicas: int) -> None:
        self._client = client
        self._line = line
        self._stream = stream
        self._position = position
        self._replicas = replicas
        self._manager = client.jetstream(timeout=5)
        self._arrived: list[Message] = []  # Bounded by the window that is asked for.
        self._some = asyncio.Event()
        self._lost: Exception | None = None
        self._asked = 0
        self._heartbeats = 0
        """Since the last record."""
        self._heartbeats_max = LOOK_AFTER_HEARTBEATS
        self._consumer = ""

    async def start(self, until: int | None) -> None:
        """Raises `LogDamaged` where the broker would fall silent on its way to `until`."""
        await sure(lambda: self._look(until or 0), self._replicas)
        if until is not None:
            self._heartbeats_max = 1  # There is more, so silence is no good sign.

        await self._line.listen(self._take_in, self._give_up)
        info = await self._manager.add_consumer(
            self._stream,
            ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._position + 1,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=30,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self._consumer = info.name
        still_wanted()
        await self._ask()

    async def stop(self) -> None:
        try:
            await self._line.stop()
            if self._consumer and self._client.is_connected:
                delete = f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}"
                await self._client.publish(delete, b"")  # Nobody waits for it: idle consumers end by themselves.
        except (nats.errors.Error, OSError) as error:
            log.debug("a consumer of %s was left to end by itself: %s", self._stream, error)

    async def batches(self) -> AsyncGenerator[list[Record], None]:
        """Raises `Missed`, `LogDamaged`, or what the client raises."""
        while True:
            async with asyncio.timeout(2.5 * HEARTBEAT_S):
                await self._some.wait()
            self._some.clear()
            if self._lost is not None:
                raise self._lost
            arrived, self._arrived = self._arrived, []
            batch: list[Record] = []
            for message in arrived:
                if message.reply:
                    record = self._take(message)
                    if record.sequence != self._position + 1:
                        await self._explain(record.sequence)
                    self._position = record.sequence
                    batch.append(record)
                else:
                    self._status(message)
            if self._heartbeats >= self._heartbeats_max:
                self._heartbeats = 0
                await sure(lambda: self._look(self._position + 1), self._replicas)
            while self._asked <= READ_RECORDS_MAX:
                await self._ask()
            if batch:
                yield batch

    async def _look(self, sequence: int) -> None:
        """Raise `LogDamaged` when the log has lost what was read, or has this record and cannot read it."""
        head = await head_of(self._manager, self._stream)
        if head < self._position:
            raise LogDamaged(f"{self._stream} ends at {head}, but {self._position} was read before: records are gone")
        if self._position < sequence <= head and await record_at(self._manager, self._stream, sequence) is None:
            raise LogDamaged(f"record {sequence} of {self._stream} cannot be read: records are gone")

    async def _ask(self) -> None:
        self._asked += READ_RECORDS_MAX
        request = {
            "batch": READ_RECORDS_MAX,
            "max_bytes": self._line.bytes_max,
            "expires": int(PULL_EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        await self._line.ask(subject, msgspec.json.encode(request))

    def _take_in(self, messages: Iterable[Message]) -> None:
        self._arrived += messages
        self._some.set()

    def _give_up(self, error: Exception) -> None:
        self._lost = error
        self._some.set()

    def _take(self, message: Message) -> Record:
        # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>, or with the domain
        # and the account before the stream and a random token at the end (ADR-15).
        tokens = message.reply.split(".")
        sequence, pending = (tokens[5], tokens[8]) if len(tokens) == 9 else (tokens[7], tokens[10])
        self._asked -= 1
        self._heartbeats = 0
        partition = message.subject.rpartition(".")[2]
        return Record(int(sequence), int(partition), message.data, int(pending))

    async def _explain(self, sequence: int) -> NoReturn:
        """Why this record came, and not the next one."""
        await sure(lambda: self._look(self._position + 1), self._replicas)
        raise Missed(self._position, f"{self._stream} went from {self._position} to {sequence}")

    def _status(self, message: Message) -> None:
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status in ("404", "408") or (status == "409" and "Nats-Pending-Messages" in headers):
            self._asked -= int(headers.get("Nats-Pending-Messages", "0"))  # That request is over; ask again.
        elif status == "100":
            self._heartbeats += 1
        else:
            raise nats.errors.Error(f"consumer ended: {status} {headers.get('Description', '')}")
