"""Events of older versions: whoever reads a log, sees them in today's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw, Struct

from bus.commands import Stored, digest_of
from bus.engines.engine import Engine
from bus.logs.blocks import GENESIS, Chain, Commit, decoder_of, hash_of, seal
from bus.logs.log import LogDamaged, MemoryLog, Record
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.reactor import Occurrence, Reactor
from domains.kernel import Upcaster
from projections.aggregate_state import source_version
from tests.bus.counter import Add, Added, CounterCommand, CounterEvent, Scribbled, answer, command, counters
from tests.bus.waiting import until
from tests.bus.written import AT


class Incremented(Struct, frozen=True, tag=True):
    """By one: what `Added` was at first."""

    counter_id: str


class Increased(Struct, frozen=True, tag="Incremented.2"):
    """What it was then."""

    counter_id: str
    by: int


DOMAIN = replace(
    counters(),
    upcasters=(
        Upcaster(Incremented, lambda older: Increased(older.counter_id, 1)),
        Upcaster(Increased, lambda older: Added(older.counter_id, older.by)),
    ),
)
ADD_2 = msgspec.json.encode(Add("a", 2))
LIFE: list[list[object]] = [
    [Incremented("a")],
    [Increased("a", 2), Scribbled("a", "x"), Incremented("a")],
    [Added("a", 3)],
]
TODAY: list[list[CounterEvent]] = [
    [Added("a", 1)],
    [Added("a", 2), Scribbled("a", "x"), Added("a", 1)],
    [Added("a", 3)],
]
decode = decoder_of(DOMAIN).decode


def block(prev: str, *versions: int) -> bytes:
    """With these commits of a counter's life."""
    commits = [Commit(f"c{n}", "a", n, LIFE[n - 1], digest=digest_of(Raw(ADD_2))) for n in versions]
    return seal("memory", AT, prev, [msgspec.json.encode(commit) for commit in commits])


@pytest.fixture
async def log() -> MemoryLog:
    """Two blocks, the second of older and today's versions."""
    log = MemoryLog("counters")
    first = block(GENESIS, 1)
    second = block(hash_of(first), 2, 3)
    await log.append(0, first, hash_of(first), 0)
    await log.append(0, second, hash_of(second), 2)
    return log


@pytest.fixture
async def checkpoints(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    opened = await Checkpoints.open(tmp_path / "reactors.db")
    yield opened
    await opened.close()


def test_every_older_version_is_read_as_todays() -> None:
    assert [commit.events for commit in decode(block(GENESIS, 1, 2, 3)).commits] == TODAY


def test_a_block_of_todays_versions_is_read_as_it_is() -> None:
    data = block(GENESIS, 3)
    assert decode(data) == decoder_of(counters()).decode(data)


def test_what_is_no_version_of_anything_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Invalid value 'Incremented\.3'"):
        decode(block(GENESIS, 2).replace(b"Incremented.2", b"Incremented.3"))
    with pytest.raises(msgspec.ValidationError, match="missing required field `by`"):
        decode(block(GENESIS, 2).replace(b'"by"', b'"to"'))


def test_the_chain_is_over_what_was_written() -> None:
    first = block(GENESIS, 1)
    second = block(hash_of(first), 2, 3)
    chain = Chain("memory", whole=True)
    for sequence, data in enumerate((first, second), start=2):
        chain.follow(Record(sequence, 0, data), decode)
    assert chain.tips == {0: hash_of(second)}
    with pytest.raises(LogDamaged, match="does not continue"):
        chain.follow(Record(4, 0, block(hash_of(first), 3)), decode)


async def test_an_engine_goes_on_and_repeats_first_answers_in_todays_version(log: MemoryLog) -> None:
    engine: Engine[int, CounterCommand, CounterEvent] = Engine(DOMAIN, log)
    await engine.start()
    again = await answer(engine, command(Add("a", 2), "c2"))
    assert again == Stored(3, 2, Raw(msgspec.json.encode(TODAY[1])), repeated=True)
    most = await answer(engine, command(Add("a", 1_000 - 7), "c4"))
    assert isinstance(most, Stored)
    assert most.version == 4
    await engine.stop()


async def test_a_reactor_is_told_of_todays_version(log: MemoryLog, checkpoints: Checkpoints) -> None:
    seen: dict[str, object] = {}

    async def react(what: Occurrence) -> None:
        seen[what.id] = what.event

    reactor = Reactor("test", log, decoder_of(DOMAIN), {Added: react}, checkpoints)
    running = asyncio.create_task(reactor.run())
    await until(lambda: reactor.position == 3 and not reactor.working)
    running.cancel()
    await asyncio.wait({running})
    assert seen == {
        "counters-2-0": Added("a", 1),
        "counters-3-0": Added("a", 2),
        "counters-3-2": Added("a", 1),
        "counters-3-3": Added("a", 3),
    }


def test_stored_states_change_with_how_older_events_are_read() -> None:
    assert source_version(DOMAIN) != source_version(counters())
