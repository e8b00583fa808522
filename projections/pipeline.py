"""One read of a log for all that is built from it: decoded once, in large batches, and one batch ahead of the writer.

Blocks are gathered until they are worth a transaction, however small each is: a quiet log has one commit in a block.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from bus.blocks import Chain
from bus.log import Log
from projections.feed import Decoder, continues
from projections.store import Batch, Position, ReadBlock

BATCH_COMMITS = 8_192
BATCH_BYTES = 8 * 1024 * 1024
"""Of blocks as they lie in the log. Three batches are held: one is written, one waits, one is gathered."""
TURN_BYTES = 256 * 1024
"""Decoded in one go; then it is the turn of whatever else runs on the loop."""


async def gathered(source: Log, decoder: Decoder, position: Position, until: int) -> AsyncGenerator[Batch, None]:
    """Checked batches from behind a position up to and with `until`. Raises `LogDamaged`."""
    await continues(source, position)
    chain = Chain(source.epoch, position.tips, whole=position.sequence == 0)
    blocks: list[ReadBlock] = []
    commits = size = turn = 0
    async with aclosing(source.read(position.sequence, until)) as reading:
        async for records in reading:
            for record in records:
                block = chain.follow(record, decoder.decode)
                blocks.append(ReadBlock(record.sequence, block.at, block.commits))
                commits += len(block.commits)
                size += len(record.data)
                turn += len(record.data)
                if commits >= BATCH_COMMITS or size >= BATCH_BYTES:
                    yield Batch(blocks, dict(chain.tips))
                    blocks, commits, size = [], 0, 0
                if turn >= TURN_BYTES:
                    turn = 0
                    await asyncio.sleep(0)
    if blocks:
        yield Batch(blocks, dict(chain.tips))


async def pour(
    source: Log, decoder: Decoder, position: Position, until: int, write: Callable[[Batch], Awaitable[bool]]
) -> None:
    """Hand every batch to `write`, in order, while that wants more; the next one is read and decoded meanwhile."""
    reading = gathered(source, decoder, position, until)
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
