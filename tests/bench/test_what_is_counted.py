"""The baselines write what the engine writes, and what was not stored is not counted."""

from __future__ import annotations

import msgspec
import pytest

from bench.load import commit_of, new_tag, order_commit, place_order, sent_order
from bench.stored import NotStored, aggregates, aggregates_stored, commits_stored, expect
from bus.commands import Stored
from bus.engines.engine import Engine
from bus.logs.blocks import decoder_of
from bus.logs.log import MemoryLog
from domains.orders.messages import PlaceOrder
from domains.orders.order import orders


async def test_a_prepared_commit_is_the_one_that_the_engine_writes() -> None:
    log = MemoryLog("orders")
    engine = Engine(orders, log)
    await engine.start()
    ((sent,), (command,)) = order = sent_order("tag")
    (answer,) = await engine.submit(*order)
    assert isinstance(answer, Stored)
    record = await log.get(answer.position)
    assert record is not None
    (written,) = decoder_of(orders).decode(record.data).commits
    assert msgspec.json.decode(sent.command, type=PlaceOrder) == command
    assert commit_of(command, sent) == msgspec.json.encode(written)
    await engine.stop()


def test_no_two_commits_are_alike_and_all_are_equally_long() -> None:
    commits = [order_commit("tag")[1] for _ in range(100)]
    assert len(set(commits)) == 100
    assert len({len(commit) for commit in commits}) == 1


async def test_the_log_is_asked_what_it_holds() -> None:
    log = MemoryLog("orders")
    engine = Engine(orders, log)
    await engine.start()
    first, second = new_tag(), new_tag()
    await engine.submit([sent for _ in range(3) for sent in sent_order(first).frame])
    between = await log.head()
    await engine.submit([sent for _ in range(2) for sent in sent_order(second).frame])
    assert await aggregates_stored(log, 0, first) == 3
    assert await aggregates_stored(log, between, first) == 0
    assert await aggregates_stored(log, between, second) == 2
    assert len(await aggregates(log, 0)) == await commits_stored(log, 0) == 5
    await engine.stop()


def test_ids_begin_with_their_round_s_tag() -> None:
    assert place_order("abc").order_id.startswith("abc")


@pytest.mark.parametrize(("stored", "more_at_most", "fine"), [(5, 0, True), (4, 0, False), (6, 0, False), (6, 1, True)])
def test_counted_and_stored_must_agree(stored: int, more_at_most: int, fine: bool) -> None:
    if fine:
        expect(stored, 5, "the log", more_at_most)
    else:
        with pytest.raises(NotStored):
            expect(stored, 5, "the log", more_at_most)
