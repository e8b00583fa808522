"""States over a store: whatever was let go and evicted comes back equal, and nothing older ever hides what is newer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import ref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.commands import Answer, Stored, Unavailable, partition_of
from bus.engines.engine import EngineLimits
from bus.engines.overlay import OverlayLimits, nearly_whole
from bus.engines.overlay import Stored as OfStore
from bus.engines.partition import Partition
from bus.engines.seen import BITS_MIN, Seen
from bus.engines.states import NEVER, UNSURE, Known, MemoryStates, Opened, StoreUnreachable, fold_block
from bus.logs.blocks import Commit
from bus.logs.log import LogDamaged, MemoryLog
from projections.aggregate_state import SqliteStateStore, aggregate_state
from projections.files import ReadModelFiles
from projections.store import Store
from tests.bus.counter import (
    Add,
    Added,
    CounterEngine,
    CounterEvent,
    Scribbled,
    answer,
    blocks_of,
    command,
    contiguous,
    counters,
    totals,
)
from tests.bus.projected import INDEX, STATES, CounterStates, Projected
from tests.bus.waiting import until
from tests.bus.written import Written


def another_fold(total: int, event: CounterEvent) -> int:
    """Of another module than the counters' own, so of another source."""
    return total


AGGREGATES = ("a", "b", "c", "d")


@pytest.fixture
def projected(tmp_path: Path) -> Iterator[Projected]:
    with Projected(tmp_path) as projected:
        yield projected


# -- evicted and back -----------------------------------------------------------------------------------------------

