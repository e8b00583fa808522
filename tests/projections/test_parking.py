"""Parking: a key that cannot be handled waits, in order, while others go on; and nothing but a defect is parked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.logs.log import LogDamaged, MemoryLog
from projections.aggregate_state import aggregate_state
from projections.batches import Batch
from projections.parking import Redriven, TooMuchParked
from projections.projection import Projection, Recorded
from projections.store import Store
from tests.bus.counter import Added, CounterEvent, Scribbled, counters
from tests.bus.written import Written
from tests.projections.picky import POISON, UNFIT, Picky, Places, Rows, shown
from tests.projections.tally import batch_of, prefixes_of


@pytest.fixture
def written() -> Written:
    return Written(MemoryLog("counters"))


@pytest.fixture
def picky() -> Picky:
    return Picky()


@pytest.fixture
def store(tmp_path: Path, picky: Picky) -> Iterator[Store]:
    with Store.create(picky.projection, tmp_path / "picky@1.1.db", "memory") as opened:
        yield opened


def rows(store: Store) -> Rows:
    return list(store.rows("picky"))


def places(store: Store) -> Places:
    with sqlite3.connect(store.path) as looking:
        found = looking.execute("SELECT key, sequence, offset FROM _parked ORDER BY key, sequence, offset").fetchall()
    looking.close()
    return found


def waiting(store: Store, batch: Batch, key: str) -> list[Recorded]:
    """What waits for a key, as it is read from the log again."""
    blocks = {block.sequence: block for block in batch.blocks}
    return [blocks[place.sequence].recorded[place.offset] for place in store.waiting(key)]


async def poisoned(written: Written) -> Batch:
    """`a` is poisoned in its second block; `b` shares blocks and a commit with it."""
    await written.block(("a", [Added("a", 1)]), ("b", [Added("b", 1)]))
    await written.block(("a", [Added("a", 2), Scribbled("a", POISON)]), ("b", [Added("b", 2)]))
    await written.block(("b", [Added("b", 3), Added("a", 4)]), ("c", [Added("c", 7)]))
    await written.block(("a", [Scribbled("a", "fine")]), ("a", [Added("a", 5)]))
    return await batch_of(written.log)


async def test_a_key_that_cannot_be_handled_waits_and_the_others_go_on(store: Store, written: Written) -> None:
    batch = await poisoned(written)
    assert store.apply(batch) == 5
    assert rows(store) == [("a", 1, 2), ("b", (5 * (5 * 1 + 2) + 3) % 1009, 4), ("c", 7, 4)]
    assert places(store) == [("a", 3, 0), ("a", 4, 0), ("a", 5, 0), ("a", 5, 1)]
    assert store.parked == {"a": 4}
    (queue,) = store.queues()
    assert (queue.key, queue.commits, queue.sequence, queue.offset, queue.error) == ("a", 4, 3, 0, "Indigestible: a")
    assert (rows(store), places(store)) == shown(batch)


@pytest.mark.parametrize("text", [POISON, UNFIT])
async def test_a_commit_is_parked_whole_and_not_half_shown(store: Store, written: Written, text: str) -> None:
    await written.block(("a", [Added("a", 1), Scribbled("a", text)]), ("b", [Added("b", 1)]))
    batch = await batch_of(written.log)
    store.apply(batch)
    assert rows(store) == [("b", 1, 2)]
    assert store.redrive("a", waiting(store, batch, "a")).redriven == 0
    assert rows(store) == [("b", 1, 2)]


async def test_a_statement_that_fails_is_parked_as_well(tmp_path: Path, written: Written) -> None:
    once = Projection(
        "once",
        1,
        "counters",
        "CREATE TABLE picky (counter_id TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT",
        {Added: "INSERT INTO picky VALUES (:counter_id, :amount)"},
        key="counter_id",
    )
    await written.block(("a", [Added("a", 1)]), ("b", [Added("b", 2)]), ("a", [Added("a", 3)]))
    with Store.create(once, tmp_path / "once@1.1.db", "memory") as store:
        store.apply(await batch_of(written.log))
        assert rows(store) == [("a", 1), ("b", 2)]
        assert store.queues()[0].error == "IntegrityError: UNIQUE constraint failed: picky.counter_id"


async def test_what_was_parked_is_parked_when_the_file_is_opened_again(
    store: Store, written: Written, picky: Picky
) -> None:
    store.apply(await poisoned(written))
    await written.block(("a", [Added("a", 6)]), ("c", [Added("c", 1)]))
    batch = await batch_of(written.log)
    with Store.open(picky.projection, store.path) as again:
        assert again.parked == {"a": 4}
        again.apply(batch)
        assert (rows(again), places(again)) == shown(batch)
        assert again.parked == {"a": 5}


async def test_a_mended_key_is_redriven_in_order_and_goes_on(store: Store, written: Written, picky: Picky) -> None:
    batch = await poisoned(written)
    store.apply(batch)
    picky.appetite.chokes = False
    assert store.redrive("a", waiting(store, batch, "a")) == Redriven(4, 0)
    assert store.parked == {}
    await written.block(("a", [Added("a", 6)]))
    batch = await batch_of(written.log)
    store.apply(batch)
    assert (rows(store), places(store)) == shown(batch, chokes=False)


async def test_a_key_that_fails_again_keeps_its_place_and_its_order(store: Store, written: Written) -> None:
    batch = await poisoned(written)
    store.apply(batch)
    before = rows(store), places(store)
    assert store.redrive("a", waiting(store, batch, "a")) == Redriven(0, 4, "Indigestible: a")
    assert (rows(store), places(store)) == before


async def test_a_dry_run_says_what_would_come_of_it_and_changes_nothing(
    store: Store, written: Written, picky: Picky
) -> None:
    batch = await poisoned(written)
    store.apply(batch)
    before = rows(store), places(store), store.parked
    picky.appetite.chokes = False
    assert store.redrive("a", waiting(store, batch, "a"), dry=True) == Redriven(4, 0)
    assert (rows(store), places(store), store.parked) == before


async def test_what_is_discarded_is_left_out_for_ever_and_in_a_rebuild(
    store: Store, written: Written, picky: Picky, tmp_path: Path
) -> None:
    batch = await poisoned(written)
    store.apply(batch)
    assert not store.discard("a", 4, 0, "not the first")
    assert not store.discard("b", 3, 1, "not parked")
    assert store.discard("a", 3, 0, "nobody knows what it means")
    assert store.redrive("a", waiting(store, batch, "a")) == Redriven(3, 0)
    assert [row[1:] for row in rows(store) if row[0] == "a"] == [((3 * (5 * 1 + 4) + 4) * 5 % 1009 + 5, 5)]
    (given_up,) = store.discarded()
    assert given_up == ("a", 3, 0, "Indigestible: a", "nobody knows what it means")
    with Store.create(picky.projection, tmp_path / "picky@1.2.db", "memory") as rebuilt:
        rebuilt.leave_out(store.discarded())
        rebuilt.apply(batch)
        assert rebuilt.digests() == store.digests()
        assert rebuilt.parked == {}


async def test_more_than_may_wait_halts_the_read_model_and_nothing_changes(
    store: Store, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.parking.PARKED_MAX", 3)
    await written.block(("a", [Scribbled("a", POISON)]), ("b", [Scribbled("b", POISON)]), ("b", [Added("b", 1)]))
    store.apply(await batch_of(written.log))
    before = rows(store), places(store), store.position
    await written.block(("c", [Added("c", 1)]), ("a", [Added("a", 1)]))
    with pytest.raises(TooMuchParked, match="more than 3 commits"):
        store.apply(await batch_of(written.log))
    assert (rows(store), places(store), store.position) == before
    assert len(before[1]) == 3


@pytest.mark.parametrize("pages", [0, 1, 3])
async def test_a_full_disk_is_not_poison(store: Store, written: Written, pages: int) -> None:
    """It fails wherever it may, and what failed is done once there is room."""
    await written.block(*((f"b{n}", [Added(f"b{n}", n)]) for n in range(2_000)), ("a", [Scribbled("a", POISON)]))
    batch = await batch_of(written.log)
    (used,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {used + pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.apply(batch)
    assert (rows(store), places(store), store.position.sequence) == ([], [], 0)
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.apply(batch)
    assert (rows(store), places(store)) == shown(batch)


@pytest.mark.parametrize("error", [OSError("dead"), MemoryError(), LogDamaged("another log")])
async def test_what_is_not_about_the_event_is_not_poison(store: Store, written: Written, error: Exception) -> None:
    await written.block(("a", [Scribbled("a", "fine")]))

    def failing(recorded: object) -> None:
        raise error

    store._parking._fold = failing
    with pytest.raises(type(error)):
        store.apply(await batch_of(written.log))
    assert (places(store), store.position.sequence) == ([], 0)


async def test_a_file_that_cannot_be_written_is_not_poison(store: Store, written: Written) -> None:
    await written.block(("a", [Added("a", 1)]))
    store._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.apply(await batch_of(written.log))
    assert (places(store), store.position.sequence) == ([], 0)


async def test_what_engines_rest_on_is_never_parked(tmp_path: Path, written: Written) -> None:
    """A state that lacks an event would be decided upon."""
    await written.block(("a", [Added("a", 1)]), ("a", [Added("a", 1)]))  # Both are version 1.
    with (
        Store.create(aggregate_state(counters()), tmp_path / "states@1.1.db", "memory") as store,
        pytest.raises(LogDamaged, match="from version 1 to 1"),
    ):
        store.apply(await batch_of(written.log))


# -- whatever the batches, the repeats, the crashes and the turns that streams take ------------------------------------

STREAMS = 2
KEYS = "abcdefgh"


@cache
def histories() -> tuple[list[Batch], ...]:
    """For each stream and block, everything up to it."""
    return tuple(asyncio.run(_history(stream)) for stream in range(STREAMS))


async def _history(seed: int) -> list[Batch]:
    random = Random(seed)
    written = Written(MemoryLog("counters"))
    for _ in range(40):
        commits: list[tuple[str, list[CounterEvent]]] = []
        for _ in range(random.randint(1, 5)):
            events: list[CounterEvent] = []
            for _ in range(random.randint(1, 3)):
                key = random.choice(KEYS)
                poisons = key < "d" and random.random() < 0.15
                text = random.choice((POISON, UNFIT)) if poisons else "x" * random.randint(0, 9)
                events.append(random.choice((Added(key, random.randint(0, 99)), Scribbled(key, text))))
            commits.append((events[0].counter_id, events))
        await written.block(*commits)
    return await prefixes_of(written.log)


Delivery = tuple[int, int, int, int]
"""The stream; how many blocks before its end so far it begins; how many it holds; after how many events all dies."""
deliveries = st.lists(
    st.tuples(st.integers(0, STREAMS - 1), st.integers(0, 20), st.integers(1, 20), st.sampled_from([-1, -1, 1, 2, 7])),
    max_size=12,
)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(deliveries)
def test_however_the_logs_come_every_read_model_shows_and_parks_the_same(given_to_them: list[Delivery]) -> None:
    with TemporaryDirectory() as folder:
        models = [Picky(f"picky{stream}") for stream in range(STREAMS)]
        stores = [Store.create(model.projection, Path(folder) / f"{model.name}@1.1.db", "memory") for model in models]
        reached = [0] * STREAMS
        to_the_end = [(stream, 0, 100, -1) for stream in range(STREAMS)]
        for stream, overlap, length, dead_after in given_to_them + to_the_end:
            model, store, history = models[stream], stores[stream], histories()[stream]
            begin = min(max(0, reached[stream] - overlap), len(history) - 1)
            end = min(begin + length, len(history))
            batch = Batch(history[-1].blocks[begin:end], history[end - 1].tips)
            before = store.position.sequence
            model.appetite.handled, model.appetite.dead_after = 0, dead_after
            try:
                store.apply(batch)
            except OSError:
                assert store.position.sequence == before
                store.close()
                stores[stream] = Store.open(model.projection, store.path)
            else:
                reached[stream] = max(reached[stream], end)
                assert store.position.sequence == max(before, batch.blocks[-1].sequence)  # It never goes back.
        for store, history in zip(stores, histories(), strict=True):
            assert (rows(store), places(store)) == shown(history[-1])
            assert store.position.sequence == history[-1].blocks[-1].sequence
            assert store.position.tips == history[-1].tips
            store.close()


def test_the_histories_park_some_keys_and_not_all() -> None:
    """Or the test above would prove little."""
    for history in histories():
        found, parked = shown(history[-1])
        assert len({key for key, *_ in parked}) > 1
        assert len(parked) > 20
        assert len({key for key, *_ in found}) > 5
