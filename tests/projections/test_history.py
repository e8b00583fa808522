"""The index of commits and what is read back by it: the past, in the words of the present."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from bus.logs.blocks import decoder_of
from bus.logs.log import LogDamaged, MemoryLog
from projections.batches import Batch
from projections.commit_index import commit_index
from projections.files import ReadModelFiles
from projections.history import History, folded
from projections.order_detail import LINES, ORDER, order_detail
from projections.projection import Recorded, recorded_of
from projections.reader import Reader
from projections.store import Store
from tests.projections.history import DOMAINS, history_of
from tests.projections.tally import batch_of

SEEDS = (1, 2)


def recorded(batch: Batch) -> list[Recorded]:
    """Every commit of a log, without an index."""
    return [one for block in batch.blocks for one in recorded_of(block.sequence, block.at, block.commits)]


class Indexed:
    """The log of orders, indexed."""

    def __init__(self, log: MemoryLog, batch: Batch, history: History) -> None:
        self.log = log
        self.commits = recorded(batch)
        self.batch = batch
        self.history = history


@pytest.fixture(params=SEEDS)
async def indexed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Indexed]:
    log = await history_of("orders", request.param)
    decoder: Any = decoder_of(DOMAINS["orders"])
    batch = await batch_of(log, decoder)
    files, index = ReadModelFiles(tmp_path), commit_index("orders")
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store.create(index, files.next_build(index), "memory"))
        store.apply(batch)
        files.switch(index.name, store.path)
        reader = Reader(tmp_path)
        stack.push_async_callback(reader.close)
        yield Indexed(log, batch, History(reader, {"orders": log}, {"orders": decoder}))


async def test_the_commits_of_an_aggregate_are_found_in_their_order(indexed: Indexed) -> None:
    orders = {one.commit.aggregate for one in indexed.commits}
    assert len(orders) > 30
    for order in orders:
        expected = [one for one in indexed.commits if one.commit.aggregate == order]
        assert await indexed.history.of_aggregate("orders", order) == expected
        assert await indexed.history.of_aggregate("orders", order, after=1) == expected[1:]
    assert await indexed.history.of_aggregate("orders", "nothing") == []


async def test_what_belongs_together_is_found_whoever_it_happened_to(indexed: Indexed) -> None:
    """These commands were sent without a correlation, which all of them share."""
    found = await indexed.history.of_correlation("")
    assert [one.recorded for one in found] == indexed.commits
    for at in {one.recorded.sequence for one in found}:
        of_block = [one for one in found if one.recorded.sequence == at]
        sizes = [len(one.recorded.commit.events) for one in of_block]
        assert [one.first_event for one in of_block] == list(accumulate(sizes, initial=0))[:-1]
    assert await indexed.history.of_correlation("nothing") == []


async def test_a_fold_of_an_orders_commits_shows_what_its_read_model_shows(indexed: Indexed, tmp_path: Path) -> None:
    """At every moment: the read model that has seen all up to a commit, against the fold of the order's commits."""
    with Store.create(order_detail, tmp_path / "order_detail@1.1.db", "memory") as live:
        for number, block in enumerate(indexed.batch.blocks):
            live.apply(Batch(indexed.batch.blocks[: number + 1], indexed.batch.tips))
            shown = {row[0]: row for row in live.rows("order_detail")}
            lines = list(live.rows("order_line"))
            for order_id in {commit.aggregate for commit in block.commits}:
                commits = await indexed.history.of_aggregate("orders", order_id)
                before = [one for one in commits if one.sequence <= block.sequence]
                with folded(order_detail, before) as fold:
                    row = fold.one(ORDER, order_id=order_id)
                    assert row is not None
                    assert tuple(getattr(row, name) for name in row.__struct_fields__) == shown[order_id]
                    assert len(fold.all(LINES, order_id=order_id)) == sum(line[0] == order_id for line in lines)


async def test_a_block_that_is_gone_or_another_one_is_damage(indexed: Indexed) -> None:
    """The index says where a commit lies; a log without it is not the log that was indexed."""
    last = indexed.commits[-1]
    indexed.log._records.pop()
    with pytest.raises(LogDamaged, match=rf"holds nothing at {last.sequence}"):
        await indexed.history.of_aggregate("orders", last.commit.aggregate)
