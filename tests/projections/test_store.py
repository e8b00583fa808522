"""The store: rows and position in one transaction, and a fold that no batching and no redelivery can change."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.logs.blocks import decoder_of
from bus.logs.log import MemoryLog
from projections.batches import Batch
from projections.projection import Projection
from projections.sales import sales
from projections.store import BlocksSkipped, LeaseLost, OtherFormat, Position, Store
from tests.bus.counter import Added, CounterEvent, Scribbled
from tests.bus.written import Written
from tests.projections.history import DOMAINS, history_of
from tests.projections.tally import Indigestible, batch_of, prefixes_of, tally


@pytest.fixture
def written() -> Written:
    return Written(MemoryLog("counters"))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.create(tally(), tmp_path / "tally@1.1.db", "memory") as opened:
        yield opened


def rows(store: Store, table: str) -> list[tuple[object, ...]]:
    return list(store.rows(table))


async def test_a_new_store_is_empty_and_stands_at_zero(store: Store) -> None:
    assert store.position == ("memory", 0, {}, 0)
    assert store.tables() == ["note", "total"]
    assert {table: count for table, (count, _) in store.digests().items()} == {"note": 0, "total": 0}


async def test_a_batch_writes_its_rows_and_the_position_together(store: Store, written: Written) -> None:
    await written.block(("a", [Added("a", 1), Scribbled("a", "hé")]))
    await written.block(("b", [Added("b", 2)]), ("a", [Added("a", 4)]))
    assert store.apply(await batch_of(written.log)) == 3
    assert rows(store, "total") == [("a", 5), ("b", 2)]
    assert rows(store, "note") == [(2, "a", "hé", "2026-11-21T09:30:00.000000Z")]
    assert store.position == ("memory", 3, {0: written.prev}, 4)


async def test_when_a_handler_without_a_key_fails_neither_rows_nor_position_change(
    tmp_path: Path, written: Written
) -> None:
    await written.block(("a", [Added("a", 1)]))
    with Store.create(replace(tally(), key=""), tmp_path / "keyless@1.1.db", "memory") as store:
        store.apply(await batch_of(written.log))
        before = store.digests(), store.position
        await written.block(("a", [Added("a", 10)]))
        await written.block(("a", [Scribbled("a", "fine"), Scribbled("a", "indigestible")]))
        with pytest.raises(Indigestible):
            store.apply(await batch_of(written.log))
        assert (store.digests(), store.position) == before
        store.apply((await prefixes_of(written.log))[1])
        assert rows(store, "total") == [("a", 11)]


async def test_when_a_statement_fails_neither_rows_nor_position_change(tmp_path: Path, written: Written) -> None:
    strict = Projection(
        "strict",
        1,
        "counters",
        "CREATE TABLE t (id TEXT PRIMARY KEY) STRICT",
        {Added: "INSERT INTO t VALUES (:counter_id)"},
    )
    await written.block(("a", [Added("a", 1)]), ("a", [Added("a", 1)]))
    with Store.create(strict, tmp_path / "strict@1.1.db", "memory") as store:
        with pytest.raises(sqlite3.IntegrityError):
            store.apply(await batch_of(written.log))
        assert rows(store, "t") == []
        assert store.position.sequence == 0


async def test_a_redelivered_batch_changes_nothing(store: Store, written: Written) -> None:
    for n in range(4):
        await written.block(("a", [Added("a", n)]))
    prefixes = await prefixes_of(written.log)
    store.apply(prefixes[-1])
    before = store.digests(), store.position
    for batch in prefixes:
        assert store.apply(batch) == 5
        assert (store.digests(), store.position) == before


async def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path, written: Written) -> None:
    path = tmp_path / "tally@1.1.db"
    await written.block(("a", [Added("a", 1)]))
    with Store.create(tally(), path, "memory") as store:
        store.apply(await batch_of(written.log))
        before = store.digests(), store.position
    with Store.open(tally(), path) as store:
        assert (store.digests(), store.position) == before


async def test_times_are_written_in_utc_wherever_they_were_taken(store: Store, written: Written) -> None:
    brasilia = timezone(timedelta(hours=-3))
    await written.block(("a", [Scribbled("a", "x")]), occurred_at=datetime(2017, 10, 31, 22, tzinfo=brasilia))
    await written.block(("a", [Scribbled("a", "x")]), at=datetime(2017, 11, 1, 2, tzinfo=UTC))
    store.apply(await batch_of(written.log))
    assert [row[3] for row in rows(store, "note")] == ["2017-11-01T01:00:00.000000Z", "2017-11-01T02:00:00.000000Z"]


def test_a_file_that_exists_is_not_made_anew_and_one_that_does_not_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "tally@1.1.db"
    with pytest.raises(FileNotFoundError):
        Store.open(tally(), path)
    Store.create(tally(), path, "memory").close()
    with pytest.raises(FileExistsError):
        Store.create(tally(), path, "memory")


async def test_digests_tell_any_difference_and_nothing_else(tmp_path: Path, written: Written) -> None:
    await written.block(("a", [Added("a", 1)]), ("b", [Added("b", 2)]), ("a", [Scribbled("a", "x")]))
    batch = await batch_of(written.log)
    with (
        Store.create(tally(), tmp_path / "one.1.db", "memory") as one,
        Store.create(tally(), tmp_path / "two.1.db", "memory") as two,
    ):
        one.apply(batch)
        two.apply(batch)
        assert one.digests() == two.digests()
        with sqlite3.connect(two.path) as hand:
            hand.execute("UPDATE total SET total = 3 WHERE counter_id = 'b'")
        hand.close()
        assert one.digests()["total"] != two.digests()["total"]
        assert one.digests()["note"] == two.digests()["note"]


@cache
def history() -> list[Batch]:
    """For each block of a small history of orders, everything up to it."""
    return asyncio.run(_history())


async def _history() -> list[Batch]:
    return await prefixes_of(await history_of("orders", aggregates=15), decoder_of(DOMAINS["orders"]))


def span(begin: int, end: int) -> Batch:
    """The blocks from the one to the other, as a reader that began before them would hand them over."""
    return Batch(history()[-1].blocks[begin:end], history()[end - 1].tips)


def fold(batches: list[Batch]) -> tuple[dict[str, tuple[int, str]], Position]:
    with TemporaryDirectory() as folder, Store.create(sales, Path(folder) / "sales@1.1.db", "memory") as store:
        reached = 0
        for batch in batches:
            store.apply(batch)
            assert store.position.sequence >= reached  # It never goes back.
            reached = store.position.sequence
        return store.digests(), store.position


@settings(max_examples=15, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=8))
def test_however_a_history_is_split_and_redelivered_the_rows_and_the_position_are_the_same(
    deliveries: list[tuple[int, int]],
) -> None:
    """Each delivery begins so many blocks before where the last one ended, and holds so many."""
    blocks = len(history())
    batches: list[Batch] = []
    reached = 0
    for overlap, length in deliveries:
        begin = min(max(0, reached - overlap), blocks - 1)
        end = min(begin + length, blocks)
        batches.append(span(begin, end))
        reached = max(reached, end)
    batches.append(span(min(reached, blocks - 1), blocks))
    assert fold(batches) == fold([span(0, blocks)])


async def test_statements_that_are_executed_together_keep_the_order_of_their_key(tmp_path: Path) -> None:
    """What sets and what adds, mixed at random: the same rows as one statement after the other."""
    statements: dict[type, str | tuple[str, ...]] = {
        Added: """
            INSERT INTO t VALUES (:counter_id, :amount)
            ON CONFLICT (id) DO UPDATE SET n = 2 * n + excluded.n
        """,
        Scribbled: (
            "INSERT INTO t VALUES (:counter_id, 7) ON CONFLICT (id) DO UPDATE SET n = n + 1",
            "UPDATE t SET n = 3 * n % 1000 WHERE id = :counter_id",
        ),
    }
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT"
    random = Random(7)
    written = Written(MemoryLog("counters"))
    for _ in range(40):
        names = [random.choice("abcde") for _ in range(random.randint(1, 6))]
        events: list[CounterEvent] = [
            random.choice((Added(name, random.randint(0, 9)), Scribbled(name, "x"))) for name in names
        ]
        await written.block(*((event.counter_id, [event]) for event in events))
    batch = await batch_of(written.log)
    found = []
    for name, key in (("together", "counter_id"), ("apart", "")):
        projection = Projection(name, 1, "counters", schema, statements, key)
        with Store.create(projection, tmp_path / f"{name}@1.1.db", "memory") as store:
            store.apply(batch)
            found.append(rows(store, "t"))
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_a_key_that_an_event_or_a_statement_lacks_is_a_defect_that_is_told_at_once() -> None:
    schema = "CREATE TABLE t (counter_id TEXT) STRICT"
    with pytest.raises(ValueError, match="Added has no order_id"):
        Projection("keyless", 1, "counters", schema, {Added: "DELETE FROM t"}, "order_id")
    for handler in ("DELETE FROM t", ("INSERT INTO t VALUES (:counter_id)", "DELETE FROM t")):
        with pytest.raises(ValueError, match="no parameter counter_id: DELETE"):
            Projection("keyless", 1, "counters", schema, {Added: handler}, "counter_id")


async def test_a_batch_that_does_not_begin_where_the_read_model_stands_is_refused(
    store: Store, written: Written
) -> None:
    for n in range(4):
        await written.block(("a", [Added("a", n)]))
    whole = await batch_of(written.log)
    for begin in (1, 2, 3):
        with pytest.raises(BlocksSkipped, match=f"stands at 0, the batch begins at {begin + 2}"):
            store.apply(Batch(whole.blocks[begin:], whole.tips))
    store.apply(Batch(whole.blocks[:2], whole.tips))
    with pytest.raises(BlocksSkipped, match="stands at 3, the batch begins at 5"):
        store.apply(Batch(whole.blocks[3:], whole.tips))
    assert rows(store, "total") == [("a", 1)]
    store.apply(whole)
    assert rows(store, "total") == [("a", 6)]


# -- one writer ----------------------------------------------------------------------------------------------------


async def test_a_run_that_was_supplanted_writes_nothing(store: Store, written: Written) -> None:
    await written.block(("a", [Added("a", 1)]))
    store.apply(await batch_of(written.log))
    await written.block(("a", [Added("a", 2), Scribbled("a", "x")]))
    batch = await batch_of(written.log)
    with Store.open(store.projection, store.path) as newer:
        with pytest.raises(LeaseLost, match="under lease 2"):
            store.apply(batch)
        with pytest.raises(LeaseLost), store.owned():
            pass
        with pytest.raises(LeaseLost):
            store.redrive("a", [])
        with pytest.raises(LeaseLost):
            store.discard("a", 2, 0, "late")
        assert newer.position.sequence == 2
        assert newer.apply(batch) == 3
        assert rows(newer, "total") == [("a", 3)]
        with pytest.raises(LeaseLost):
            store.apply(batch)  # Not even a repeat.


async def test_whoever_only_looks_takes_no_lease_and_writes_nothing(store: Store, written: Written) -> None:
    await written.block(("a", [Added("a", 1)]))
    batch = await batch_of(written.log)
    with Store.look(store.projection, store.path) as looking:
        assert looking.position.sequence == 0
        with pytest.raises(LeaseLost):
            looking.apply(batch)
        assert store.apply(batch) == 2
        assert looking.position.sequence == 0  # It sees one moment.
    with Store.look(store.projection, store.path) as looking:
        assert looking.position.sequence == 2


async def test_nobody_takes_the_lease_while_it_is_held_for_a_switch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.store.BUSY_TIMEOUT_S", 0.01)
    with store.owned(), pytest.raises(sqlite3.OperationalError, match="locked"):
        Store.open(store.projection, store.path)
    Store.open(store.projection, store.path).close()


def test_a_file_of_another_release_is_neither_written_nor_read(store: Store) -> None:
    store._connection.execute("PRAGMA user_version = 1")
    for opens in (Store.open, Store.look):
        with pytest.raises(OtherFormat, match="is of format 1, this release writes 2"):
            opens(store.projection, store.path)
