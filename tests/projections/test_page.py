"""Pages: many of them read in one statement say what their queries say one by one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import Struct

from bus.logs.log import MemoryLog
from projections.page import Page
from projections.reader import Query, Reader
from projections.store import Store
from tests.bus.counter import Added, Scribbled
from tests.bus.written import Written
from tests.projections.tally import batch_of, prefixes_of, tally
from tests.projections.test_reader import live, reader

__all__ = ["reader"]


class Total(Struct, frozen=True):
    counter_id: str
    total: int


class Note(Struct, frozen=True):
    """Its fields are in another order than its columns."""

    text: str
    sequence: int


class Mean(Struct, frozen=True):
    mean: float


TALLY, OTHER = tally(), tally("other")
TOTAL = Query(TALLY, "SELECT * FROM total WHERE counter_id = :id", Total, by_key=True)
NOTES = Query(TALLY, "SELECT * FROM note WHERE counter_id = :id ORDER BY text", Note, by_key=True)
OTHERS = replace(TOTAL, projection=OTHER)
PAGE = Page("id", TOTAL, NOTES, OTHERS)
TEXTS = ["ends", "hard\0ly", 'quotes " and \\', "größe, 漢字 and 😀", "\x01 \u2028"]


async def written(folder: Path) -> tuple[Store, Store]:
    log = Written(MemoryLog("counters"))
    await log.block(
        ("a", [Added("a", 2**62), *(Scribbled("a", text) for text in TEXTS)]),
        ("b", [Added("b", 2)]),
        ("c", [Scribbled("c", "no number")]),
    )
    stores = live(TALLY, folder), live(OTHER, folder)
    for store in stores:
        store.apply(await batch_of(log.log))
    return stores


async def one_by_one(reader: Reader, key: str) -> list[object]:
    return [await reader.all(query, id=key) for query in PAGE.queries]


async def test_pages_that_are_asked_for_together_are_what_their_queries_give(reader: Reader, tmp_path: Path) -> None:
    keys = ["a", "b", "c", "unknown", "a", 'odd " key']
    for store in await written(tmp_path):
        store.close()
    while_unopened = await asyncio.gather(*(reader.page(PAGE, key) for key in keys))
    together = await asyncio.gather(*(reader.page(PAGE, key) for key in keys))
    assert together == while_unopened == [await one_by_one(reader, key) for key in keys]
    totals, notes, others = together[0]
    assert totals == others == [Total("a", 2**62)]
    assert [note.text for note in notes] == sorted(TEXTS)
    assert together[3] == [[], [], []]


async def test_where_the_files_are_open_no_query_is_asked_by_itself(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in await written(tmp_path):
        store.close()
    expected = [await one_by_one(reader, key) for key in "abc"]

    async def alone(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Reader, "all", alone)
    assert await asyncio.gather(*(reader.page(PAGE, key) for key in "abc")) == expected


async def test_a_page_asked_for_after_a_write_shows_it(reader: Reader, tmp_path: Path) -> None:
    log = Written(MemoryLog("counters"))
    for _ in range(30):
        await log.block(("a", [Added("a", 1)]))
    page = Page("id", TOTAL)
    over = asyncio.Event()

    async def read_on() -> None:
        while not over.is_set():
            await reader.page(page, "a")

    with live(TALLY, tmp_path) as store:
        others = [asyncio.create_task(read_on()) for _ in range(8)]
        for number, batch in enumerate(await prefixes_of(log.log), 1):
            await asyncio.to_thread(store.apply, batch)
            assert await reader.page(page, "a") == [[Total("a", number)]]
        over.set()
        await asyncio.gather(*others)


async def test_who_gives_up_waiting_for_a_page_keeps_nobody_from_it(reader: Reader, tmp_path: Path) -> None:
    for store in await written(tmp_path):
        store.close()
    await one_by_one(reader, "a")
    impatient, patient = (asyncio.create_task(reader.page(PAGE, "b")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient)[0] == [Total("b", 2)]
    assert await asyncio.wait_for(reader.page(PAGE, "b"), 5) == await one_by_one(reader, "b")


@pytest.mark.parametrize(
    "query",
    [
        Query(TALLY, "SELECT avg(total) AS mean FROM total WHERE counter_id = :id", Mean, by_key=True),
        Query(TALLY, "SELECT * FROM total WHERE counter_id = :id AND total < :most", Total, by_key=True),
        Query(TALLY, "SELECT * FROM total WHERE counter_id = :other", Total, by_key=True),
        replace(TOTAL, by_key=False),
    ],
)
def test_what_cannot_be_read_together_is_refused(query: Query[Struct]) -> None:
    with pytest.raises(ValueError, match=r"by id alone|whole numbers"):
        Page("id", query)
