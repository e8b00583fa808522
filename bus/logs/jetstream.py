"""The log on JetStream: a stream a domain, a subject a partition, a message a block."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.js.api import StorageType
from nats.js.errors import NotFoundError

from bus.logs.blocks import hash_of
from bus.logs.log import (
    Appended,
    AppendOutcome,
    Conflict,
    LogDamaged,
    LogUnreachable,
    Record,
    Uncertain,
    Unstored,
)
from bus.logs.looks import RETRY_S, head_of, reachable, record_at, record_of, sure
from bus.logs.pulling import Missed, OwnLine, Pull, SharedLine
from bus.logs.streams import WRONG_LAST_SEQUENCE, Epoch, ensure_log, log_stream
from bus.logs.witness import Acknowledged, check
from bus.servers.connection import BrokerUnreachable

APPEND_TIMEOUT_S = 2.0
POURS_RECORDS = 128
"""A range as long as that is read over a connection of its own: to make one takes as long as some dozen records."""

REFUSED_AT_THE_DOOR = {10002: "log_full", 10054: "log_refused", 10109: "log_refused"}
"""Error codes of what the server checks before it writes a block or proposes it to its peers: the account's limit, the
stream's largest message, a sealed stream."""
REFUSED_BY_ONE = {10023: "log_full"}
"""Error codes that each replica comes to by itself (the server's own limit): final where there is just one, while of
several another may have stored the block."""
STORE_FAILED = 10077
"""The stream's limit, checked at the door, or a write that went wrong half-way: the stream's last block tells."""

MISSED_MAX = 3
"""How often in a row the same record may not come though the log has it."""

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
            await sure(lambda: check(log, remembered), replicas)
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
            with reachable():
                return record_of(await self._manager.get_last_msg(self._name, self._subject(partition)))
        except NotFoundError:
            return None

    async def head(self) -> int:
        """Raises `LogDamaged` when the stream is gone, or the broker knows of a hole."""
        return await sure(lambda: head_of(self._manager, self._name), self._replicas)

    async def get(self, sequence: int) -> Record | None:
        return await record_at(self._manager, self._name, sequence)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        position = max(after, 1)
        missed_at, missed = 0, 0
        while until is None or position < until:
            pours = until is not None and until - position >= POURS_RECORDS
            line = OwnLine(self._client) if pours else SharedLine(self._client)
            pull = Pull(self._client, line, self._name, position, self._replicas)
            try:
                await pull.start(until)
                async for batch in pull.batches():
                    if until is not None and batch[-1].sequence > until:
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
            except Missed as error:
                missed_at, missed = error.position, missed + 1 if error.position == missed_at else 1
                if missed > MISSED_MAX:
                    raise LogDamaged(f"{error}, {missed} times: records are gone") from error
                log.warning("reader of %s at %d starts again: %s", self._name, position, error)
            finally:
                await pull.stop()

    def _subject(self, partition: int) -> str:
        return f"log.{self._name}.{partition}"
