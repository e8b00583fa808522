"""Queries: each sees the newest that is written, however many run at once, and none gives more than may be held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import Struct

from bus.logs.log import MemoryLog
from projections.batches import Batch
from projections.files import ReadModelFiles
from projections.projection import Projection
from projections.reader import QUERY_ROWS_MAX, Query, Reader, ReadModelMissing, ResultTooLarge
from projections.store import Store
from tests.bus.counter import Added
from tests.bus.written import Written
from tests.projections.tally import prefixes_of, tally


class Total(Struct, frozen=True):
    counter_id: str
    total: int


TALLY = tally()
TOTALS = Query(TALLY, "SELECT counter_id, total FROM total ORDER BY counter_id", Total)
TOTAL = Query(TALLY, "SELECT counter_id, total FROM total WHERE counter_id = :id", Total)
TOTAL_ON_LOOP = replace(TOTAL, by_key=True)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    await reader.close()


def live(projection: Projection, folder: Path) -> Store:
    files = ReadModelFiles(folder)
    store = Store.create(projection, files.next_build(projection), "memory")
    files.switch(projection.name, store.path)
    return store


async def batches_of(*amounts: int) -> list[Batch]:
    written = Written(MemoryLog("counters"))
    for amount in amounts:
        await written.block(("a", [Added("a", amount)]))
    return await prefixes_of(written.log)


async def test_a_query_begun_after_a_write_sees_it_whatever_else_is_being_read(reader: Reader, tmp_path: Path) -> None:
    """Statements that overlap on one connection would share one moment, for as long as one of them is open."""
    batches = await batches_of(*[1] * 50)
    with live(TALLY, tmp_path) as store:
        store.apply(batches[0])
        over = asyncio.Event()

        async def read_on() -> None:
            while not over.is_set():
                await reader.all(TOTALS)

        others = [asyncio.create_task(read_on()) for _ in range(8)]
        for number, batch in enumerate(batches[1:], 2):
            await asyncio.to_thread(store.apply, batch)
            assert await reader.one(TOTAL, id="a") == Total("a", number)
            assert await reader.sequence("tally") == batch.blocks[-1].sequence
        over.set()
        await asyncio.gather(*others)


async def test_queries_on_the_loop_share_a_moment_and_none_begun_after_a_write_is_in_an_older_one(
    reader: Reader, tmp_path: Path
) -> None:
    batches = await batches_of(*[1] * 50)
    with live(TALLY, tmp_path) as store:
        store.apply(batches[0])
        over = asyncio.Event()
        assert await reader.sequence("tally") == batches[0].blocks[-1].sequence  # From here on the file is open.
        assert await reader.one(TOTAL_ON_LOOP, id="a") == Total("a", 1)
        store.apply(batches[1])
        assert await reader.one(TOTAL_ON_LOOP, id="a") == Total("a", 1)  # Nothing ran in between.
        await asyncio.sleep(0)
        assert await reader.one(TOTAL_ON_LOOP, id="a") == Total("a", 2)

        async def read_on() -> None:
            while not over.is_set():
                await reader.one(TOTAL_ON_LOOP, id="a")
                await asyncio.sleep(0)

        others = [asyncio.create_task(read_on()) for _ in range(8)]
        for number, batch in enumerate(batches[2:], 3):
            await asyncio.to_thread(store.apply, batch)
            assert await reader.one(TOTAL_ON_LOOP, id="a") == Total("a", number)
        over.set()
        await asyncio.gather(*others)


async def test_a_file_that_goes_live_is_read_from_the_next_moment_on(reader: Reader, tmp_path: Path) -> None:
    before, after = await batches_of(1, 2)
    with live(TALLY, tmp_path) as store:
        store.apply(before)
        await reader.sequence("tally")
        assert await reader.one(TOTAL_ON_LOOP, id="a") == Total("a", 1)
        with live(TALLY, tmp_path) as newer:
            newer.apply(after)
            await asyncio.sleep(0)
            assert await reader.one(TOTAL_ON_LOOP, id="a") == Total("a", 3)
            await reader.close()  # In the middle of a moment.
            await asyncio.sleep(0)


async def test_a_query_without_a_limit_gives_no_more_than_may_be_held(reader: Reader, tmp_path: Path) -> None:
    written = Written(MemoryLog("counters"))
    ids = [f"c{number}" for number in range(QUERY_ROWS_MAX + 1)]
    await written.block(*((counter_id, [Added(counter_id, 1)]) for counter_id in ids[:-1]))
    await written.block((ids[-1], [Added(ids[-1], 1)]))
    just_enough, too_many = await prefixes_of(written.log)
    with live(TALLY, tmp_path) as store:
        store.apply(just_enough)
        assert len(await reader.all(TOTALS)) == QUERY_ROWS_MAX
        store.apply(too_many)
        with pytest.raises(ResultTooLarge, match="10000"):
            await reader.all(TOTALS)


async def test_a_read_model_that_is_not_built_is_missing(reader: Reader) -> None:
    with pytest.raises(ReadModelMissing, match="tally"):
        await reader.all(TOTALS)
