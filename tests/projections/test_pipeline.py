"""One read of a log for all builds: whatever the blocks' sizes, batches are worth a transaction, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from bus.blocks import Chain
from bus.log import MemoryLog
from projections import pipeline
from projections.pipeline import gathered, pour
from projections.store import Batch, Position
from tests.bus.counter import Added
from tests.bus.written import Written
from tests.projections.tally import DECODER

START = Position("memory", 0, {}, 0)


async def written(blocks: int, commits: int) -> Written:
    written = Written(MemoryLog("counters"))
    for n in range(blocks):
        await written.block(*((f"c{n}-{m}", [Added(f"c{n}-{m}", 1)]) for m in range(commits)))
    return written


def sizes(batches: list[Batch]) -> list[int]:
    return [sum(len(block.commits) for block in batch.blocks) for batch in batches]


@pytest.mark.parametrize(("blocks", "commits", "wanted"), [(1_000, 1, [400, 400, 200]), (7, 150, [450, 450, 150])])
async def test_blocks_are_gathered_until_there_are_enough_commits(
    blocks: int, commits: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_COMMITS", 400)
    log = (await written(blocks, commits)).log
    batches = [batch async for batch in gathered(log, DECODER, START, await log.head())]
    assert sizes(batches) == wanted
    assert [block.sequence for batch in batches for block in batch.blocks] == list(range(2, blocks + 2))


async def test_blocks_are_gathered_until_there_are_enough_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await written(10, 20)
    record = await whole.log.get(2)
    assert record is not None
    monkeypatch.setattr(pipeline, "BATCH_BYTES", 3 * len(record.data))
    batches = [batch async for batch in gathered(whole.log, DECODER, START, whole.last)]
    assert sizes(batches) == [60, 60, 60, 20]


async def test_it_ends_at_the_position_that_was_wanted_and_goes_on_from_there() -> None:
    whole = await written(10, 1)
    (first,) = [batch async for batch in gathered(whole.log, DECODER, START, 6)]
    assert first.blocks[-1].sequence == 6
    position = Position("memory", 6, dict(first.tips), 5)
    (second,) = [batch async for batch in gathered(whole.log, DECODER, position, whole.last)]
    assert [block.sequence for block in second.blocks] == [7, 8, 9, 10, 11]
    assert dict(second.tips) == {0: whole.prev}


async def test_the_next_batch_is_read_while_one_is_written_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BATCH_COMMITS", 1)
    log = (await written(6, 1)).log
    read: list[int] = []
    seen: list[tuple[int, int]] = []
    follow = Chain.follow

    def following(*arguments: object) -> object:
        read.append(1)
        return follow(*arguments)  # type: ignore[arg-type]  # Handed on as they came.

    monkeypatch.setattr(Chain, "follow", following)

    async def write(batch: Batch) -> bool:
        for _ in range(20):
            await asyncio.sleep(0)
        seen.append((batch.blocks[-1].sequence, len(read)))
        return batch.blocks[-1].sequence < 5

    await pour(log, DECODER, START, await log.head(), write)
    assert seen == [(2, 2), (3, 3), (4, 4), (5, 5)]  # The block at 2 is the first one.


async def test_a_writer_that_fails_ends_the_reading() -> None:
    log = (await written(6, 1)).log

    async def write(_: Batch) -> bool:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await pour(log, DECODER, START, await log.head(), write)
