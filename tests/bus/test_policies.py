"""Policies over a real server: what follows from an event is sent once in effect, however often it is reacted to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client

from bus.engines.endpoint import Endpoint
from bus.logs.blocks import Commit, decoder_of
from bus.logs.log import MemoryLog
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.processes import follow
from bus.reactors.reactor import Reactor, ReactorLimits
from bus.sender import Sender
from domains.kernel import Policy
from tests.bus.counter import Add, Added, CounterEngine, CounterEvent, blocks_of, counters, totals
from tests.bus.waiting import until
from tests.bus.written import Written

QUICK = ReactorLimits(backoff_s=0.0, checkpoint_every_s=0.005)
LONG_AGO = datetime(2017, 10, 30, tzinfo=UTC)


def react(event: object) -> list[Add]:
    """Counts a total, and how often."""
    assert isinstance(event, Added)
    return [Add("total", event.amount), Add("times", 1)]


tallying: Policy[object] = Policy("tallying", {"source": (Added,)}, react)


@pytest.fixture
def source() -> Written:
    return Written(MemoryLog("source"))


@pytest.fixture
async def target(client: Client, unique: str) -> AsyncIterator[MemoryLog]:
    """The log of the counters that the policy commands, and its engine."""
    log = MemoryLog(unique)
    engine = CounterEngine(counters(unique), log)
    await engine.start()
    endpoint = Endpoint(client, engine, unique)
    await endpoint.start()
    await client.flush()
    yield log
    await endpoint.stop()
    await engine.stop()


@pytest.fixture
def sender(client: Client, unique: str) -> Sender:
    return Sender(client, {Add: unique})


async def react_to_all(source: Written, sender: Sender, path: Path, *policies: Policy[object]) -> list[str]:
    """From the beginning, without any memory of reactions, to the end. What was parked."""
    checkpoints = await Checkpoints.open(path)
    decoder = decoder_of(counters())
    reactors: list[Reactor[CounterEvent]] = [
        Reactor(policy.name, source.log, decoder, {Added: follow(sender, policy)}, checkpoints, QUICK)
        for policy in policies
    ]
    running = [asyncio.create_task(reactor.run()) for reactor in reactors]
    try:
        await until(lambda: all(reactor.position == source.last for reactor in reactors))
        return [f"{policy.name} {at}" for policy in policies for at, _ in await checkpoints.parked(policy.name)]
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await checkpoints.close()


async def commits_of(log: MemoryLog) -> list[Commit[CounterEvent]]:
    return [commit for block in await blocks_of(log) for commit in block.commits]


async def test_all_that_follows_from_an_event_is_sent_under_ids_that_name_it(
    source: Written, target: MemoryLog, sender: Sender, tmp_path: Path
) -> None:
    caused = Commit[CounterEvent](
        id="c1", aggregate="a", version=1, events=[Added("a", 7)], correlation="order", occurred_at=LONG_AGO
    )
    await source.commits([caused])
    assert await react_to_all(source, sender, tmp_path / "reactors.db", tallying) == []
    commits = await commits_of(target)
    assert {commit.id: list(commit.events) for commit in commits} == {
        "tallying-source-2-0-0": [Added("total", 7)],
        "tallying-source-2-0-1": [Added("times", 1)],
    }
    for commit in commits:
        told = (commit.actor, commit.cause, commit.correlation, commit.occurred_at)
        assert told == ("tallying", "source=2", "order", LONG_AGO)


async def test_what_a_dated_policy_sends_is_of_the_time_of_the_event(
    source: Written, target: MemoryLog, sender: Sender, tmp_path: Path
) -> None:
    dated: Policy[object] = Policy("dated", {"source": (Added,)}, react, dated=True)
    await source.block(("a", [Added("a", 7)]))
    (block,) = await blocks_of(source.log)
    await react_to_all(source, sender, tmp_path / "reactors.db", dated)
    assert {commit.occurred_at for commit in await commits_of(target)} == {block.at}


async def test_reacting_to_everything_again_changes_nothing(
    source: Written, target: MemoryLog, sender: Sender, tmp_path: Path
) -> None:
    for amount in (1, 2, 3):
        await source.block(("a", [Added("a", amount), Added("a", amount)]))
    await react_to_all(source, sender, tmp_path / "one.db", tallying)
    head = await target.head()
    await react_to_all(source, sender, tmp_path / "another.db", tallying)
    assert await target.head() == head
    assert totals(await blocks_of(target)) == {"total": 12, "times": 6}


async def test_two_policies_may_command_the_same_about_one_event(
    source: Written, target: MemoryLog, sender: Sender, tmp_path: Path
) -> None:
    also: Policy[object] = Policy("also", {"source": (Added,)}, lambda event: [Add("total", 100)])
    await source.block(("a", [Added("a", 1)]))
    assert await react_to_all(source, sender, tmp_path / "reactors.db", tallying, also) == []
    assert totals(await blocks_of(target)) == {"total": 101, "times": 1}


async def test_what_is_refused_is_parked_and_withholds_no_other(
    source: Written, target: MemoryLog, sender: Sender, tmp_path: Path
) -> None:
    await source.block(("bad", [Added("bad", 1_001)]), ("good", [Added("good", 5)]))
    assert await react_to_all(source, sender, tmp_path / "reactors.db", tallying) == ["tallying 2"]
    assert totals(await blocks_of(target)) == {"total": 5, "times": 2}
