"""What a log is to everything above it, and one that lives in memory.

A log is a numbered list of records; a record is a block of one of its partitions. Positions are the server's: given
in commit order under one lock, so nothing is ever skipped. The first record is the log's epoch, so blocks start at 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

EPOCH_SEQUENCE = 1
"""Of a log's first record, its epoch: there is nothing of it to show."""
READ_RECORDS_MAX = 256
"""Records that a reader asks for in one go; up to two such windows are on their way to it, and in its batches."""


WHAT_TO_DO = (
    "restore the broker's store, which `tally doctor` then checks; or accept the loss: stop everything and remove"
    " `witness`, `read` and `reactors.db` from the data folder"
)


class LogDamaged(Exception):
    """The log is not what it was: a gap, a broken chain, another epoch. Never served, never written to again.

    Made with what is wrong; as text it says what to do, too, wherever it ends up.
    """

    def __str__(self) -> str:
        return f"{super().__str__()}: {WHAT_TO_DO}"


class LogUnreachable(Exception):
    """The log does not answer at the moment."""


class Record(NamedTuple):
    """One block as it lies in the log. `pending` is how many records the log holds after it, when it was read."""

    sequence: int
    partition: int
    data: bytes
    pending: int = 0


class Appended(NamedTuple):
    """The block is on disk at this sequence."""

    sequence: int


class Conflict(NamedTuple):
    """Somebody else wrote to the partition first; nothing was stored."""


class Unstored(NamedTuple):
    """The log said definitely no, for a reason of its own: nothing was stored, and nothing will be later.

    `reason` is a code: `log_full`, `log_unavailable` (nobody there to take the block) or `log_refused`; `detail` is
    for people.
    """

    reason: str
    detail: str = ""


class Uncertain(NamedTuple):
    """Nobody can tell yet whether the block was stored. Read the partition's last block before going on."""

    reason: str


AppendOutcome = Appended | Conflict | Unstored | Uncertain


class Log(Protocol):
    """An append-only log of one domain.

    What reads raises `LogUnreachable` while nobody answers; `read` waits that out by itself. Both it and `append`
    leave no doubt: a record that is missing or out of order is `LogDamaged`.
    """

    @property
    def name(self) -> str: ...

    @property
    def epoch(self) -> str: ...

    @property
    def partitions(self) -> int: ...

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        """Store `block` if the partition's last sequence is `expected` (0: none yet). Never raises for the wire."""
        ...

    async def last(self, partition: int) -> Record | None:
        """The partition's last block, from whoever is sure to know."""
        ...

    async def head(self) -> int:
        """The log's last sequence."""
        ...

    async def get(self, sequence: int) -> Record | None: ...

    def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        """Batches of records after a position, in order, without gaps; for ever, or up to and with `until`.

        A position beyond the log's end is `LogDamaged`: what was read there is gone.
        """
        ...


class MemoryLog:
    """A log in memory: what the contract tests hold against the server, and what engine tests run on."""

    def __init__(self, name: str, epoch: str = "memory", bytes_max: int | None = None) -> None:
        self._name = name
        self._epoch = epoch
        self._bytes_max = bytes_max
        self._records: list[Record] = [Record(1, -1, epoch.encode())]
        self._grown = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def partitions(self) -> int:
        return 1 + max((record.partition for record in self._records[1:]), default=0)

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        await asyncio.sleep(0)
        last = self._last(partition)
        if last is not None and last.data == block:
            return Appended(last.sequence)
        if (last.sequence if last else 0) != expected:
            return Conflict()
        if self._bytes_max is not None and len(block) + sum(len(each.data) for each in self._records) > self._bytes_max:
            return Unstored("log_full")
        self._records.append(Record(len(self._records) + 1, partition, block))
        self._grown.set()
        self._grown = asyncio.Event()
        return Appended(len(self._records))

    async def last(self, partition: int) -> Record | None:
        await asyncio.sleep(0)
        return self._last(partition)

    async def head(self) -> int:
        await asyncio.sleep(0)
        return len(self._records)

    async def get(self, sequence: int) -> Record | None:
        await asyncio.sleep(0)
        return self._records[sequence - 1] if 2 <= sequence <= len(self._records) else None

    async def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        position = max(after, 1)
        while until is None or position < until:
            grown = self._grown
            batch = self._records[position : position + READ_RECORDS_MAX]
            if until is not None:
                batch = batch[: until - position]
            if not batch:
                if len(self._records) < position:
                    raise LogDamaged(f"{self._name} ends at {len(self._records)}, but {position} was read before")
                await grown.wait()
                continue
            position = batch[-1].sequence
            head = len(self._records)
            yield [record._replace(pending=head - record.sequence) for record in batch]

    def _last(self, partition: int) -> Record | None:
        return next((record for record in reversed(self._records) if record.partition == partition), None)
