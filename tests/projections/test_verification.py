"""What a build is checked by when there is nothing to compare it with: the log's own word on some keys, and rules."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bus.logs.blocks import decoder_of
from bus.logs.log import MemoryLog
from domains.orders.order import orders
from projections import verification
from projections.aggregate_state import aggregate_state
from projections.batches import Batch
from projections.commit_index import commit_index
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.payments import payments
from projections.products import products
from projections.projection import Projection
from projections.sales import sales
from projections.stock import stock
from projections.store import Store
from projections.verification import Sample, checked, compared, emptied
from tests.bus.counter import Added, Scribbled
from tests.bus.written import Written
from tests.projections.history import DOMAINS, history_of
from tests.projections.tally import batch_of, tally

ALL: list[Projection] = [
    order_summary,
    order_detail,
    sales,
    payments,
    products,
    stock,
    commit_index("orders"),
    aggregate_state(orders),
]


async def batch_for(projection: Projection) -> Batch:
    return await batch_of(await history_of(projection.stream), decoder_of(DOMAINS[projection.stream]))


def built_from(batch: Batch, projection: Projection, path: Path) -> Store:
    store = Store.create(projection, path, "memory")
    store.apply(batch)
    return store


def by_hand(store: Store, sql: str) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize("projection", ALL, ids=lambda projection: projection.name)
async def test_a_sample_agrees_with_a_right_build_and_with_no_wrong_one(projection: Projection, tmp_path: Path) -> None:
    batch = await batch_for(projection)
    sample = Sample(projection)
    sample.apply(batch)
    assert len(sample) > 0
    with built_from(batch, projection, tmp_path / "right.1.db") as right:
        assert checked(right, sample) == []
        tables = right.tables()
    for table in tables:
        with built_from(batch, projection, tmp_path / f"{table}.1.db") as wrong:
            by_hand(wrong, f"DELETE FROM {table}")
            told = sample.differences(wrong)[0]
            assert told.startswith(f"table {table}, ")
            assert told.endswith(" by the log, [] rebuilt")
    sample.close()


async def test_of_many_keys_some_are_chosen_and_folded_from_their_first_event_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "SAMPLE_KEYS", 10)
    written = Written(MemoryLog("counters"))
    for _ in range(3):
        for n in range(0, 200, 20):
            await written.block(*((f"c{number}", [Added(f"c{number}", number)]) for number in range(n, n + 20)))
    sample = Sample(tally())
    sample.apply(batch := await batch_of(written.log))
    with built_from(batch, tally(), tmp_path / "tally.1.db") as built:
        assert 10 <= len(sample) <= 20
        assert sample.differences(built) == []
        by_hand(built, "UPDATE total SET total = total + 1")
        told = sample.differences(built)
        assert len(told) == verification.TOLD_KEYS_MAX + 1
        assert told[-1] == "and maybe more"
    sample.close()


async def test_what_cannot_be_handled_is_in_no_sample(tmp_path: Path) -> None:
    written = Written(MemoryLog("counters"))
    await written.block(("a", [Added("a", 1)]), ("b", [Added("b", 1)]))
    right = await batch_of(written.log)
    await written.block(("a", [Scribbled("a", "indigestible")]), ("b", [Added("b", 1)]))
    await written.block(("a", [Added("a", 5)]))
    sample = Sample(tally())
    sample.apply(await batch_of(written.log))
    with built_from(right, tally(), tmp_path / "tally.1.db") as built:
        assert [told.partition(":")[0] for told in sample.differences(built)] == ["table total, counter_id = 'b'"]
    sample.close()


@pytest.mark.parametrize(
    ("projection", "sql", "told"),
    [
        (
            stock,
            "UPDATE stock SET reserved = on_hand + 1 WHERE sku = 'sku1'",
            "more is promised than there is: ('sku1'",
        ),
        (payments, "UPDATE payment SET refunded_cents = captured_cents + 1", "more was given back than captured: ("),
        (order_detail, "UPDATE order_detail SET total_cents = total_cents + 1", "an order does not add up: ("),
        (order_detail, "DELETE FROM order_line WHERE number = 1", "an order does not add up: ("),
    ],
)
async def test_what_must_never_be_is_told(projection: Projection, sql: str, told: str, tmp_path: Path) -> None:
    with built_from(await batch_for(projection), projection, tmp_path / "built.1.db") as built:
        by_hand(built, sql)
        (found,) = checked(built, Sample(projection))
        assert found.startswith(told)


async def test_tables_that_lost_all_their_rows_are_told(tmp_path: Path) -> None:
    written = Written(MemoryLog("counters"))
    await written.block(("a", [Added("a", 1), Scribbled("a", "x")]))
    batch = await batch_of(written.log)
    with (
        built_from(batch, tally(), tmp_path / "live.1.db") as live,
        built_from(batch, tally(version=2), tmp_path / "built.1.db") as built,
    ):
        assert emptied(live, built) == []
        by_hand(built, "DELETE FROM note")
        by_hand(built, "INSERT INTO total VALUES ('b', 2)")
        assert emptied(live, built) == ["table note has 1 rows live, none rebuilt"]


async def test_the_first_row_that_differs_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ROWS_AT_ONCE", 4)
    written = Written(MemoryLog("counters"))
    await written.block(*((f"c{number:02}", [Added(f"c{number:02}", 1)]) for number in range(20)))
    batch = await batch_of(written.log)
    with (
        built_from(batch, tally(), tmp_path / "live.1.db") as live,
        built_from(batch, tally(), tmp_path / "built.1.db") as built,
    ):
        assert compared(live, built) == []
        for number in (19, 12, 11, 4, 3, 0):
            by_hand(built, f"UPDATE total SET total = 2 WHERE counter_id = 'c{number:02}'")
            (told,) = compared(live, built)
            assert f"first counter_id = 'c{number:02}': ('c{number:02}', 1) live, ('c{number:02}', 2)" in told
