"""One read of a log for all that is built from it: decoded once, in large batches, and one batch ahead of the writer.

A block is folded as soon as it is decoded. What it does is gathered until it is worth a transaction, however small each
block is: a quiet log has one commit in a block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from bus.logs.blocks import Block, Chain
from bus.logs.brief import BriefBlock, BriefDecoder
from bus.logs.log import Log, Record
from projections.batches import Batch, FoldedBatch, ReadBlock
from projections.feed import Decoder, continues
from projections.grouping import Folding, fields_of
from projections.parking import is_poison
from projections.projection import Projection
from projections.store import Position

AnyBlock = Block[object] | BriefBlock[object]


class Most(NamedTuple):
    """What a batch holds at most; bytes are of blocks as they lie in the log. Three batches are held: one is written,
    one waits, one is gathered."""

    commits: int
    bytes: int


DECODED = Most(16_384, 16 * 1024 * 1024)
"""Commits that are kept as they were decoded take ten times their bytes."""
FOLDED = Most(65_536, 32 * 1024 * 1024)
"""The more are folded together, the seldomer is a row written that moves on soon."""
TURN_BYTES = 256 * 1024
"""Decoded in one go; then it is the turn of whatever else runs on the loop."""

log = logging.getLogger(__name__)


async def gathered(
    source: Log, decoder: Decoder, projections: Sequence[Projection], position: Position, until: int
) -> AsyncGenerator[Batch, None]:
    """Checked batches from behind a position up to and with `until`, folded for these read models, as far as can be.

    Raises `LogDamaged`.
    """
    await continues(source, position)
    chain = Chain(source.epoch, position.tips, whole=position.sequence == 0)
    gathering, turn = _Gathering(decoder, projections), 0
    async with aclosing(source.read(position.sequence, until)) as reading:
        async for records in reading:
            for record in records:
                gathering.add(chain.follow(record, gathering.decode), record)
                if gathering.full:
                    yield gathering.taken(chain)
                turn += len(record.data)
                if turn >= TURN_BYTES:
                    turn = 0
                    await asyncio.sleep(0)
    if gathering.bytes:
        yield gathering.taken(chain)


class _Gathering:
    """A batch in the making."""

    def __init__(self, decoder: Decoder, projections: Sequence[Projection]) -> None:
        self._whole = decoder.decode
        self._folded = [projection for projection in projections if projection.batch is None]
        self._kept = len(self._folded) < len(projections)
        self._brief = _brief(decoder, projections)
        self._most = DECODED if self._brief is None else FOLDED
        self.decode: Callable[[bytes], AnyBlock] = self._brief.decode if self._brief is not None else decoder.decode
        self._begin()

    def _begin(self) -> None:
        kinds = self._brief.kinds if self._brief is not None else {}
        self._foldings = {projection: Folding(projection, kinds) for projection in self._folded}
        self._records: list[Record] = []
        self._blocks: list[ReadBlock] = []
        self._events = self._commits = self.bytes = 0

    @property
    def full(self) -> bool:
        return self._commits >= self._most.commits or self.bytes >= self._most.bytes

    def add(self, block: AnyBlock, record: Record) -> None:
        try:
            if self._brief is not None:
                for folding in self._foldings.values():
                    folding.add_block(record.sequence, block.at, block.commits)
            else:
                assert isinstance(block, Block)
                read = ReadBlock(record.sequence, block.at, block.commits)
                if self._kept:
                    self._blocks.append(read)
                for folding in self._foldings.values():
                    folding.add(read.recorded)
        except Exception as error:
            if not is_poison(error):
                raise
            log.info("a batch with %d is folded again, to see who is to blame: %r", record.sequence, error)
            self._foldings.clear()
        self._records.append(record)
        for commit in block.commits:
            self._events += len(commit.events)
        self._commits += len(block.commits)
        self.bytes += len(record.data)

    def taken(self, chain: Chain) -> Batch:
        tips = dict(chain.tips)
        folded = {projection: folding.groups for projection, folding in self._foldings.items()}
        if self._kept:
            batch = Batch(self._blocks, tips, folded)
        else:
            batch = FoldedBatch(self._records, tips, self._events, folded, self._whole)
        self._begin()
        return batch


def _brief(decoder: Decoder, projections: Sequence[Projection]) -> BriefDecoder | None:
    """What reads just what these need; None where that is not known of one."""
    wanted: dict[type, set[str]] = {}
    for projection in projections:
        fields = fields_of(projection)
        if fields is None:
            return None
        for kind, names in fields.items():
            wanted.setdefault(kind, set()).update(names)
    return BriefDecoder(decoder, wanted)


async def pour(
    source: Log,
    decoder: Decoder,
    projections: Sequence[Projection],
    position: Position,
    until: int,
    write: Callable[[Batch], Awaitable[bool]],
) -> None:
    """Hand every batch to `write`, in order, while that wants more; the next one is read and decoded meanwhile."""
    reading = gathered(source, decoder, projections, position, until)
    ahead = asyncio.ensure_future(anext(reading, None))
    try:
        while (batch := await ahead) is not None:
            ahead = asyncio.ensure_future(anext(reading, None))
            if not await write(batch):
                break
    finally:
        ahead.cancel()
        await asyncio.wait({ahead})
        if not ahead.cancelled():
            ahead.exception()  # Nobody wants it any more: something else ended this.
        await reading.aclose()
