"""The log on JetStream: a stream a domain, a subject a partition, a message a block."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg, StorageType
from nats.js.errors import NotFoundError
from nats.js.manager import JetStreamManager

from bus.logs.blocks import hash_of
from bus.logs.log import (
    READ_RECORDS_MAX,
    Appended,
    AppendOutcome,
    Conflict,
    LogDamaged,
    LogUnreachable,
    Record,
    Uncertain,
    Unstored,
)
from bus.logs.streams import SURE_AFTER_S, WRONG_LAST_SEQUENCE, Epoch, ensure_log, log_stream
from bus.logs.witness import Acknowledged, check
from bus.servers.connection import BrokerUnreachable, still_wanted

APPEND_TIMEOUT_S = 2.0
HEARTBEAT_S = 1.0
PULL_EXPIRES_S = 30.0
PULL_BYTES_MAX = 16 * 1024 * 1024
RETRY_S = 0.1

REFUSED_AT_THE_DOOR = {10002: "log_full", 10054: "log_refused", 10109: "log_refused"}
"""Error codes of what the server checks before it writes a block or proposes it to its peers: the account's limit, the
stream's largest message, a sealed stream."""
REFUSED_BY_ONE = {10023: "log_full"}
"""Error codes that each replica comes to by itself (the server's own limit): final where there is just one, while of
several another may have stored the block."""
LEASE_S = 3.0
"""For how long a leader that has heard from most replicas is surely the only one: they wait 4 s before they elect
another. One that has not may be a former leader, cut off, whose end of the log is not the end any more."""
LOOK_AFTER_HEARTBEATS = 5
"""So much silence, and a reader at the log's end looks whether the log is still what it was."""
STORE_FAILED = 10077
"""The stream's limit, checked at the door, or a write that went wrong half-way: the stream's last block tells."""

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class _Problem(Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _PubAck(Struct, frozen=True):
    seq: int = 0
    error: _Problem | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


class JetStreamLog:
    """One domain's log. Make it with `JetStreamLog.open`, which makes the stream where there is none."""

    def __init__(self, client: Client, name: str, epoch: Epoch, replicas: int = 1) -> None:
        self._client = client
        self._name = name
        self._epoch = epoch
        self._replicas = replicas
        self._manager = client.jetstream(timeout=5)

    @classmethod
    async def open(
        cls,
        client: Client,
        domain: str,
        *,
        partitions: int = 1,
        replicas: int = 1,
        storage: StorageType = StorageType.FILE,
        remembered: Sequence[Acknowledged] = (),
        make: bool = True,
    ) -> JetStreamLog:
        """The log, if it holds what a witness remembers of it; made if there is none and nothing is remembered, by
        whoever may `make` streams.

        Raises `StreamMisconfigured`, `LogDamaged`, `BrokerUnreachable`, or the client's errors when no server answers.
        """
        config = log_stream(domain, replicas, storage)
        make, known = make and not remembered, bool(remembered)
        log = cls(client, domain, await ensure_log(client, config, partitions, make=make, known=known), replicas)
        try:
            await _sure(lambda: check(log, remembered), replicas)
        except LogUnreachable as error:
            raise BrokerUnreachable(f"the log {domain} does not answer: {error}") from error
        return log

    @property
    def name(self) -> str:
        return self._name

    @property
    def epoch(self) -> str:
        return self._epoch.epoch

    @property
    def partitions(self) -> int:
        return self._epoch.partitions

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        try:
            answer = await self._client.request(
                self._subject(partition),
                block,
                timeout=APPEND_TIMEOUT_S,
                headers={"Nats-Msg-Id": block_hash, "Nats-Expected-Last-Subject-Sequence": str(expected)},
            )
            ack = _decode_ack(answer.data)
        except nats.errors.NoRespondersError:
            return Unstored("log_unavailable", "no stream takes the block")
        except (nats.errors.Error, OSError, msgspec.DecodeError) as error:
            return Uncertain(type(error).__name__)
        if ack.error is None:
            return Appended(ack.seq)  # Also for a duplicate: its sequence is the first one's.
        if ack.error.err_code in WRONG_LAST_SEQUENCE:
            return await self._conflict(partition, block_hash)
        return await self._refusal(partition, block_hash, ack.error)

    async def _conflict(self, partition: int, block_hash: str) -> AppendOutcome:
        """An identical block that was stored after all is refused as well: the expectation is checked first."""
        try:
            last = await self.last(partition)
        except LogUnreachable as error:
            return Uncertain(str(error))
        if last is not None and hash_of(last.data) == block_hash:
            return Appended(last.sequence)
        return Conflict()

    async def _refusal(self, partition: int, block_hash: str, problem: _Problem) -> AppendOutcome:
        """What another error says: definitely no only where no server can have stored the block."""
        code, detail = problem.err_code, f"{problem.err_code} {problem.description}"
        if code in REFUSED_AT_THE_DOOR:
            return Unstored(REFUSED_AT_THE_DOOR[code], detail)
        if self._replicas > 1:
            return Uncertain(detail)
        if code in REFUSED_BY_ONE:
            return Unstored(REFUSED_BY_ONE[code], detail)
        if code == STORE_FAILED:
            try:
                last = await self.last(partition)
            except LogUnreachable as error:
                return Uncertain(str(error))
            if last is None or hash_of(last.data) != block_hash:
                return Unstored("log_full", detail)
        return Uncertain(detail)

    async def last(self, partition: int) -> Record | None:
        try:
            with _reachable():
                return _record(await self._manager.get_last_msg(self._name, self._subject(partition)))
        except NotFoundError:
            return None

    async def head(self) -> int:
        """Raises `LogDamaged` when the stream is gone, or the broker knows of a hole."""
        return await _sure(lambda: _head(self._manager, self._name), self._replicas)

    async def get(self, sequence: int) -> Record | None:
        return await _get(self._manager, self._name, sequence)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        position = max(after, 1)
        while until is None or position < until:
            pull = _Pull(self._client, self._name, position, self._replicas)
            try:
                await pull.start(until)
                async for batch in pull.batches():
                    if until is not None:
                        batch = [record for record in batch if record.sequence <= until]
                    if batch:
                        position = batch[-1].sequence
                        yield batch
                    if until is not None and position >= until:
                        return
            except (nats.errors.Error, OSError, LogUnreachable) as error:
                log.info(
                    "reader of %s at %d starts again: %s", self._name, position, str(error) or type(error).__name__
                )
                await asyncio.sleep(RETRY_S)
            finally:
                await pull.stop()

    def _subject(self, partition: int) -> str:
        return f"log.{self._name}.{partition}"


class _Pull:
    """One ephemeral, unacknowledged pull consumer and the messages on their way from it.

    Pulling is the flow control: at most one window of records and bytes is ever in this process.
    """

    def __init__(self, client: Client, stream: str, position: int, replicas: int) -> None:
        self._client = client
        self._stream = stream
        self._position = position
        self._replicas = replicas
        self._manager = client.jetstream(timeout=5)
        self._inbox = client.new_inbox()
        self._arrived: list[Msg] = []  # Bounded by the window that is asked for.
        self._some = asyncio.Event()
        self._asked = 0
        self._heartbeats = 0
        """Since the last record."""
        self._heartbeats_max = LOOK_AFTER_HEARTBEATS
        self._consumer = ""

    async def start(self, until: int | None) -> None:
        """Raises `LogDamaged` where the broker would fall silent on its way to `until`."""
        await _sure(lambda: self._look(until or 0), self._replicas)
        if until is not None:
            self._heartbeats_max = 1  # There is more, so silence is no good sign.

        async def arrived(message: Msg) -> None:
            self._arrived.append(message)
            self._some.set()

        self._subscription = await self._client.subscribe(self._inbox, cb=arrived)
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
        subscription = getattr(self, "_subscription", None)
        if subscription is None or self._client.is_closed:
            return
        try:
            await subscription.unsubscribe()
            if self._consumer and self._client.is_connected:
                delete = f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}"
                await self._client.publish(delete, b"")  # Nobody waits for it: idle consumers end by themselves.
        except (nats.errors.Error, OSError) as error:
            log.debug("a consumer of %s was left to end by itself: %s", self._stream, error)

    async def batches(self) -> AsyncGenerator[list[Record], None]:
        while True:
            async with asyncio.timeout(2.5 * HEARTBEAT_S):
                await self._some.wait()
            self._some.clear()
            arrived, self._arrived = self._arrived, []
            batch: list[Record] = []
            for message in arrived:
                if message.reply:
                    batch.append(self._take(message))
                else:
                    self._status(message)
            if self._heartbeats >= self._heartbeats_max:
                self._heartbeats = 0
                await _sure(lambda: self._look(self._position + 1), self._replicas)
            while self._asked <= READ_RECORDS_MAX:
                await self._ask()
            if batch:
                yield batch

    async def _look(self, sequence: int) -> None:
        """Raise `LogDamaged` when the log has lost what was read, or has this record and cannot read it."""
        head = await _head(self._manager, self._stream)
        if head < self._position:
            raise LogDamaged(f"{self._stream} ends at {head}, but {self._position} was read before: records are gone")
        if self._position < sequence <= head and await _get(self._manager, self._stream, sequence) is None:
            raise LogDamaged(f"record {sequence} of {self._stream} cannot be read: records are gone")

    async def _ask(self) -> None:
        self._asked += READ_RECORDS_MAX
        request = {
            "batch": READ_RECORDS_MAX,
            "max_bytes": PULL_BYTES_MAX,
            "expires": int(PULL_EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            msgspec.json.encode(request),
            reply=self._inbox,
        )

    def _take(self, message: Msg) -> Record:
        # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>, or with the domain
        # and the account before the stream and a random token at the end (ADR-15).
        tokens = message.reply.split(".")
        sequence, pending = (tokens[5], tokens[8]) if len(tokens) == 9 else (tokens[7], tokens[10])
        self._asked -= 1
        self._heartbeats = 0
        self._position += 1
        if int(sequence) != self._position:
            raise LogDamaged(f"{self._stream} goes from {self._position - 1} to {sequence}: records are gone")
        partition = message.subject.rpartition(".")[2]
        return Record(self._position, int(partition), message.data, int(pending))

    def _status(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status in ("404", "408") or (status == "409" and "Nats-Pending-Messages" in headers):
            self._asked -= int(headers.get("Nats-Pending-Messages", "0"))  # That request is over; ask again.
        elif status == "100":
            self._heartbeats += 1
        else:
            raise nats.errors.Error(f"consumer ended: {status} {headers.get('Description', '')}")


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
        still_wanted()
    except NotFoundError:
        still_wanted()
        raise
    except (nats.errors.Error, OSError) as error:
        raise LogUnreachable(str(error) or type(error).__name__) from error


async def _sure(look: Callable[[], Awaitable[Result]], replicas: int) -> Result:
    """Raise the `LogDamaged` that a look raises only when it stays so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (SURE_AFTER_S if replicas > 1 else 0.0)
    while True:
        try:
            return await look()
        except LogDamaged:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(RETRY_S)


async def _get(manager: JetStreamManager, stream: str, sequence: int) -> Record | None:
    if sequence < 2:
        return None
    try:
        with _reachable():
            return _record(await manager.get_msg(stream, sequence))
    except NotFoundError:
        return None


async def _head(manager: JetStreamManager, stream: str) -> int:
    """The last sequence, from a leader that surely leads. Raises `LogUnreachable`, `LogDamaged`."""
    try:
        with _reachable():
            info = await manager.stream_info(stream)
    except NotFoundError as error:
        raise LogDamaged(f"stream {stream} is gone") from error
    peers = (info.cluster and info.cluster.replicas) or []
    heard = sum(0 < (peer.active or 0) < LEASE_S * 1e9 for peer in peers)
    if peers and 1 + heard <= (1 + len(peers)) // 2:
        raise LogUnreachable(f"who leads {stream} has not heard from most of its replicas")
    state = info.state
    if state.first_seq != 1 or state.messages != state.last_seq:
        raise LogDamaged(f"{stream} holds {state.messages} of {state.last_seq} records: records are gone")
    return state.last_seq


def _record(message: RawStreamMsg) -> Record:
    partition = (message.subject or "").rpartition(".")[2]
    return Record(message.seq or 0, int(partition), message.data or b"")
