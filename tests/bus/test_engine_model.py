"""Engines under random commands, repeats, rivals, lost and late blocks and restarts, held against a plain dict."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.commands import Answer, Envelope, Refused, Stored, Unavailable, Unknown, digest_of
from bus.engines.engine import EngineLimits
from bus.engines.overlay import OverlaidStates
from bus.engines.states import States
from bus.logs.log import MemoryLog
from tests.bus.counter import (
    LIMIT,
    NEVER_S,
    Add,
    Added,
    CounterCommand,
    CounterEngine,
    CounterEvent,
    Transfer,
    answer,
    blocks_of,
    command,
    contiguous,
    counters,
    totals,
)
from tests.bus.faults import Fault, FaultyLog
from tests.bus.projected import INDEX, STATES, Projected
from tests.bus.waiting import PATIENCE_S, turns

ENGINES = 2
AGGREGATES = ("a", "b", "c")


@dataclass(frozen=True)
class Submit:
    """Hand a frame to one of the engines and do not wait for its answers."""

    engine: int
    frame: tuple[Envelope, ...]


@dataclass(frozen=True)
class Settle:
    """Let go what is held up, and wait for all answers."""


@dataclass(frozen=True)
class HoldUp:
    """An engine's appends get nowhere for now, so that its commands pile up."""

    engine: int


@dataclass(frozen=True)
class TimePasses:
    """Some deadlines are over now."""


@dataclass(frozen=True)
class Meet:
    """This befalls an engine's next append."""

    engine: int
    fault: Fault


@dataclass(frozen=True)
class DeliverLate:
    """Blocks that were given up arrive after all."""


@dataclass(frozen=True)
class Restart:
    engine: int


@dataclass(frozen=True)
class Store:
    """All is answered, stored states and the index of commits come so many blocks further, and engines forget what is
    in both."""

    states: int
    index: int


@dataclass(frozen=True)
class Tidy:
    """An engine forgets what is stored, whatever is going on."""

    engine: int


Step = Submit | Settle | HoldUp | TimePasses | Meet | DeliverLate | Restart | Store | Tidy

amounts = st.sampled_from([0, 1, 7, 400, LIMIT])
ids = st.integers(0, 14).map(lambda number: f"c{number}")  # Few, so that they come again.
adds = st.builds(Add, st.sampled_from(AGGREGATES), amounts)
pairs = st.sampled_from(list(permutations(AGGREGATES, 2)))
transfers = st.builds(lambda pair, amount: Transfer(pair[0], pair[1], amount), pairs, amounts)
expectations = st.sampled_from([None, None, None, 0, 1, 2])
envelopes = st.builds(
    lambda what, command_id, expect, deadline: command(what, command_id, expect=expect, deadline=deadline),
    st.one_of(adds, transfers),
    ids,
    expectations,
    st.sampled_from([NEVER_S, NEVER_S, 1.0]),
)
engines = st.integers(0, ENGINES - 1)
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Submit, engines, st.lists(envelopes, min_size=1, max_size=6).map(tuple)),
    st.builds(Submit, engines, st.lists(envelopes, min_size=1, max_size=6).map(tuple)),
    st.builds(Settle),
    st.builds(HoldUp, engines),
    st.builds(TimePasses),
    st.builds(Meet, engines, st.sampled_from(["ack_lost", "block_lost", "block_late"])),
    st.builds(DeliverLate),
    st.builds(Restart, engines),
)
stores = st.builds(Store, st.sampled_from([1, 3, 99]), st.sampled_from([1, 3, 99]))
stored_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Submit, engines, st.lists(envelopes, min_size=1, max_size=6).map(tuple)),
    stores,
    st.builds(Restart, engines),
    stores,
    st.builds(Submit, engines, st.lists(envelopes, min_size=1, max_size=6).map(tuple)),
    st.builds(Tidy, engines),
    steps,
)


