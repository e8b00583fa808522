"""The relay: tells on a log what a state-stored service wrote into its outbox, each row once and in their order.

All rows that wait make one block, in the format of every log, and one block is in flight. Once it is on disk they are
marked. The log's expectation makes it exactly once: a block goes behind the last one that is known, or nowhere. Where
that is not the last, or no answer came, and at every start, the log itself says which rows it holds. So a crash between
any two steps costs a look.

It is woken by whoever writes rows; a slow poll is there for what nobody told it of, and looks after the log meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec import Raw

from bus import metrics, tracing
from bus.logs.blocks import (
    BLOCK_BYTES_MAX,
    BLOCK_COMMITS_MAX,
    BLOCK_HEAD_BYTES,
    Block,
    Chain,
    EncodedCommit,
    hash_of,
    seal,
)
from bus.logs.log import Appended, Conflict, Log, LogDamaged, LogUnreachable, Uncertain, Unstored
from bus.outboxes.database import Database, Row, Stand
from domains.kernel import StateStored

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Result = TypeVar("Result")

PARTITION = 0
POLL_S = 5.0
RETRY_S = 0.5

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Block[Raw]).decode


class Relay:
    """`published` hears of rows that are on the log, the first and last number and their position; `durable` of each
    block, by its sequence and hash. `loss_accepted`: the log may have less than was published, and is told it again."""

    def __init__(
        self,
        database: Database[State, Command, Event],
        source: Log,
        *,
        published: Callable[[int, int, int], None] = lambda first, last, sequence: None,
        durable: Callable[[int, str], None] = lambda sequence, block_hash: None,
        loss_accepted: bool = False,
        poll_s: float = POLL_S,
        retry_s: float = RETRY_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        service: StateStored[State, Command, Event] = database.service
        self._name = service.name
        self._database = database
        self._log = source
        self._published = published
        self._durable = durable
        self._loss_accepted = loss_accepted
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._now = now
        self._stand = Stand()
        self._woken = asyncio.Event()
        self._refusing = ""
        """Why the log does not take blocks, as long as it does not."""
        self._backlog = metrics.outbox_backlog.labels(self._name)
        self._lag = metrics.outbox_lag_seconds.labels(self._name)

    @property
    def position(self) -> int:
        """The last block that holds rows of ours."""
        return self._stand.sequence

    def wake(self) -> None:
        """There are new rows."""
        self._woken.set()

    async def open(self) -> None:
        """Find out what the log holds already, until that succeeds. Raises `LogDamaged`, `OutboxDiffers`."""
        self._stand = await self._database.stand()
        if self._stand.epoch != self._log.epoch:
            await self._begin_anew("is another one")
        elif self._stand.sequence and not await self._until_it_answers(self._holds_the_last):
            await self._begin_anew(f"does not hold block {self._stand.sequence} any more, which was published")
        await self.catch_up()

    async def run(self) -> None:
        """Until cancelled. Raises `LogDamaged`, `OutboxDiffers`."""
        while True:
            self._woken.clear()
            try:
                await self.tell_all()
            except sqlite3.Error as error:  # A full disk, say. What was told and is not marked the log tells.
                log.error("the outbox of %s: %s; trying again", self._name, error)
                await asyncio.sleep(self._retry_s)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._woken.wait()
                    continue
            with suppress(LogUnreachable):  # The next look will tell.
                await self._still_there()

    async def tell_all(self) -> None:
        """Publish until nothing waits any more. Raises as `run` does, and the database's errors."""
        while rows := await self._database.unpublished(BLOCK_COMMITS_MAX):
            await self._measure()
            if not await self._tell(rows):
                await asyncio.sleep(self._retry_s)
        await self._measure()

    async def catch_up(self) -> None:
        """Mark what the log holds behind what is known of it, until that succeeds. Raises as `open` does."""
        await self._until_it_answers(self._catch_up)

    async def _begin_anew(self, how: str) -> None:
        """Ask the log from its beginning. What it does not hold is told again: it is all here."""
        if self._stand.sequence:
            if not self._loss_accepted:
                raise LogDamaged(f"the log {self._name} {how}")
            log.warning("the log %s %s: the loss was accepted, and what it lacks is published again", self._name, how)
        await self._database.begin(self._log.epoch)
        self._stand = await self._database.stand()

    async def _holds_the_last(self) -> bool:
        if await self._log.head() < self._stand.sequence:
            return False
        record = await self._log.get(self._stand.sequence)
        return record is not None and hash_of(record.data) == self._stand.tip

    async def _catch_up(self) -> None:
        stand = self._stand
        head = await self._log.head()
        if head < stand.sequence:
            raise LogDamaged(f"the log {self._name} ends at {head}, but {stand.sequence} was published")
        chain = Chain(self._log.epoch, {PARTITION: stand.tip} if stand.sequence else None, whole=True)
        async for batch in self._log.read(stand.sequence, head):
            for record in batch:
                block = chain.follow(record, _decode)
                ids = [commit.id for commit in block.commits]
                numbers = await self._mark(ids, record.sequence, hash_of(record.data))
                self._published(numbers[0], numbers[-1], record.sequence)

    async def _tell(self, rows: Sequence[Row]) -> bool:
        """Publish as many rows as fit into a block, then mark them. Whether the log moved on."""
        ids, commits, at = _commits(rows)
        block = seal(self._log.epoch, at, self._stand.tip, commits)
        block_hash = hash_of(block)
        before = self._stand.sequence
        told = (row.trace for row in rows[: len(ids)])
        with tracing.span(f"publish {self._name}", links=told, attributes={"tally.commits": len(ids)}):
            outcome = await self._log.append(PARTITION, block, block_hash, before)
        match outcome:
            case Appended(sequence):
                self._published(rows[0].number, rows[len(ids) - 1].number, sequence)  # On disk: nobody waits for marks.
                await self._mark(ids, sequence, block_hash)
                metrics.blocks_appended.labels(self._name).inc()
                if self._refusing:
                    log.info("the log %s takes blocks again", self._name)
                    self._refusing = ""
            case Unstored(reason):
                if reason != self._refusing:
                    log.error("the outbox of %s waits: %s", self._name, outcome)
                    self._refusing = reason
                metrics.append_troubles.labels(self._name, "unstored").inc()
            case Conflict() | Uncertain():
                kind = "conflict" if isinstance(outcome, Conflict) else "uncertain"
                log.warning("the outbox of %s: %s; reading the log again", self._name, outcome)
                metrics.append_troubles.labels(self._name, kind).inc()
                await self.catch_up()
        return self._stand.sequence > before

    async def _mark(self, ids: Sequence[str], sequence: int, block_hash: str) -> list[int]:
        """Note that a block holds these commands' rows. Their numbers."""
        numbers = await self._database.publish(ids, sequence, block_hash)
        self._stand = Stand(self._log.epoch, sequence, block_hash, numbers[-1])
        self._durable(sequence, block_hash)
        metrics.outbox_published.labels(self._name).inc(len(numbers))
        return numbers

    async def _measure(self) -> None:
        rows, since = await self._database.backlog()
        self._backlog.set(rows)
        self._lag.set(max(0.0, self._now() - since) if rows else 0.0)

    async def _still_there(self) -> None:
        """Raise `LogDamaged` when the log has lost what was published. It has to be so twice: after an election a
        server may not know better for a moment."""
        for attempt in (1, 2):
            if await self._log.head() >= self._stand.sequence:
                return
            if attempt == 1:
                await asyncio.sleep(self._retry_s)
        raise LogDamaged(f"the log {self._name} does not hold block {self._stand.sequence} any more")

    async def _until_it_answers(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        while True:
            try:
                return await attempt()
            except LogUnreachable as error:
                log.warning("the log %s cannot be read (%s); trying again", self._name, error)
                await asyncio.sleep(self._retry_s)


def _commits(rows: Sequence[Row]) -> tuple[list[str], list[bytes], datetime]:
    """The commits that tell of these rows, as many as a block holds: their ids, their bytes, and when the last was
    written. That is the block's time, so that behind a block nothing follows that was written before it.

    A command's digest stays behind: it is of personal data, and could be compared with what somebody guesses.
    """
    while True:
        at = rows[-1].at
        commits = [_commit(row, at) for row in rows]
        if len(rows) == 1 or BLOCK_HEAD_BYTES + sum(len(commit) + 1 for commit in commits) <= BLOCK_BYTES_MAX:
            return [row.command_id for row in rows], commits, _time(at)
        rows = rows[: len(rows) // 2]


def _commit(row: Row, block_at: float) -> bytes:
    return _encode(
        EncodedCommit(
            id=row.command_id,
            aggregate=row.aggregate,
            version=row.version,
            events=Raw(row.events.encode()),
            actor=row.actor,
            cause=row.cause,
            correlation=row.correlation,
            trace=row.trace,
            occurred_at=None if row.at == block_at else _time(row.at),
        )
    )


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
