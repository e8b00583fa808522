"""One read of a log for all builds: whatever the blocks' sizes, batches are worth a transaction, and bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from bus.logs.blocks import Chain, Commit
from bus.logs.log import MemoryLog
from domains.orders.messages import (
    OrderCancelled,
    OrderEvent,
    OrderLine,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
)
from gateway import compose
from projections import grouping
from projections.batches import Batch
from projections.commit_index import commit_index
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.pipeline import gathered, pour
from projections.projection import Projection
from projections.store import Position, Store
from tests.bus.counter import Added, Scribbled
from tests.bus.written import Written
from tests.projections.batched import in_batches
from tests.projections.picky import POISON, UNFIT, Picky, shown
from tests.projections.tally import DECODER, batch_of

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
    in_batches(monkeypatch, commits=400)
    log = (await written(blocks, commits)).log
    batches = [batch async for batch in gathered(log, DECODER, (), START, await log.head())]
    assert sizes(batches) == wanted
    assert [block.sequence for batch in batches for block in batch.blocks] == list(range(2, blocks + 2))


async def test_blocks_are_gathered_until_there_are_enough_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await written(10, 20)
    record = await whole.log.get(2)
    assert record is not None
    in_batches(monkeypatch, size=3 * len(record.data))
    batches = [batch async for batch in gathered(whole.log, DECODER, (), START, whole.last)]
    assert sizes(batches) == [60, 60, 60, 20]


async def test_it_ends_at_the_position_that_was_wanted_and_goes_on_from_there() -> None:
    whole = await written(10, 1)
    (first,) = [batch async for batch in gathered(whole.log, DECODER, (), START, 6)]
    assert first.blocks[-1].sequence == 6
    position = Position("memory", 6, dict(first.tips), 5)
    (second,) = [batch async for batch in gathered(whole.log, DECODER, (), position, whole.last)]
    assert [block.sequence for block in second.blocks] == [7, 8, 9, 10, 11]
    assert dict(second.tips) == {0: whole.prev}


async def test_the_next_batch_is_read_while_one_is_written_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    in_batches(monkeypatch, commits=1)
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

    await pour(log, DECODER, (), START, await log.head(), write)
    assert seen == [(2, 2), (3, 3), (4, 4), (5, 5)]  # The block at 2 is the first one.


async def test_a_writer_that_fails_ends_the_reading() -> None:
    log = (await written(6, 1)).log

    async def write(_: Batch) -> bool:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await pour(log, DECODER, (), START, await log.head(), write)


def shop(random: Random) -> list[tuple[str, OrderEvent]]:
    """The lives of some orders, among each other."""
    lines = (OrderLine("sku", "thing", "toys", 2, 100, 0),)
    lives = [
        [
            OrderPlaced(name, f"c{n}", "EUR", lines, 2, 200, 0, 200, "tok_ok", "recorded"),
            OrderReserved(name),
            OrderCancelled(name, "changed") if n % 3 == 0 else OrderPaid(name, 200),
        ]
        for n, name in enumerate(f"o{n}" for n in range(40))
    ]
    found: list[tuple[str, OrderEvent]] = []
    while any(lives):
        life = random.choice([life for life in lives if life])
        event = life.pop(0)
        found.append((event.order_id, event))
    return found


@pytest.mark.parametrize("together", [1, 1_000])
@pytest.mark.parametrize(
    "projections", [(order_summary,), (order_summary, order_detail), (order_summary, commit_index("orders"))]
)
async def test_what_is_folded_as_it_is_read_is_what_the_blocks_do(
    projections: tuple[Projection, ...], together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_batches(monkeypatch, commits=37)
    monkeypatch.setattr(grouping, "TOGETHER_ROWS", together)
    whole = Written(MemoryLog("orders"))
    happened = shop(Random(7))
    for n in range(0, len(happened), 10):
        await whole.commits([Commit(f"c{n}", key, 1, [event]) for key, event in happened[n : n + 10]])
    decoder = compose.decoders()["orders"]
    batches = [batch async for batch in gathered(whole.log, decoder, projections, START, whole.last)]
    assert len(batches) == 3
    for projection in projections:
        found: list[dict[str, tuple[int, str]]] = []
        for name, folded in (("folded", True), ("by block", False)):
            with Store.create(projection, tmp_path / name / f"{projection.name}.db", "memory") as store:
                for batch in batches:
                    assert (projection in batch.folded) == (projection.batch is None)
                    store.apply(batch if folded else Batch(batch.blocks, batch.tips))
                found.append(store.digests())
                assert store.events == len(happened)
        assert found[0] == found[1]
        assert all(rows for rows, _ in found[0].values())


async def test_what_cannot_be_folded_as_it_is_read_is_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_batches(monkeypatch, commits=2)
    picky = Picky()
    whole = Written(MemoryLog("counters"))
    for text in ("fine", POISON, "fine", UNFIT, "fine"):
        scribbled = {"a": text, "b": "fine"}
        await whole.block(*((name, (Added(name, 3), Scribbled(name, its))) for name, its in scribbled.items()))
    with Store.create(picky.projection, tmp_path / "picky.db", "memory") as store:
        async for batch in gathered(whole.log, DECODER, (store.projection,), START, whole.last):
            store.apply(batch)
        assert (list(store.rows("picky")), store.parked) == (shown(await batch_of(whole.log))[0], {"a": 4})
