"""A log that shows its engine one thing and stores another: the seam at which defects of an engine are planted.

It keeps two faces of the hash chain, what the engine believes and what is stored, so that a block can be changed on its
way without the engine's own checks seeing it at once. So a planted defect needs nothing of the engine's insides.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from bus.logs.blocks import GENESIS, hash_of
from bus.logs.log import Appended, AppendOutcome, Conflict, Log, Record

Document = dict[str, Any]
"""A block as JSON."""

_decode = msgspec.json.Decoder(Document).decode
_encode = msgspec.json.Encoder().encode


class Through:
    """A log that does what the one inside does. One is made at each start of an engine and ends with it."""

    def __init__(self, inside: Log) -> None:
        self.inside = inside

    @property
    def name(self) -> str:
        return self.inside.name

    @property
    def epoch(self) -> str:
        return self.inside.epoch

    @property
    def partitions(self) -> int:
        return self.inside.partitions

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        return await self.inside.append(partition, block, block_hash, expected)

    async def last(self, partition: int) -> Record | None:
        return await self.inside.last(partition)

    async def head(self) -> int:
        return await self.inside.head()

    async def get(self, sequence: int) -> Record | None:
        return await self.inside.get(sequence)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        async for batch in self.inside.read(after, until):
            yield batch


class Rewritten(Through):
    """Each block is rewritten on its way in."""

    def __init__(self, inside: Log, rewrite: Callable[[Document], Document]) -> None:
        super().__init__(inside)
        self._rewrite = rewrite
        self._stored_as: dict[str, str] = {}
        self._shown_as: dict[str, str] = {}

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        document = _decode(block)
        document["prev"] = self._stored_as.get(document["prev"], document["prev"])
        stored = _encode(self._rewrite(document))
        self._shown_as[hash_of(stored)] = block_hash
        self._stored_as[block_hash] = hash_of(stored)
        return await self.inside.append(partition, stored, hash_of(stored), expected)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        async for batch in self.inside.read(after, until):
            yield [self._shown(record) for record in batch]

    def _shown(self, record: Record) -> Record:
        document = _decode(record.data)
        document["prev"] = self._shown_as.get(document["prev"], document["prev"])
        shown = _encode(document)
        self._shown_as[hash_of(record.data)] = hash_of(shown)
        self._stored_as[hash_of(shown)] = hash_of(record.data)
        return record._replace(data=shown)


class Early(Through):
    """Says that a block is stored, and stores it with the next one or when it is looked for: unless it dies first."""

    _promised: tuple[int, bytes, str, int] | None = None

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        await self._keep()
        last = await self.inside.last(partition)
        if (last.sequence if last else 0) != expected:
            return Conflict()
        self._promised = partition, block, block_hash, expected
        return Appended(await self.inside.head() + 1)

    async def last(self, partition: int) -> Record | None:
        await self._keep()
        return await self.inside.last(partition)

    async def head(self) -> int:
        await self._keep()
        return await self.inside.head()

    async def get(self, sequence: int) -> Record | None:
        await self._keep()
        return await self.inside.get(sequence)

    async def _keep(self) -> None:
        promised, self._promised = self._promised, None
        if promised is not None:
            await self.inside.append(*promised)


class Unfenced(Through):
    """Stores a block whatever has been written meanwhile."""

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        while True:
            last = await self.inside.last(partition)
            outcome = await self.inside.append(partition, block, block_hash, last.sequence if last else 0)
            if not isinstance(outcome, Conflict):
                return outcome


class Deaf(Through):
    """Takes a conflict for an acknowledgement."""

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        outcome = await self.inside.append(partition, block, block_hash, expected)
        last = await self.inside.last(partition)
        return Appended(last.sequence) if isinstance(outcome, Conflict) and last is not None else outcome


class Stubborn(Through):
    """After a conflict it hangs the same decisions onto the new end of the chain and tries again."""

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        outcome = await self.inside.append(partition, block, block_hash, expected)
        while isinstance(outcome, Conflict):
            last = await self.inside.last(partition)
            document = _decode(block)
            document["prev"] = hash_of(last.data) if last else GENESIS
            mended = _encode(document)
            outcome = await self.inside.append(partition, mended, hash_of(mended), last.sequence if last else 0)
        return outcome


class Dreaming(Through):
    """Once it has read the log it believes that nobody else writes, until an append tells it otherwise."""

    _head: int | None = None

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        outcome = await self.inside.append(partition, block, block_hash, expected)
        self._head = outcome.sequence if isinstance(outcome, Appended) else None
        return outcome

    async def head(self) -> int:
        if self._head is None:
            self._head = await self.inside.head()
        return self._head
