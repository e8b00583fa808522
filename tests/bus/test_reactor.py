"""Reactors: at least once, in order a key, and a checkpoint that passes only what is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest
from nats.aio.client import Client

from bus.announcements import Announcer, Standings
from bus.logs.blocks import decoder_of, hash_of, seal
from bus.logs.log import LogDamaged, MemoryLog
from bus.reactors.checkpoints import Checkpoints, Place, Stands
from bus.reactors.reactor import Again, Occurrence, Reactor, ReactorLimits
from tests.bus.counter import Added, Scribbled, counters
from tests.bus.reacting import QUICK, Reacted, reactor_on, running
from tests.bus.waiting import PATIENCE_S, turns, until
from tests.bus.written import AT, Written


@pytest.fixture
def written() -> Written:
    return Written(MemoryLog("counters"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "reactors.db"


@pytest.fixture
async def checkpoints(path: Path) -> AsyncIterator[Checkpoints]:
    opened = await Checkpoints.open(path)
    yield opened
    await opened.close()


async def parked(path: Path) -> list[tuple[object, ...]]:
    async with aiosqlite.connect(path) as connection, connection.execute("SELECT * FROM parked") as rows:
        return [tuple(row) for row in await rows.fetchall()]


async def test_every_event_that_matters_is_reacted_to_and_told_where_it_happened(
    written: Written, checkpoints: Checkpoints
) -> None:
    seen: list[Occurrence] = []

    async def react(what: Occurrence) -> None:
        seen.append(what)

    await written.block(("a", [Added("a", 1), Scribbled("a", "-"), Added("a", 2)]), ("b", [Added("b", 3)]))
    async with running(reactor_on(written, checkpoints, react)) as reactor:
        await written.block(("c", [Added("c", 4)]))
        await until(lambda: reactor.position == 3 and not reactor.working)
    by_id = {what.id: what for what in seen}
    assert {name: what.event for name, what in by_id.items()} == {
        "counters-2-0": Added("a", 1),
        "counters-2-2": Added("a", 2),
        "counters-2-3": Added("b", 3),
        "counters-3-0": Added("c", 4),
    }
    assert by_id["counters-2-3"].position == "counters=2"
    assert by_id["counters-2-3"].commit.aggregate == "b"
    assert by_id["counters-2-3"].at == AT


async def test_reactions_of_one_key_come_in_order_and_other_keys_go_on_meanwhile(
    written: Written, checkpoints: Checkpoints
) -> None:
    reacted = Reacted()
    reacted.gates["slow"] = asyncio.Event()
    for _ in range(5):
        await written.block(("slow", [Added("slow", 1)]), ("fast", [Added("fast", 1)]))
    async with running(reactor_on(written, checkpoints, reacted)) as reactor:
        await until(lambda: len(reacted.done) == 5)
        assert [name for key, name in reacted.tried if key == "slow"] == ["counters-2-0"]
        assert reactor.position == 1
        reacted.gates["slow"].set()
        await until(lambda: reactor.position == 6)
    assert [name for key, name in reacted.tried if key == "slow"] == [f"counters-{n}-0" for n in range(2, 7)]
    assert [name for key, name in reacted.tried if key == "fast"] == [f"counters-{n}-1" for n in range(2, 7)]


async def test_it_says_where_it_stands_as_soon_as_that_moves(
    written: Written, checkpoints: Checkpoints, client: Client, unique: str
) -> None:
    standings = Standings(client)
    await standings.start()
    reacted = Reacted()
    reacted.gates["slow"] = asyncio.Event()
    reactor = Reactor(
        unique, written.log, decoder_of(counters()), {Added: reacted}, checkpoints, QUICK, told=Announcer(client)
    )
    async with running(reactor):
        await written.block(("fast", [Added("fast", 1)]))
        assert await standings.wait(unique, 2, PATIENCE_S)
        await written.block(("slow", [Added("slow", 1)]))
        await written.block(("fast", [Added("fast", 1)]))
        await until(lambda: (told := standings.latest(unique)) and told.head == 4)
        assert not await standings.wait(unique, 3, 0.0)
        reacted.gates["slow"].set()
        assert await standings.wait(unique, 4, PATIENCE_S)


async def test_the_checkpoint_passes_only_what_is_done(written: Written, checkpoints: Checkpoints) -> None:
    reacted = Reacted()
    for key in "abc":
        await written.block((key, [Added(key, 1)]))
    reacted.gates["b"] = asyncio.Event()
    async with running(reactor_on(written, checkpoints, reacted)) as reactor:
        await until(lambda: len(reacted.done) == 2)
        await reactor.save()
        assert await checkpoints.load("test", "memory") == 2
        reacted.gates["b"].set()
        await until(lambda: reactor.position == 4)
        await reactor.save()
        assert await checkpoints.load("test", "memory") == 4


async def test_the_checkpoint_is_written_down_by_itself(written: Written, checkpoints: Checkpoints) -> None:
    reacted = Reacted()
    await written.block(("a", [Added("a", 1)]))
    async with running(reactor_on(written, checkpoints, reacted)):
        for _ in range(1_000):
            if await checkpoints.load("test", "memory") == 2:
                return
            await asyncio.sleep(0.005)
    pytest.fail("no checkpoint was written")


async def test_blocks_in_which_nothing_matters_are_passed(written: Written, checkpoints: Checkpoints) -> None:
    await written.block(("a", [Scribbled("a", "-")]))
    async with running(reactor_on(written, checkpoints, Reacted())) as reactor:
        await until(lambda: reactor.position == 2)


async def test_again_is_tried_until_it_works_however_long_that_takes(
    written: Written, checkpoints: Checkpoints, path: Path
) -> None:
    reacted = Reacted()
    reacted.troubles["counters-2-0"] = [Again("not yet") for _ in range(20)]
    await written.block(("a", [Added("a", 1)]))
    async with running(reactor_on(written, checkpoints, reacted)) as reactor:
        await until(lambda: reactor.position == 2)
    assert len(reacted.tried) == 21
    assert await parked(path) == []


async def test_again_is_not_tried_before_its_time_which_has_a_bound(written: Written, checkpoints: Checkpoints) -> None:
    reacted = Reacted()
    reacted.troubles["counters-2-0"] = [Again("in an hour", after_s=3_600.0)]
    await written.block(("a", [Added("a", 1)]), ("b", [Added("b", 1)]))
    async with running(reactor_on(written, checkpoints, reacted)):
        await until(lambda: reacted.done == ["counters-2-1"])
        await turns()
        assert reacted.tried.count(("a", "counters-2-0")) == 1
    bounded = Reacted()
    bounded.troubles["counters-2-0"] = [Again("in an hour", after_s=3_600.0)]
    limits = ReactorLimits(backoff_s=0.0, checkpoint_every_s=0.005, after_max_s=0.0)
    async with running(reactor_on(written, checkpoints, bounded, limits)) as reactor:
        await until(lambda: reactor.position == 2)


async def test_a_reaction_that_fails_is_parked_after_the_bound_while_other_keys_go_on(
    written: Written, checkpoints: Checkpoints, path: Path
) -> None:
    reacted = Reacted()
    reacted.troubles["counters-2-0"] = [ValueError("no good") for _ in range(QUICK.attempts_max)]
    reacted.troubles["counters-2-1"] = [ValueError("once")]
    await written.block(("bad", [Added("bad", 1)]), ("good", [Added("good", 1)]))
    await written.block(("bad", [Added("bad", 2)]))
    async with running(reactor_on(written, checkpoints, reacted)) as reactor:
        await until(lambda: reactor.position == 3)
    assert reacted.done == ["counters-2-1"]
    assert [name for key, name in reacted.tried if key == "bad"] == ["counters-2-0"] * QUICK.attempts_max
    assert await parked(path) == [
        ("test", 2, 0, "bad", "ValueError('no good')"),
        ("test", 3, 0, "bad", "queues behind what was parked before"),
    ]


async def test_what_was_parked_is_tried_again_at_the_next_start_in_order_and_first(
    written: Written, checkpoints: Checkpoints, path: Path
) -> None:
    before = Reacted()
    before.troubles["counters-2-0"] = [ValueError("no good") for _ in range(QUICK.attempts_max)]
    await written.block(("bad", [Added("bad", 1)]))
    await written.block(("bad", [Added("bad", 2)]))
    async with running(reactor_on(written, checkpoints, before)) as reactor:
        await until(lambda: reactor.position == 3)
        await reactor.save()
    await written.block(("bad", [Added("bad", 3)]))
    after = Reacted()
    async with running(reactor_on(written, checkpoints, after)) as reactor:
        await until(lambda: reactor.position == 4)
    assert after.done == ["counters-2-0", "counters-3-0", "counters-4-0"]
    assert await parked(path) == []


async def test_what_still_fails_at_the_next_start_stays_parked_with_all_behind_it(
    written: Written, checkpoints: Checkpoints, path: Path
) -> None:
    await written.block(("bad", [Added("bad", 1)]))
    await written.block(("bad", [Added("bad", 2)]))
    for _ in range(2):
        reacted = Reacted()
        reacted.troubles["counters-2-0"] = [ValueError("no good") for _ in range(QUICK.attempts_max)]
        async with running(reactor_on(written, checkpoints, reacted)) as reactor:
            await until(lambda: reactor.position == 3)
            await reactor.save()
        assert reacted.done == []
        assert [(sequence, offset) for _, sequence, offset, _, _ in await parked(path)] == [(2, 0), (3, 0)]


async def test_a_restart_repeats_only_what_was_under_way(written: Written, checkpoints: Checkpoints) -> None:
    await written.block(*((key, [Added(key, 1)]) for key in "abc"))
    for key in "def":
        await written.block((key, [Added(key, 1)]))
    before = Reacted()
    before.gates["b"] = before.gates["e"] = asyncio.Event()
    async with running(reactor_on(written, checkpoints, before)) as reactor:
        await until(lambda: len(before.done) == 4)
        await reactor.save()
    assert reactor.position == 1
    await written.block(("b", [Added("b", 2)]), ("g", [Added("g", 1)]))
    after = Reacted()
    after.gates["b"] = asyncio.Event()
    async with running(reactor_on(written, checkpoints, after)) as reactor:
        await until(lambda: len(after.done) == 2)
        assert reactor.position == 1  # What waits from before holds it back, as it did.
        after.gates["b"].set()
        await until(lambda: reactor.position == 6 and not reactor.working)
    assert sorted(after.done) == ["counters-2-1", "counters-4-0", "counters-6-0", "counters-6-1"]
    assert after.done.index("counters-2-1") < after.done.index("counters-6-0")


async def test_what_was_under_way_and_matters_no_more_is_passed_over(
    written: Written, checkpoints: Checkpoints
) -> None:
    await checkpoints.save_ahead("test", "memory", Stands(3, {Place(2, 0), Place(3, 0)}))
    await written.block(("a", [Scribbled("a", "-")]))
    await written.block(("a", [Added("a", 1)]))
    reacted = Reacted()
    async with running(reactor_on(written, checkpoints, reacted)) as reactor:
        await until(lambda: reactor.position == 3)
    assert reacted.done == ["counters-3-0"]


async def test_of_a_block_that_is_not_all_begun_all_is_repeated(written: Written, checkpoints: Checkpoints) -> None:
    await written.block(*((key, [Added(key, 1)]) for key in "abcd"))
    before = Reacted()
    before.gates["b"] = before.gates["c"] = asyncio.Event()
    limits = ReactorLimits(window_max=2, checkpoint_every_s=0.005)
    async with running(reactor_on(written, checkpoints, before, limits)) as reactor:
        await until(lambda: len(before.tried) == 3)  # And there is no room for the fourth.
        await reactor.save()
    after = Reacted()
    async with running(reactor_on(written, checkpoints, after)) as reactor:
        await until(lambda: reactor.position == 2)
    assert sorted(after.done) == [f"counters-2-{offset}" for offset in range(4)]


async def test_a_stopped_reactor_leaves_no_checkpoint_beyond_what_it_did(
    written: Written, checkpoints: Checkpoints
) -> None:
    reacted = Reacted()
    reacted.gates["a"] = asyncio.Event()
    await written.block(("a", [Added("a", 1)]))
    async with running(reactor_on(written, checkpoints, reacted)) as reactor:
        await until(lambda: reacted.tried)
    await reactor.save()
    assert reactor.position == 1
    assert await checkpoints.load("test", "memory") == 1


async def test_no_more_reactions_are_under_way_than_the_window_allows(
    written: Written, checkpoints: Checkpoints
) -> None:
    reacted = Reacted()
    keys = [f"k{n}" for n in range(10)]
    reacted.gates = dict.fromkeys(keys, gate := asyncio.Event())
    await written.block(*((key, [Added(key, 1)]) for key in keys))
    limits = ReactorLimits(window_max=3, checkpoint_every_s=0.005)
    async with running(reactor_on(written, checkpoints, reacted, limits)) as reactor:
        await until(lambda: reactor.working == 3)
        await turns()
        assert len(reacted.tried) == 3
        gate.set()
        await until(lambda: reactor.position == 2)
    assert len(reacted.done) == 10


async def test_a_position_of_another_epoch_is_no_position(checkpoints: Checkpoints) -> None:
    await checkpoints.save("test", "before", 100)
    assert await checkpoints.load("test", "memory") == 0
    await checkpoints.save("test", "memory", 3)
    assert await checkpoints.load("test", "memory") == 3
    await checkpoints.save_ahead("test", "before", Stands(100, {Place(50, 0)}))
    assert await checkpoints.stands("test", "memory") == Stands(3)


async def test_where_a_reactor_stands_is_true_whichever_half_of_it_is_older(checkpoints: Checkpoints) -> None:
    await checkpoints.save("test", "memory", 3)
    await checkpoints.save_ahead("test", "memory", Stands(9, {Place(4, 2), Place(7, 0)}))
    assert await checkpoints.stands("test", "memory") == Stands(9, [Place(4, 2), Place(7, 0)])
    await checkpoints.save("test", "memory", 6)
    assert await checkpoints.stands("test", "memory") == Stands(9, [Place(7, 0)])
    await checkpoints.save("test", "memory", 12)
    assert await checkpoints.stands("test", "memory") == Stands(12)


async def test_a_damaged_log_ends_the_reactor(written: Written, checkpoints: Checkpoints) -> None:
    await written.block(("a", [Added("a", 1)]))
    data = seal("memory", AT, "f" * 64, [])
    await written.log.append(0, data, hash_of(data), 2)
    with pytest.raises(LogDamaged, match="does not continue"):
        await reactor_on(written, checkpoints, Reacted()).run()


async def test_a_checkpoint_beyond_the_logs_end_ends_the_reactor(written: Written, checkpoints: Checkpoints) -> None:
    await checkpoints.save("test", "memory", 7)
    with pytest.raises(LogDamaged, match="7 was read before"):
        await reactor_on(written, checkpoints, Reacted()).run()
