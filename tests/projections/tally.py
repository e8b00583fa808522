"""A small read model over the counters' log, and how to hand it what a log holds."""

from __future__ import annotations

from collections.abc import Iterable

from bus.logs.blocks import Chain, block_decoder
from bus.logs.log import Log
from projections.batches import Batch, ReadBlock
from projections.feed import Decoder
from projections.projection import Fact, Projection, Statement, bound
from tests.bus.counter import Added, Scribbled, counters

DECODER: Decoder = block_decoder(counters().events)


class Indigestible(Exception):
    """The handler's defect."""


def scribbled(fact: Fact) -> Iterable[Statement]:
    """Note it; a text that says so cannot be handled."""
    assert isinstance(fact.event, Scribbled)
    if fact.event.text == "indigestible":
        raise Indigestible
    yield bound("INSERT INTO note VALUES (:sequence, :counter_id, :text, :at)", fact)


def tally(name: str = "tally", stream: str = "counters", version: int = 1) -> Projection:
    return Projection(
        name=name,
        version=version,
        stream=stream,
        key="counter_id",
        schema="""
        CREATE TABLE total (counter_id TEXT PRIMARY KEY, total INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE note (sequence INTEGER NOT NULL, counter_id TEXT NOT NULL, text TEXT NOT NULL, at TEXT NOT NULL)
            STRICT;
        """,
        on={
            Added: """
                INSERT INTO total VALUES (:counter_id, :amount)
                ON CONFLICT (counter_id) DO UPDATE SET total = total + excluded.total
            """,
            Scribbled: scribbled,
        },
    )


async def batch_of(log: Log, decoder: Decoder = DECODER) -> Batch:
    """All of a log as one batch."""
    return (await prefixes_of(log, decoder))[-1]


async def prefixes_of(log: Log, decoder: Decoder = DECODER) -> list[Batch]:
    """For each block of a log, the batch of everything up to it."""
    chain = Chain(log.epoch, whole=True)
    blocks: list[ReadBlock] = []
    found: list[Batch] = []
    async for records in log.read(until=await log.head()):
        for record in records:
            block = decoder.decode(record.data)
            chain.check(record.partition, record.sequence, record.data, block.epoch, block.prev)
            blocks.append(ReadBlock(record.sequence, block.at, block.commits))
            found.append(Batch(list(blocks), dict(chain.tips)))
    return found