blocks = st.lists(st.tuples(st.sampled_from(AGGREGATES), st.integers(1, 9)), min_size=1, max_size=4)
operations = st.lists(
    st.one_of(
        blocks,
        st.tuples(st.just("project"), st.sampled_from([STATES, INDEX]), st.sampled_from([1, 2, 50])),
        st.sampled_from(["tidy", "tidy", "reopen"]),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations)
def test_what_is_evicted_comes_back_equal(script: list[object]) -> None:
    """Against states that keep everything in memory, after every step; the store lags as far as it likes."""
    with TemporaryDirectory() as folder, Projected(Path(folder)) as projected:
        asyncio.run(_compare(script, projected))


async def _compare(script: list[object], projected: Projected) -> None:
    written = _Counting(MemoryLog("counters"))
    domain = counters()
    everything = MemoryStates(domain)
    states = projected.states()
    await states.open()
    partition = Partition(domain, written.log, 0, states)
    for step in script:
        match step:
            case list():
                sequence, commits = await written.add(step)
                fold_block(domain, everything, sequence, commits)
                await partition.catch_up()
            case ("project", int(model), int(blocks)):
                await projected.project(written.log, model, blocks)
            case "tidy":
                await states.tidy()
            case _:  # A new process.
                states = projected.states()
                partition = Partition(domain, written.log, 0, states)
                await partition.open()
        for aggregate in AGGREGATES:
            if states.get(aggregate) is None:
                await states.load({aggregate}, ())
            assert states.get(aggregate) == everything.get(aggregate)
        for command_id in (*written.ids, "never"):
            if states.answered(command_id) == UNSURE:
                await states.load((), {command_id})
            found = states.answered(command_id)
            assert (NEVER if found == UNSURE else found) == everything.answered(command_id)


class _Counting(Written):
    """A log of counters whose versions go on from block to block."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.ids: list[str] = []
        self._versions: dict[str, int] = {}

    async def add(self, amounts: list[tuple[str, int]]) -> tuple[int, list[Commit[Added | Scribbled]]]:
        commits: list[Commit[Added | Scribbled]] = []
        for aggregate, amount in amounts:
            self._versions[aggregate] = self._versions.get(aggregate, 0) + 1
            self.ids.append(f"c{len(self.ids)}")
            commits.append(Commit(self.ids[-1], aggregate, self._versions[aggregate], [Added(aggregate, amount)]))
        return await self.commits(commits), commits


# -- what is newer wins ---------------------------------------------------------------------------------------------


async def opened(projected: Projected, written: Written) -> tuple[CounterStates, Partition[int, object, object]]:
    states = projected.states()
    partition: Partition[int, object, object] = Partition(counters(), written.log, 0, states)  # type: ignore[arg-type]  # Its commands do not matter here.
    await partition.open()
    return states, partition


async def test_a_look_into_the_store_does_not_hide_what_is_newer_than_it(projected: Projected) -> None:
    written = _Counting(MemoryLog("counters"))
    await written.add([("a", 1)])
    await projected.project_all(written.log)
    states, partition = await opened(projected, written)
    await written.add([("a", 2)])
    await partition.catch_up()
    await states.load({"a"}, ())
    assert states.get("a") == Known(2, 3)


async def test_states_that_are_ahead_of_the_index_are_not_folded_twice(projected: Projected) -> None:
    """An engine begins where the one that is further behind stands."""
    written = _Counting(MemoryLog("counters"))
    for _ in range(5):
        await written.add([("a", 1)])
    await projected.project(written.log, STATES, 4)
    await projected.project(written.log, INDEX, 2)
    states, partition = await opened(projected, written)
    assert (states.get("a"), partition.position) == (Known(5, 5), 6)
    assert [states.answered(command_id) for command_id in ("c2", "c3", "c4")] == [4, 5, 6]


async def test_a_store_that_went_back_is_not_read(projected: Projected, tmp_path: Path) -> None:
    """As when its files were deleted and are built anew: what was let go is not in them yet."""
    written = _Counting(MemoryLog("counters"))
    states, partition = await opened(projected, written)
    await written.add([("a", 1)])
    await partition.catch_up()
    await projected.project_all(written.log)
    await states.tidy()
    projection = aggregate_state(counters())
    files = ReadModelFiles(tmp_path)
    with Store.create(projection, files.next_build(projection), "memory") as empty:
        files.switch(projection.name, empty.path)
        with pytest.raises(StoreUnreachable, match="at 0, were at 2"):
            await states.load({"b"}, ())


async def test_commands_that_are_forgotten_are_counted(projected: Projected) -> None:
    """A look into the store from before that proves nothing about them."""
    written = _Counting(MemoryLog("counters"))
    states, partition = await opened(projected, written)
    await written.add([("a", 1)])
    await partition.catch_up()
    before = states.forgotten
    await states.tidy()
    assert (states.forgotten, states.answered("c0")) == (before, 2)
    await projected.project_all(written.log)
    await states.tidy()
    assert states.forgotten > before
    assert states.answered("c0") == UNSURE


def test_of_answered_commands_only_their_ids_are_kept(projected: Projected) -> None:
    """An engine has their events under them: those would be most of what the overlay holds."""

    class Events: ...

    events = Events()
    kept = ref(events)
    answered = {"c0": events}
    states = projected.states()
    states.advance(2, {"a": Known(1, 1)}, answered)
    del events, answered
    assert (states.answered("c0"), kept()) == (2, None)


async def test_a_log_that_is_not_what_the_states_rest_on_is_damaged(projected: Projected) -> None:
    written = _Counting(MemoryLog("counters"))
    await written.add([("a", 1)])
    await projected.project_all(written.log)
    another = _Counting(MemoryLog("counters"))
    await another.add([("a", 2)])
    with pytest.raises(LogDamaged, match="does not hold up to 2 what its states rest on"):
        await opened(projected, another)
    with pytest.raises(LogDamaged):
        await opened(projected, Written(MemoryLog("counters")))


# -- an engine over a store -----------------------------------------------------------------------------------------


async def test_an_engine_starts_with_the_blocks_that_the_store_lacks_only(projected: Projected) -> None:
    log = MemoryLog("counters")
    first = CounterEngine(counters(), log)
    await first.start()
    for number in range(20):
        await answer(first, command(Add("a", 1), f"c{number}"))
        if number == 14:
            await projected.project_all(log)
    await first.stop()
    seen: list[int] = []
    engine = CounterEngine(counters(), log, states=projected.states(), progress=lambda done, total: seen.append(done))
    await engine.start()
    assert min(seen) > 15
    told = await answer(engine, command(Add("a", 1), "c20"))
    assert isinstance(told, Stored)
    assert told.version == 21
    for number in (0, 14, 15, 19, 20):  # From the index, the tail and its own block.
        repeated = await answer(engine, command(Add("a", 1), f"c{number}"))
        assert isinstance(repeated, Stored)
        assert (repeated.repeated, repeated.version) == (True, number + 1)
    await engine.stop()


async def test_a_full_overlay_refuses_commands_until_the_store_has_caught_up(projected: Projected) -> None:
    log = MemoryLog("counters")
    states = projected.states(OverlayLimits(commits_max=4))
    engine = CounterEngine(counters(), log, states=states)
    await engine.start()
    given: list[Answer] = [await answer(engine, command(Add("a", 1), f"c{number}")) for number in range(3)]
    assert [type(each) for each in given] == [Stored, Stored, Unavailable]
    assert given[2] == Unavailable("overloaded")
    await projected.project_all(log)
    await states.tidy()
    assert isinstance(await answer(engine, command(Add("a", 1), "c2")), Stored)
    await engine.stop()


async def test_who_waits_for_a_store_hears_how_far_it_is(projected: Projected) -> None:
    written = _Counting(MemoryLog("counters"))
    for _ in range(300):
        await written.add([("a", 1)])
    store = SqliteStateStore(counters(), projected.folder)
    told: list[tuple[int, int]] = []
    waiting = asyncio.create_task(nearly_whole(store, written.log, lambda done, total: told.append((done, total))))
    await until(lambda: bool(told), "word of the store")
    assert not waiting.done()
    await projected.project_all(written.log)
    await asyncio.wait_for(waiting, 10)
    assert told[0] == (0, 301)
    store.close()


async def test_blocks_of_another_owner_are_followed_though_the_filter_takes_one_aggregate_for_another(
    projected: Projected,
) -> None:
    """Both are new when the blocks are read, and the second is hidden once the first is in the filter."""
    places: dict[int, str] = {}
    for number in count():
        second = f"n{number}"
        first = places.setdefault(hash(second) % BITS_MIN, second)
        if first != second:
            break
    log = MemoryLog("counters")
    limits = EngineLimits(catch_up_retry_s=0.001)
    engine = CounterEngine(counters(), log, states=projected.states(), limits=limits)
    await engine.start()
    other = CounterEngine(counters(), log)
    await other.start()
    for each in (first, second):
        assert isinstance(await answer(other, command(Add(each, 1), f"c-{each}")), Stored)
    given = await answer(engine, command(Add(second, 1), "mine"))
    assert isinstance(given, Stored)
    assert given.version == 2
    await engine.stop()
    await other.stop()


# -- the stored states ----------------------------------------------------------------------------------------------


async def test_stored_states_are_the_fold_of_the_log(projected: Projected) -> None:
    written = _Counting(MemoryLog("counters"))
    expected = MemoryStates(counters())
    for number in range(30):
        sequence, commits = await written.add([(AGGREGATES[number % 4], number), ("a", 1)])
        fold_block(counters(), expected, sequence, commits)
        if number % 7 == 0:
            await projected.project_all(written.log)
    await projected.project_all(written.log)
    store = SqliteStateStore(counters(), projected.folder)
    stored = await store.read(AGGREGATES, written.ids[:3])
    assert stored.sequence == 31
    assert stored.states == {name: expected.get(name) for name in AGGREGATES}
    assert stored.answered == {"c0": 2, "c1": 2, "c2": 3}
    assert sorted(key for keys in store.scan() for key in keys) == sorted([*AGGREGATES, *written.ids])
    store.close()


async def test_a_store_is_closed_only_when_nobody_reads_it_any_more(projected: Projected) -> None:
    """Who is cancelled leaves a thread behind, and a connection that is closed under it ends the process."""
    written = _Counting(MemoryLog("counters"))
    for _ in range(50):
        await written.add([(f"a{number}", 1) for number in range(40)])
    await projected.project_all(written.log)
    for _ in range(50):
        store = SqliteStateStore(counters(), projected.folder)
        reading = [asyncio.create_task(store.read([f"a{number}" for number in range(40)], ())) for _ in range(4)]
        await asyncio.sleep(0)
        for task in reading:
            task.cancel()
        store.close()
        with pytest.raises(StoreUnreachable, match="closed"):
            await store.opened()
        await asyncio.gather(*reading, return_exceptions=True)


async def test_a_store_of_another_fold_is_none(projected: Projected) -> None:
    """A changed fold has another version: what the old one left is not read."""
    written = _Counting(MemoryLog("counters"))
    await written.add([("a", 1)])
    await projected.project_all(written.log)
    store = SqliteStateStore(replace(counters(), evolve=another_fold), projected.folder)
    assert await store.opened() == Opened()
    assert await store.read({"a"}, ()) == OfStore(0, {}, {})
    store.close()


async def test_stored_states_halt_on_a_log_that_skips_a_version(projected: Projected) -> None:
    written = _Counting(MemoryLog("counters"))
    await written.commits([Commit("c0", "a", 2, [Added("a", 1)])])
    with pytest.raises(LogDamaged, match="a goes from version 0 to 2"):
        await projected.project_all(written.log)


# -- the filter -----------------------------------------------------------------------------------------------------


def test_the_filter_never_forgets_and_is_seldom_wrong() -> None:
    seen, other = Seen(1 << 20), Seen(1 << 20)
    for thousand in range(100):
        seen.add(f"k{thousand * 1_000 + number}" for number in range(1_000))
    other.add(f"o{number}" for number in range(10_000))
    seen.merge(other)
    assert all(f"k{number}" in seen for number in range(100_000))
    assert all(f"o{number}" in seen for number in range(10_000))
    assert len(seen) == 110_000
    wrong = sum(f"n{number}" in seen for number in range(100_000))
    assert 0 < wrong < 100_000 / 40


def test_filters_of_two_sizes_are_merged() -> None:
    small, large = Seen(1 << 10), Seen(1 << 16)
    for seen, other in ((small, large), (large, small)):
        seen.add(["k"])
        other.add(["o"])
        seen.merge(other)
        assert "k" in seen
        assert "o" in seen
        assert sum(f"n{number}" in seen for number in range(1_000)) < 100


# -- several partitions ---------------------------------------------------------------------------------------------


async def test_partitions_share_the_store_of_their_log(projected: Projected) -> None:
    """The store is of the whole log; each partition's engine starts from it, lets go by it, and reads what it lacks."""
    log, partitions, rounds = MemoryLog("counters"), 3, 4
    names = [f"a{n}" for n in range(12)]
    by_partition = [[name for name in names if partition_of(name, partitions) == p] for p in range(partitions)]
    for turn in range(rounds):
        engines = []
        for partition in range(partitions):
            states = projected.states()
            engine = CounterEngine(counters(), log, partition=partition, partitions=partitions, states=states)
            await engine.start()
            engines.append((engine, states))
        for number, (engine, states) in enumerate(engines):
            for name in by_partition[number]:
                given = await answer(engine, command(Add(name, 1), f"{turn}-{name}"))
                assert isinstance(given, Stored)
                assert given.version == turn + 1
            await projected.project(log, STATES, 3 + number)
            await projected.project(log, INDEX, 5 - number)
            await states.tidy()
        for number, (engine, _) in enumerate(engines):
            for name in by_partition[number]:
                again = await answer(engine, command(Add(name, 1), f"{turn // 2}-{name}"))
                assert isinstance(again, Stored)
                assert (again.version, again.repeated) == (turn // 2 + 1, True)
            await engine.stop()
    blocks = await blocks_of(log)
    assert contiguous(blocks)
    assert totals(blocks) == dict.fromkeys(names, rounds)
