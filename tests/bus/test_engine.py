"""The command engine: what it answers, what it writes, and that trouble makes it slow, never wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest
from msgspec import Raw

from bus.commands import Answer, Envelope, Refused, Stored, Unavailable, Unchanged, Unknown, partition_of
from bus.engines.deciding import malformed
from bus.engines.engine import EngineLimits
from bus.logs.blocks import BLOCK_BYTES_MAX, BLOCK_COMMITS_MAX, GENESIS, hash_of, seal
from bus.logs.log import Appended, Conflict, Log, LogDamaged, MemoryLog
from tests.bus.counter import (
    LIMIT,
    Add,
    Added,
    Break,
    CounterEngine,
    Scribble,
    Scribbled,
    Transfer,
    answer,
    answers,
    blocks_of,
    command,
    contiguous,
    counters,
    records_of,
    stored_by_hand,
    totals,
    versions,
)
from tests.bus.faults import FaultyLog
from tests.bus.waiting import PATIENCE_S, turns, until

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


async def started(log: Log, limits: EngineLimits | None = None, now: float = 0.0) -> CounterEngine:
    engine = CounterEngine(counters(), log, limits=limits, now=lambda: now)
    await engine.start()
    return engine


async def until_appending(log: FaultyLog) -> None:
    await until(lambda: log.appending)


@pytest.fixture
async def memory() -> FaultyLog:
    return FaultyLog(MemoryLog("counters"))


@pytest.fixture
async def engine(memory: FaultyLog) -> AsyncIterator[CounterEngine]:
    running = await started(memory)
    yield running
    memory.gate.set()
    await running.stop()


# -- what is answered and written ------------------------------------------------------------------------------------


async def test_one_lone_command_is_stored_and_told_its_position_version_and_events(log: Log) -> None:
    engine = await started(log, now=1_000.0)
    given = await answer(engine, command(Add("a", 5), "c1"))
    assert given == Stored(2, 1, Raw(b'[{"type":"Added","counter_id":"a","amount":5}]'))
    [block] = await blocks_of(log)
    [commit] = block.commits
    assert (block.epoch, block.prev, block.at.timestamp()) == (log.epoch, GENESIS, 1_000.0)
    assert (commit.id, commit.aggregate, commit.version, commit.events) == ("c1", "a", 1, [Added("a", 5)])
    assert engine.position == 2
    await engine.stop()


async def test_what_an_envelope_tells_of_a_command_is_kept_with_its_commit(engine: CounterEngine, memory: Log) -> None:
    await answer(
        engine,
        Envelope(
            id="c1",
            deadline=1.0,
            command=Raw(b'{"type":"Add","counter_id":"a","amount":1}'),
            digest="d",
            actor="alice",
            cause="orders=3",
            correlation="o1",
            trace="00-1-2-01",
        ),
    )
    [[commit]] = [block.commits for block in await blocks_of(memory)]
    assert (commit.digest, commit.actor, commit.cause) == ("d", "alice", "orders=3")
    assert (commit.correlation, commit.trace) == ("o1", "00-1-2-01")


async def test_a_thousand_together_land_in_few_blocks(log: Log) -> None:
    engine = await started(log)
    async with asyncio.timeout(PATIENCE_S):
        given = await asyncio.gather(*(engine.submit([command(Add(f"a{n % 7}", 1), f"c{n}")]) for n in range(1_000)))
    assert all(isinstance(each, Stored) for [each] in given)
    blocks = await blocks_of(log)
    assert len(blocks) <= 8  # Half of what waits each, down to `BLOCK_MIN`.
    assert contiguous(blocks)
    assert sum(totals(blocks).values()) == 1_000
    await engine.stop()


async def test_half_of_what_waits_goes_and_the_rest_is_decided_meanwhile(
    engine: CounterEngine, memory: FaultyLog
) -> None:
    memory.gate.clear()
    given = engine.submit([command(Add("a", 1), f"c{n}") for n in range(1_000)])
    await until_appending(memory)
    await until(lambda: engine.waiting == 0)
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert all(isinstance(each, Stored) for each in await given)
    assert [len(block.commits) for block in await blocks_of(memory)] == [500, 500]


async def test_one_block_is_in_flight_while_the_next_fills(engine: CounterEngine, memory: FaultyLog) -> None:
    memory.gate.clear()
    waiting = [engine.submit([command(Add("a", 1), f"c{n}")]) for n in range(100)]
    await until_appending(memory)
    await turns()
    assert memory.appending == 1
    memory.gate.set()
    await asyncio.gather(*waiting)
    assert memory.appending_max == 1
    assert [len(block.commits) for block in await blocks_of(memory)] == [1, 99]


async def test_the_next_command_in_a_block_is_decided_on_what_the_one_before_did(engine: CounterEngine) -> None:
    given = await answers(
        engine,
        command(Add("a", LIMIT - 1), "c1"),
        command(Add("a", 2), "c2"),
        command(Add("a", 1), "c3"),
    )
    assert [type(each) for each in given] == [Stored, Refused, Stored]
    assert isinstance(given[2], Stored)
    assert given[2].version == 2


async def test_a_refusal_gives_its_code_and_writes_nothing(engine: CounterEngine, memory: Log) -> None:
    given = await answer(engine, command(Add("a", LIMIT + 1), "c1"))
    assert given == Refused("limit_exceeded", f"a counter goes to {LIMIT}", "/amount")
    assert await blocks_of(memory) == []


async def test_a_refused_command_is_decided_anew_when_it_comes_again(engine: CounterEngine) -> None:
    again = command(Transfer("a", "b", 5), "c1")
    assert isinstance(await answer(engine, again), Refused)
    await answer(engine, command(Add("a", 5), "c2"))
    assert isinstance(await answer(engine, again), Stored)


async def test_what_is_already_so_writes_nothing_and_tells_what_that_rests_on(
    engine: CounterEngine, memory: Log
) -> None:
    await answer(engine, command(Add("a", 1), "c1"))
    assert await answer(engine, command(Add("a", 0), "c2")) == Unchanged(position=2, version=1)
    assert await answer(engine, command(Add("z", 0), "c3")) == Unchanged(position=2, version=0)
    assert len(await blocks_of(memory)) == 1


async def test_an_empty_frame_is_answered_at_once(engine: CounterEngine) -> None:
    assert await answers(engine) == []


async def test_answers_come_in_the_order_of_their_frame(engine: CounterEngine) -> None:
    given = await answers(
        engine,
        command(Add("a", 0), "c1"),
        command(Break("a"), "c2"),
        command(Add("a", 1), "c3"),
        command(Add("a", LIMIT), "c4"),
    )
    assert [type(each) for each in given] == [Unchanged, Refused, Stored, Refused]
    assert [each.code for each in given if isinstance(each, Refused)] == ["internal_error", "limit_exceeded"]


# -- when it is answered ---------------------------------------------------------------------------------------------


async def test_no_answer_is_given_before_what_it_rests_on_is_on_disk(engine: CounterEngine, memory: FaultyLog) -> None:
    memory.gate.clear()
    rests_on_it = {
        "stored": engine.submit([command(Add("a", LIMIT), "c1")]),
        "refused": engine.submit([command(Add("a", 1), "c2")]),
        "unchanged": engine.submit([command(Add("a", 0), "c3")]),
        "wrong version": engine.submit([command(Add("a", 1), "c4", expect=7)]),
        "repeated": engine.submit([command(Add("a", LIMIT), "c1")]),
        "id reused": engine.submit([command(Add("a", 3), "c1")]),
        "stored next": engine.submit([command(Add("b", 1), "c5")]),
        "repeated next": engine.submit([command(Add("b", 1), "c5")]),
    }
    await until_appending(memory)
    await turns()
    assert [name for name, given in rests_on_it.items() if given.done()] == []
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        given = {name: (await future)[0] for name, future in rests_on_it.items()}
    assert {name: type(each) for name, each in given.items()} == {
        "stored": Stored,
        "refused": Refused,
        "unchanged": Unchanged,
        "wrong version": Refused,
        "repeated": Stored,
        "id reused": Refused,
        "stored next": Stored,
        "repeated next": Stored,
    }


async def test_a_refusal_in_a_block_of_its_own_waits_for_the_block_before(
    engine: CounterEngine, memory: FaultyLog
) -> None:
    memory.gate.clear()
    stored = engine.submit([command(Add("a", LIMIT), "c1")])
    await until_appending(memory)
    refused = engine.submit([command(Add("a", 1), "c2")])
    await turns()
    assert not refused.done()
    memory.gate.set()
    assert isinstance((await stored)[0], Stored)
    assert isinstance((await refused)[0], Refused)


# -- the same command again ------------------------------------------------------------------------------------------


async def test_a_repeated_id_in_the_same_block_gives_the_first_answer(engine: CounterEngine, memory: Log) -> None:
    once = command(Add("a", 5), "c1")
    first, again, third = await answers(engine, once, once, once)
    assert isinstance(first, Stored)
    assert again == third == Stored(first.position, first.version, first.events, repeated=True)
    assert totals(await blocks_of(memory)) == {"a": 5}


async def test_a_repeated_id_whose_block_is_in_flight_gives_the_first_answer(
    engine: CounterEngine, memory: FaultyLog
) -> None:
    memory.gate.clear()
    once = command(Add("a", 5), "c1")
    first = engine.submit([once])
    await until_appending(memory)
    again = engine.submit([once])
    other = engine.submit([command(Add("a", 6), "c1")])
    memory.gate.set()
    assert await first == [Stored(2, 1, Raw(b'[{"type":"Added","counter_id":"a","amount":5}]'))]
    assert await again == [Stored(2, 1, Raw(b'[{"type":"Added","counter_id":"a","amount":5}]'), repeated=True)]
    assert isinstance(reused := (await other)[0], Refused)
    assert reused.code == "id_reused"
    assert totals(await blocks_of(memory)) == {"a": 5}


async def test_a_repeated_id_gives_the_first_answer_after_a_restart_too(log: Log) -> None:
    engine = await started(log)
    first = [await answer(engine, command(Add("a", n), f"c{n}")) for n in range(1, 4)]
    await engine.stop()
    engine = await started(log)
    again = [await answer(engine, command(Add("a", n), f"c{n}")) for n in range(1, 4)]
    for was, is_now in zip(first, again, strict=True):
        assert isinstance(was, Stored)
        assert is_now == Stored(was.position, was.version, was.events, repeated=True)
    assert totals(await blocks_of(log)) == {"a": 6}
    await engine.stop()


async def test_an_id_used_for_another_command_is_refused_wherever_the_first_one_is(engine: CounterEngine) -> None:
    reused = Refused("id_reused", "this id was used for another command before")
    first, in_same_block = await answers(engine, command(Add("a", 1), "c1"), command(Add("a", 2), "c1"))
    assert isinstance(first, Stored)
    assert in_same_block == reused
    assert await answer(engine, command(Add("a", 2), "c1")) == reused


async def test_the_digest_that_a_client_names_decides_what_is_the_same_command(engine: CounterEngine) -> None:
    assert isinstance(await answer(engine, command(Add("a", 1), "c1", digest="as sent")), Stored)
    again = await answer(engine, command(Add("a", 2), "c1", digest="as sent"))
    assert isinstance(again, Stored)
    assert again.repeated
    assert isinstance(await answer(engine, command(Add("a", 1), "c1", digest="otherwise")), Refused)


async def test_a_repeat_is_answered_though_its_deadline_has_passed(memory: FaultyLog) -> None:
    """To say "nothing was written" of a command that is in the log would be wrong."""
    engine = await started(memory, now=100.0)
    await answer(engine, command(Add("a", 1), "c1"))
    assert isinstance(await answer(engine, command(Add("a", 1), "c1", deadline=99.0)), Stored)
    await engine.stop()


async def test_a_repeat_whose_first_answer_cannot_be_read_is_unknown(engine: CounterEngine, memory: FaultyLog) -> None:
    await answer(engine, command(Add("a", 1), "c1"))
    memory.unreachable = True
    assert await answer(engine, command(Add("a", 1), "c1")) == Unknown("log_unreachable")


# -- what is asked of a command --------------------------------------------------------------------------------------


async def test_an_expected_version_is_checked_against_the_commands_own_aggregate(engine: CounterEngine) -> None:
    assert isinstance(await answer(engine, command(Add("a", 1), "c1", expect=0)), Stored)
    assert isinstance(await answer(engine, command(Add("a", 1), "c2", expect=1)), Stored)
    assert await answer(engine, command(Add("a", 1), "c3", expect=1)) == Refused(
        "version_conflict", "version is 2, expected 1"
    )
    assert isinstance(await answer(engine, command(Transfer("a", "b", 1), "c4", expect=2)), Stored)


async def test_after_its_deadline_a_command_is_not_begun(memory: FaultyLog) -> None:
    engine = await started(memory, now=100.0)
    late, timely = await answers(
        engine, command(Add("a", 1), "c1", deadline=99.9), command(Add("a", 2), "c2", deadline=100.0)
    )
    assert late == Unavailable("deadline_passed")
    assert isinstance(timely, Stored)
    assert totals(await blocks_of(memory)) == {"a": 2}
    assert isinstance(await answer(engine, command(Add("a", 1), "c1")), Stored)
    await engine.stop()


async def test_more_than_the_queue_holds_is_told_overloaded_at_once(memory: FaultyLog) -> None:
    engine = await started(memory, limits=EngineLimits(queue_max=BLOCK_COMMITS_MAX))
    memory.gate.clear()
    begun = [engine.submit([command(Add("a", 0), "first"), command(Add("a", 1), "c0")])]
    for n in range(2):  # One frame fills the block after the one in flight, one fills the queue.
        await until(lambda: engine.waiting == 0)
        begun.append(engine.submit([command(Add(f"a{i}", 1), f"c{n}-{i}") for i in range(BLOCK_COMMITS_MAX)]))
    refused = engine.submit([command(Add("b", 1), "d1"), command(Add("b", 1), "d2")])
    assert refused.done()
    assert refused.result() == [Unavailable("overloaded")] * 2
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        given = [each for frame in begun for each in await frame]
    assert {type(each) for each in given} == {Stored, Unchanged}
    assert isinstance(await answer(engine, command(Add("b", 1), "d1")), Stored)
    await engine.stop()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"type":"Add","counter_id":"a","amount":-1}', "/amount"),
        (b'{"type":"Add","counter_id":"no spaces","amount":1}', "/counter_id"),
        (b'{"type":"Add","counter_id":"a\\n","amount":1}', "/counter_id"),
        (b'{"type":"Add","counter_id":"a"}', ""),
        (b'{"type":"Subtract","counter_id":"a","amount":1}', "/type"),
        (b"[]", ""),
    ],
)
async def test_a_malformed_command_is_refused_alone_and_told_where(
    engine: CounterEngine, memory: Log, body: bytes, field: str
) -> None:
    bad = Envelope(id="bad", deadline=1.0, command=Raw(body))
    before, refused, after = await answers(engine, command(Add("a", 1), "c1"), bad, command(Add("a", 1), "c2"))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.field) == ("malformed", field)
    assert isinstance(before, Stored)
    assert isinstance(after, Stored)
    assert totals(await blocks_of(memory)) == {"a": 2}


def test_where_a_value_is_wrong_is_told_as_a_json_pointer() -> None:
    class Line(msgspec.Struct):
        sku: str

    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'[{"sku":"a"},{"sku":7}]', type=list[Line])
    assert malformed(caught.value) == Refused("malformed", "Expected `str`, got `int`", "/1/sku")


async def test_a_decider_that_raises_is_answered_alone_and_its_neighbours_are_stored(
    engine: CounterEngine, memory: Log
) -> None:
    before, broken, after = await answers(
        engine, command(Add("a", 1), "c1"), command(Break("a"), "c2"), command(Add("a", 1), "c3")
    )
    assert isinstance(broken, Refused)
    assert broken.code == "internal_error"
    assert "a defect" not in broken.detail
    assert isinstance(before, Stored)
    assert isinstance(after, Stored)
    assert versions(await blocks_of(memory)) == {"a": [1, 2]}


# -- units of work and sizes -----------------------------------------------------------------------------------------


async def test_a_unit_of_work_is_all_or_nothing_and_in_one_block(engine: CounterEngine, memory: Log) -> None:
    await answer(engine, command(Add("a", 10), "c1"))
    given = await answer(engine, command(Transfer("a", "b", 4), "c2"))
    assert given == Stored(3, 2, Raw(b'[{"type":"Added","counter_id":"a","amount":-4}]'))
    refused = await answer(engine, command(Transfer("a", "b", 7), "c3"))
    assert isinstance(refused, Refused)
    blocks = await blocks_of(memory)
    assert totals(blocks) == {"a": 6, "b": 4}
    assert [(c.id, c.aggregate, c.version) for c in blocks[-1].commits] == [("c2", "a", 2), ("c2", "b", 1)]


async def test_a_unit_of_work_that_does_not_fit_any_more_goes_whole_into_the_next_block(memory: FaultyLog) -> None:
    engine = await started(memory)
    memory.gate.clear()
    first = engine.submit([command(Add("a", LIMIT), "c0")])
    await until_appending(memory)
    fills = [command(Add(f"x{n}", 1), f"f{n}") for n in range(BLOCK_COMMITS_MAX - 1)]
    rest = engine.submit([*fills, command(Transfer("a", "b", 1), "t")])
    await until(lambda: engine.waiting == 1)
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance((await first)[0], Stored)
        assert isinstance((await rest)[-1], Stored)
    assert [len(block.commits) for block in await blocks_of(memory)] == [1, BLOCK_COMMITS_MAX - 1, 2]
    await engine.stop()


async def test_blocks_never_hold_more_than_they_may(log: Log) -> None:
    engine = await started(log)
    many = [command(Add(f"a{n}", 1), f"c{n}") for n in range(2 * BLOCK_COMMITS_MAX + 10)]
    large = [command(Scribble("s", "x" * 100_000), f"s{n}") for n in range(12)]
    async with asyncio.timeout(PATIENCE_S):
        given = [each for frame in await asyncio.gather(engine.submit(many), engine.submit(large)) for each in frame]
    assert all(isinstance(each, Stored) for each in given)
    assert max(len(block.commits) for block in await blocks_of(log)) == BLOCK_COMMITS_MAX
    assert max(len(record.data) for record in await records_of(log)) <= BLOCK_BYTES_MAX
    assert contiguous(await blocks_of(log))
    await engine.stop()


async def test_a_command_whose_events_fit_into_no_block_is_refused_alone(engine: CounterEngine, memory: Log) -> None:
    large, small = await answers(
        engine, command(Scribble("a", "x" * 1_000, times=600), "c1"), command(Add("a", 1), "c2")
    )
    assert isinstance(large, Refused)
    assert large.code == "command_too_large"
    assert isinstance(small, Stored)
    assert versions(await blocks_of(memory)) == {"a": [1]}


async def test_the_largest_command_that_fits_is_stored(log: Log) -> None:
    engine = await started(log)
    assert isinstance(await answer(engine, command(Scribble("a", "x" * (BLOCK_BYTES_MAX - 2_000)), "c1")), Stored)
    [block] = await blocks_of(log)
    assert isinstance(block.commits[0].events[0], Scribbled)
    await engine.stop()


# -- trouble with the log --------------------------------------------------------------------------------------------


async def test_two_engines_of_one_partition_both_heal_and_nothing_is_doubled(log: Log) -> None:
    one, two = await started(log), await started(log)
    async with asyncio.timeout(PATIENCE_S):
        given: list[Answer] = []
        for n in range(20):
            frames = await asyncio.gather(
                one.submit([command(Add("a", 1), f"one-{n}"), command(Add("shared", 1), f"both-{n}")]),
                two.submit([command(Add("b", 1), f"two-{n}"), command(Add("shared", 1), f"both-{n}")]),
            )
            given += [each for frame in frames for each in frame]
    assert all(isinstance(each, Stored) for each in given)
    blocks = await blocks_of(log)
    assert contiguous(blocks)
    assert totals(blocks) == {"a": 20, "b": 20, "shared": 20}
    await one.stop()
    await two.stop()


async def test_an_engine_that_loses_the_race_decides_again_on_what_the_other_wrote(memory: FaultyLog) -> None:
    one, two = await started(memory), await started(memory)
    assert isinstance(await answer(one, command(Add("a", LIMIT), "c1")), Stored)
    assert isinstance(stale := await answer(two, command(Add("a", 1), "c2")), Refused)  # It decides on its own state,
    assert stale.code == "limit_exceeded"  # which the log corrects before anything is written.
    await one.stop()
    await two.stop()


async def test_an_engine_that_was_overtaken_answers_nothing_from_what_it_knew(log: Log) -> None:
    one, two = await started(log), await started(log)
    await answer(one, command(Add("a", 100), "c1"))
    assert isinstance(await answer(two, command(Transfer("a", "b", 40), "c2")), Stored)  # It knew of nothing in "a".
    await answer(two, command(Add("a", 5), "c3"))
    assert await answer(one, command(Add("a", 0), "c4")) == Unchanged(await log.head(), 3)
    await one.stop()
    await two.stop()


async def test_a_command_that_always_loses_the_race_is_told_contended(memory: FaultyLog) -> None:
    class Contended(FaultyLog):
        async def append(self, *block: object) -> Conflict:
            return Conflict()

    contended = Contended(memory.inside)
    engine = await started(contended, limits=EngineLimits(attempts_max=3))
    assert await answer(engine, command(Add("a", 1), "c1")) == Unavailable("contended")
    assert await blocks_of(memory) == []
    await engine.stop()


async def test_a_lost_acknowledgement_is_stored_once_and_answered_stored(log: Log) -> None:
    faulty = FaultyLog(log, ["ack_lost"])
    engine = await started(faulty)
    first, again = await answers(engine, command(Add("a", 5), "c1"), command(Add("a", 5), "c2"))
    for given in (first, again):
        assert isinstance(given, Stored)
        assert given.position == 2
    assert [each.version for each in (first, again) if isinstance(each, Stored)] == [1, 2]
    assert totals(await blocks_of(log)) == {"a": 10}
    assert isinstance(await answer(engine, command(Add("a", 1), "c3")), Stored)
    assert contiguous(await blocks_of(log))
    await engine.stop()


async def test_a_block_of_which_nobody_knows_and_that_was_not_stored_is_stored_once(log: Log) -> None:
    faulty = FaultyLog(log, ["block_lost", "block_lost"])
    engine = await started(faulty)
    assert isinstance(await answer(engine, command(Add("a", 5), "c1")), Stored)
    assert totals(await blocks_of(log)) == {"a": 5}
    await engine.stop()


async def test_a_block_that_arrives_late_is_found_and_its_commands_take_effect_once(log: Log) -> None:
    faulty = FaultyLog(log, ["block_late", "block_lost"])
    engine = await started(faulty)
    faulty.gate.clear()
    waiting = engine.submit([command(Add("a", 5), "c1")])
    await until_appending(faulty)
    faulty.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        await until(lambda: faulty.late)
        assert isinstance((await faulty.deliver_late())[0], Appended)
        [given] = await waiting
    assert isinstance(given, Stored)
    assert totals(await blocks_of(log)) == {"a": 5}
    assert isinstance(await answer(engine, command(Add("a", 1), "c2")), Stored)
    await engine.stop()


async def test_nothing_is_called_unwritten_while_its_block_may_still_arrive(memory: FaultyLog) -> None:
    """The deadline passes after a block went off whose outcome nobody knows: "not written" would be a guess."""
    clock = [100.0]
    memory.faults.append("block_late")
    engine = CounterEngine(counters(), memory, now=lambda: clock[0])
    await engine.start()
    memory.gate.clear()
    waiting = engine.submit([command(Add("a", 5), "c1", deadline=101.0)])
    await until_appending(memory)
    clock[0] = 102.0
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == [Unknown("deadline_passed")]
    assert isinstance((await memory.deliver_late())[0], Appended)
    assert isinstance(await answer(engine, command(Add("a", 5), "c1")), Stored)
    assert totals(await blocks_of(memory)) == {"a": 5}
    await engine.stop()


async def test_a_command_that_may_have_been_stored_each_time_is_unknown_in_the_end(memory: FaultyLog) -> None:
    memory.faults.extend(["block_lost"] * 4)
    engine = await started(memory, limits=EngineLimits(attempts_max=3))
    assert await answer(engine, command(Add("a", 1), "c1")) == Unknown("contended")
    assert isinstance(await answer(engine, command(Add("a", 1), "c1")), Stored)
    await engine.stop()


async def test_what_a_log_refuses_is_told_unavailable_at_once_and_the_engine_goes_on(memory: FaultyLog) -> None:
    memory.faults.append("block_refused")
    memory.gate.clear()
    engine = await started(memory)
    refused = engine.submit([command(Add("a", 5), "c1"), command(Add("a", LIMIT + 1), "c2")])
    await until_appending(memory)
    on_top = engine.submit([command(Add("a", 7), "c3")])
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await refused == [Unavailable("log_full")] * 2
        [given] = await on_top
        assert isinstance(given, Stored)
        assert given.version == 1
        [repeated] = await engine.submit([command(Add("a", 5), "c1")])
    assert isinstance(repeated, Stored)
    assert not repeated.repeated
    assert versions(await blocks_of(memory)) == {"a": [1, 2]}
    await engine.stop()


async def test_what_may_be_stored_already_stays_unknown_when_the_log_refuses_it_then(memory: FaultyLog) -> None:
    memory.faults.extend(("block_late", "block_refused"))
    engine = await started(memory)
    assert isinstance(await answer(engine, command(Add("a", 5), "c1")), Unknown)
    await memory.deliver_late()
    again = await answer(engine, command(Add("a", 5), "c1"))
    assert isinstance(again, Stored)
    assert versions(await blocks_of(memory)) == {"a": [1]}
    await engine.stop()


async def test_a_log_that_does_not_answer_is_waited_for(memory: FaultyLog) -> None:
    memory.faults.append("block_lost")
    engine = await started(memory, limits=EngineLimits(catch_up_retry_s=0.001))
    memory.unreachable = True
    waiting = engine.submit([command(Add("a", 1), "c1")])
    await turns()
    assert not waiting.done()
    memory.unreachable = False
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance((await waiting)[0], Stored)
    await engine.stop()


async def test_a_log_whose_chain_is_broken_makes_start_raise() -> None:
    log = MemoryLog("counters")
    await stored_by_hand(log, seal(log.epoch, AT, "f" * 64, []), 0)
    with pytest.raises(LogDamaged, match="does not continue"):
        await started(log)


async def test_a_log_with_blocks_of_another_epoch_makes_start_raise() -> None:
    log = MemoryLog("counters")
    await stored_by_hand(log, seal("other", AT, GENESIS, []), 0)
    with pytest.raises(LogDamaged, match="of epoch other"):
        await started(log)


async def test_a_log_that_is_damaged_while_it_runs_halts_the_engine_and_everybody_is_answered(
    memory: FaultyLog,
) -> None:
    engine = await started(memory)
    await answer(engine, command(Add("a", 1), "c1"))
    await stored_by_hand(memory.inside, seal(memory.epoch, AT, "f" * 64, []), 2)
    memory.gate.clear()
    flying = engine.submit([command(Add("a", 1), "c2")])
    await until_appending(memory)
    filling = engine.submit([command(Add("a", 1), "c3"), command(Add("a", LIMIT), "c4")])
    memory.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await flying == [Unavailable("halted")]
        assert await filling == [Unavailable("halted")] * 2
        with pytest.raises(LogDamaged):
            await engine.failed
    assert await answer(engine, command(Add("a", 1), "c5")) == Unavailable("stopping")
    await engine.stop()


async def test_a_log_that_lost_its_end_halts_the_engine(memory: FaultyLog) -> None:
    engine = await started(memory)
    await answer(engine, command(Add("a", 1), "c1"))
    memory.inside = MemoryLog("counters", memory.epoch)
    assert await answer(engine, command(Add("a", 1), "c2")) == Unavailable("halted")
    with pytest.raises(LogDamaged, match="ends at 1, but 2 was read before"):
        await engine.failed
    await engine.stop()


async def test_a_log_that_lost_its_blocks_and_grew_by_others_halts_the_engine(memory: FaultyLog) -> None:
    """Its end is where it was, but what the next block would continue is gone: every append is a conflict, for ever."""
    engine = await started(memory, limits=EngineLimits(catch_up_retry_s=0.001))
    await answer(engine, command(Add("a", 1), "c1"))
    memory.inside = MemoryLog("counters", memory.epoch)
    for other in (1, 2):
        await stored_by_hand(memory.inside, seal(memory.epoch, AT, GENESIS, []), 0, partition=other)
    assert await answer(engine, command(Add("a", 1), "c2")) == Unavailable("halted")
    with pytest.raises(LogDamaged, match="does not hold block 2 of counters/0 any more"):
        await engine.failed
    await engine.stop()


@pytest.mark.parametrize("records", [0, 1, 2])
async def test_an_engine_that_nobody_writes_through_notices_that_its_log_is_another(
    memory: FaultyLog, records: int
) -> None:
    engine = await started(memory, limits=EngineLimits(catch_up_retry_s=0.001, look_every_s=0.001))
    await answer(engine, command(Add("a", 1), "c1"))
    memory.inside = MemoryLog("counters", memory.epoch)
    for record in range(records):
        await stored_by_hand(memory.inside, seal(memory.epoch, AT, GENESIS, []), 0, partition=record)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(LogDamaged):
            await engine.failed
    await engine.stop()


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_stopping_finishes_what_was_begun(memory: FaultyLog) -> None:
    engine = await started(memory)
    memory.gate.clear()
    begun = [engine.submit([command(Add("a", 1), f"c{n}")]) for n in range(3)]
    await until_appending(memory)
    stopping = asyncio.create_task(engine.stop())
    await turns()
    assert await answer(engine, command(Add("a", 1), "late")) == Unavailable("stopping")
    memory.gate.set()
    await stopping
    assert all(isinstance(frame.result()[0], Stored) for frame in begun)
    assert totals(await blocks_of(memory)) == {"a": 3}


async def test_stopping_in_time_answers_what_is_in_flight_and_what_waits(memory: FaultyLog) -> None:
    engine = await started(memory)
    memory.gate.clear()
    flying = engine.submit([command(Add("a", 1), "c1")])
    await until_appending(memory)
    filling = engine.submit([command(Add("a", 1), "c2"), command(Add("a", LIMIT), "c3")])
    await engine.stop(timeout_s=0.0)
    assert flying.result() == [Unknown("stopping")]
    assert filling.result() == [Unavailable("stopping")] * 2
    assert await blocks_of(memory) == []


async def test_stopping_answers_what_waits_for_a_log_that_does_not_answer(memory: FaultyLog) -> None:
    memory.faults.append("block_late")
    engine = await started(memory)
    memory.unreachable = True
    waiting = engine.submit([command(Add("a", 1), "c1")])
    await until(lambda: memory.late)
    await turns()
    meanwhile = engine.submit([command(Add("a", 1), "c2")])
    await engine.stop(timeout_s=0.0)
    assert waiting.result() == [Unknown("stopping")]
    assert meanwhile.result() == [Unavailable("stopping")]


async def test_stopping_answers_a_repeat_whose_first_answer_is_being_read(memory: FaultyLog) -> None:
    class Slow(FaultyLog):
        async def get(self, sequence: int) -> None:
            await asyncio.Event().wait()

    engine = await started(Slow(memory.inside))
    await answer(engine, command(Add("a", 1), "c1"))
    waiting = engine.submit([command(Add("a", 1), "c1")])
    await turns()
    await engine.stop(timeout_s=0.0)
    assert waiting.result() == [Unknown("stopping")]


async def test_an_engine_that_starts_late_knows_all_that_happened(log: Log) -> None:
    engine = await started(log)
    for n in range(5):
        await answer(engine, command(Add("a", 100), f"c{n}"))
    await engine.stop()
    seen: list[tuple[int, int]] = []
    engine = CounterEngine(counters(), log, progress=lambda done, total: seen.append((done, total)))
    await engine.start()
    assert seen[-1] == (6, 6)
    assert engine.position == 6
    refused = await answer(engine, command(Add("a", LIMIT - 400), "c9"))
    assert isinstance(refused, Refused)
    assert isinstance(await answer(engine, command(Add("a", LIMIT - 500), "c9")), Stored)
    assert hash_of((await records_of(log))[-2].data) == (await blocks_of(log))[-1].prev
    await engine.stop()


async def test_partitions_of_one_log_are_owned_apart(log: Log) -> None:
    engines = [CounterEngine(counters(), log, partition=partition) for partition in range(3)]
    for engine in engines:
        await engine.start()
    for n in range(4):
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                *(each.submit([command(Add(f"p{p}", 1), f"{p}-{n}")]) for p, each in enumerate(engines))
            )
    blocks = await blocks_of(log)
    assert contiguous(blocks)
    assert totals(blocks) == {"p0": 4, "p1": 4, "p2": 4}
    for partition, engine in enumerate(engines):
        await engine.stop()
        again = CounterEngine(counters(), log, partition=partition)
        await again.start()
        repeated = await answer(again, command(Add(f"p{partition}", 1), f"{partition}-3"))
        assert isinstance(repeated, Stored)
        assert (repeated.version, repeated.repeated) == (4, True)
        await again.stop()


async def test_an_engine_refuses_what_belongs_into_another_partition(log: Log) -> None:
    """A sender that believes in another number of partitions must not give an aggregate a second history."""
    right = partition_of("a", 4)
    other = next(name for name in ("b", "c", "d", "e", "f") if partition_of(name, 4) != right)
    engine = CounterEngine(counters(), log, partition=right, partitions=4)
    await engine.start()
    frame = [command(Add("a", 1), "c1"), command(Add(other, 1), "c2"), command(Transfer("a", other, 1), "c3")]
    stored, *refused = await engine.submit(frame)
    assert isinstance(stored, Stored)
    assert [each.code for each in refused if isinstance(each, Refused)] == ["wrong_partition"] * 2
    assert totals(await blocks_of(log)) == {"a": 1}
    await engine.stop()


async def test_an_engine_that_lost_its_partition_does_not_fight_over_a_conflict() -> None:
    """What it was about to decide may have been refused by the other owner: nothing of it is written."""
    log = FaultyLog(MemoryLog("counters"))
    mine = True
    former = CounterEngine(counters(), log, holds=lambda: mine)
    await former.start()
    latter = await started(log.inside)
    log.gate.clear()
    flying = former.submit([command(Add("a", 1), "c1")])
    await until(lambda: log.appending)
    filling = former.submit([command(Add("a", 1), "c2")])
    assert isinstance(await answer(latter, command(Add("a", 5), "c3")), Stored)
    mine = False
    log.gate.set()
    assert await flying == [Unavailable("not_owner")]
    assert await filling == [Unavailable("not_owner")]
    await former.failed
    assert await former.submit([command(Add("a", 1), "c4")]) == [Unavailable("stopping")]
    assert totals(await blocks_of(log.inside)) == {"a": 5}
    await former.stop()
    await latter.stop()