@dataclass
class Run:
    """One history: the engines, their faulty ways to one log, and everything that was asked and answered."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog("counters"))
    ways: list[FaultyLog] = field(default_factory=list)
    engines: list[CounterEngine] = field(default_factory=list)
    waiting: list[tuple[tuple[Envelope, ...], asyncio.Future[list[Answer]]]] = field(default_factory=list)
    told: list[tuple[Envelope, Answer]] = field(default_factory=list)
    now: float = 0.0
    projected: Projected | None = None
    """Where engines find states that they do not keep in memory; None: they keep all."""
    states: dict[int, OverlaidStates[int, CounterCommand, CounterEvent]] = field(default_factory=dict)

    async def perform(self, script: list[Step]) -> None:
        self.ways = [FaultyLog(self.log) for _ in range(ENGINES)]
        self.engines = [await self._engine(number) for number in range(ENGINES)]
        for step in script:
            await self._take(step)
        await self._settle()
        await self._take(DeliverLate())
        for engine in self.engines:
            await engine.stop()

    async def _engine(self, number: int) -> CounterEngine:
        states: States[int] | None = None
        if self.projected is not None:
            states = self.states[number] = self.projected.states()
        limits = EngineLimits(attempts_max=5)
        engine = CounterEngine(counters(), self.ways[number], states=states, limits=limits, now=lambda: self.now)
        await engine.start()
        return engine

    async def _take(self, step: Step) -> None:
        match step:
            case Submit(engine, frame):
                self.waiting.append((frame, self.engines[engine].submit(frame)))
                await turns(1)
            case Settle():
                await self._settle()
            case HoldUp(engine):
                self.ways[engine].gate.clear()
            case TimePasses():
                self.now = 2.0
            case Meet(engine, fault):
                self.ways[engine].faults.append(fault)
            case DeliverLate():
                for way in self.ways:
                    await way.deliver_late()
            case Restart(engine):
                await self.engines[engine].stop(timeout_s=0.0)
                self.engines[engine] = await self._engine(engine)
            case Store(states, index):
                assert self.projected is not None
                await self._settle()
                await self.projected.project(self.log, STATES, states)
                await self.projected.project(self.log, INDEX, index)
                for each in self.states.values():
                    await each.tidy()
            case Tidy(engine):
                await self.states[engine].tidy()

    async def _settle(self) -> None:
        for way in self.ways:
            way.gate.set()
        async with asyncio.timeout(PATIENCE_S):
            for frame, future in self.waiting:
                self.told += zip(frame, await future, strict=True)
        self.waiting.clear()
        self.now = 0.0


@settings(max_examples=250, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=25))
def test_whatever_happens_every_command_takes_effect_as_it_was_answered(script: list[Step]) -> None:
    asyncio.run(check(script))


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(stored_steps, min_size=1, max_size=30))
def test_so_it_does_when_engines_keep_only_what_is_not_stored_yet(script: list[Step]) -> None:
    with TemporaryDirectory() as folder, Projected(Path(folder)) as projected:
        asyncio.run(check(script, projected))


async def check(script: list[Step], projected: Projected | None = None) -> None:
    run = Run(projected=projected)
    await run.perform(script)
    blocks = await blocks_of(run.log)  # Its chain is checked on the way.

    # A command is in the log at most once, whole, in one block.
    homes = {(sequence, commit.id) for sequence, block in enumerate(blocks, start=2) for commit in block.commits}
    assert max(Counter(command_id for _, command_id in homes).values(), default=1) == 1
    parts = Counter((commit.id, commit.aggregate) for block in blocks for commit in block.commits)
    assert max(parts.values(), default=1) == 1

    # What was answered as stored is there, as it was answered; what was answered otherwise is not.
    position_of = {command_id: sequence for sequence, command_id in homes}
    digest_stored = {commit.id: commit.digest for block in blocks for commit in block.commits}
    stored = {envelope.id for envelope, told in run.told if isinstance(told, Stored)}
    unknown = {envelope.id for envelope, told in run.told if isinstance(told, Unknown)}
    for envelope, told in run.told:
        if isinstance(told, Stored):
            assert position_of[envelope.id] == told.position
            assert digest_stored[envelope.id] == digest_of(envelope.command)
            own = next(c for c in blocks[told.position - 2].commits if c.id == envelope.id)
            assert (own.version, msgspec.json.encode(own.events)) == (told.version, bytes(told.events))
        elif isinstance(told, Unavailable) and envelope.id not in stored:
            assert told.code in ("stopping", "contended", "deadline_passed")
    certainly_not = {envelope.id for envelope, _ in run.told} - stored - unknown
    assert not certainly_not & position_of.keys()

    # The state is the sum of what was stored, at every moment within what the domain allows.
    assert contiguous(blocks)
    effects = {(envelope.id, digest_of(envelope.command)): envelope for envelope, _ in run.told}
    sums: dict[str, int] = {}
    for command_id in position_of:
        match msgspec.json.decode(effects[command_id, digest_stored[command_id]].command, type=Add | Transfer):
            case Add(counter_id, amount):
                sums[counter_id] = sums.get(counter_id, 0) + amount
            case Transfer(source_id, target_id, amount):
                sums[source_id] = sums.get(source_id, 0) - amount
                sums[target_id] = sums.get(target_id, 0) + amount
    assert totals(blocks) == sums
    running: Counter[str] = Counter()
    for block in blocks:
        for commit in block.commits:
            running.update({commit.aggregate: sum(e.amount for e in commit.events if isinstance(e, Added))})
            assert 0 <= running[commit.aggregate] <= LIMIT

    # An engine that starts now knows all of it.
    fresh = CounterEngine(counters(), run.log, now=lambda: 0.0)
    await fresh.start()
    for aggregate, total in sums.items():
        assert isinstance(await answer(fresh, command(Transfer(aggregate, "z", total + 1), "over")), Refused)
        if total:
            assert isinstance(
                await answer(fresh, command(Transfer(aggregate, "z", total), f"all-{aggregate}")), Stored | Refused
            )
    await fresh.stop()
