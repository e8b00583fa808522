"""Alarms: timers are set when they are wanted for long, and nothing is lost that is held until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client

from bus.logs.blocks import Commit, decoder_of
from bus.logs.log import MemoryLog
from bus.reactors.alarms import Alarms
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.timers import Timers
from domains.kernel import Asleep, Wake
from tests.bus.counter import Add, Added, CounterEvent, Scribbled, counters
from tests.bus.waiting import until, until_told
from tests.bus.written import Written

LONG_S, SHORT_S = 3_600.0, 0.01


def timing(event: object) -> Wake | Asleep | None:
    """Counters want to be told some time after they were added to, until something is scribbled on them."""
    match event:
        case Added(aggregate, amount):
            return Wake(3_600 * amount, Add(aggregate, 1))
        case Scribbled():
            return Asleep()
    return None


@pytest.fixture
def written() -> Written:
    return Written(MemoryLog("counters"))


@pytest.fixture
async def timers(client: Client, unique: str) -> Timers:
    opened = Timers(client, "counters", stream=unique)
    await opened.open()
    return opened


@pytest.fixture
async def checkpoints(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    opened = await Checkpoints.open(tmp_path / "reactors.db")
    yield opened
    await opened.close()


class Told:
    """What the broker was told."""

    def __init__(self, client: Client, stream: str) -> None:
        self._js = client.jetstream()
        self._stream = stream

    async def set_so_far(self) -> int:
        return (await self._js.stream_info(self._stream)).state.last_seq

    async def holds(self) -> int:
        return (await self._js.stream_info(self._stream)).state.messages


@pytest.fixture
def told(client: Client, unique: str) -> Told:
    return Told(client, unique)


@asynccontextmanager
async def running(
    written: Written, timers: Timers, checkpoints: Checkpoints, hold_s: float, held_max: int = 100
) -> AsyncIterator[Alarms[CounterEvent]]:
    alarms = Alarms("alarms", written.log, decoder_of(counters()), timing, timers, checkpoints, hold_s, held_max)
    task = asyncio.create_task(alarms.run())
    yield alarms
    await alarms.save()
    task.cancel()
    await asyncio.wait({task})


def commit(key: str, event: CounterEvent, version: int = 1) -> Commit[CounterEvent]:
    return Commit(f"{key}{version}", key, version, [event])


async def began(written: Written, *keys: str) -> int:
    return await written.commits([commit(key, Added(key, 1)) for key in keys], at=datetime.now(UTC))


async def ended(written: Written, *keys: str) -> int:
    return await written.commits([commit(key, Scribbled(key, "-"), 2) for key in keys])


async def test_what_is_soon_wanted_no_more_costs_the_broker_nothing(
    written: Written, timers: Timers, checkpoints: Checkpoints, told: Told
) -> None:
    async with running(written, timers, checkpoints, LONG_S) as alarms:
        await began(written, "a", "b")
        last = await ended(written, "a", "b")
        await until(lambda: alarms.position == last)
    assert await told.set_so_far() == 0


async def test_what_is_wanted_for_longer_is_set_and_cancelled_when_it_is_wanted_no_more(
    written: Written, timers: Timers, checkpoints: Checkpoints, told: Told
) -> None:
    async with running(written, timers, checkpoints, SHORT_S) as alarms:
        last = await began(written, "a", "b")
        await until(lambda: alarms.position == last)
        assert await told.holds() == 2
        last = await ended(written, "a")
        await until(lambda: alarms.position == last)
        assert await told.holds() == 1


async def test_what_was_held_when_it_crashed_is_set_afterwards(
    written: Written, timers: Timers, checkpoints: Checkpoints, told: Told
) -> None:
    async with running(written, timers, checkpoints, LONG_S) as alarms:
        await began(written, "a")
        first = await ended(written, "a")
        await until(lambda: alarms.position == first)
        await began(written, "b")
        await ended(written, "c")
        await until_told(lambda: _holds_back(alarms, first))
    assert await told.set_so_far() == 0
    async with running(written, timers, checkpoints, SHORT_S) as again:
        await until(lambda: again.position == written.last)
    assert (await told.set_so_far(), await told.holds()) == (1, 1)


async def _holds_back(alarms: Alarms[CounterEvent], position: int) -> bool:
    """It has read further, and says no more than what is done."""
    await alarms.save()
    return alarms.position == position and alarms.seen > position + 1


async def test_one_that_was_set_before_is_cancelled_although_another_is_held_in_its_place(
    written: Written, timers: Timers, checkpoints: Checkpoints, told: Told
) -> None:
    async with running(written, timers, checkpoints, SHORT_S) as alarms:
        last = await began(written, "a")
        await until(lambda: alarms.position == last)
    async with running(written, timers, checkpoints, LONG_S) as alarms:
        await written.commits([commit("a", Added("a", 2), 2)], at=datetime.now(UTC))
        await written.commits([commit("a", Scribbled("a", "-"), 3)])
        await until(lambda: alarms.seen == written.last)
    async with running(written, timers, checkpoints, SHORT_S) as alarms:
        await until(lambda: alarms.position == written.last)
    assert await told.holds() == 0


async def test_where_too_many_are_held_they_are_set_early(
    written: Written, timers: Timers, checkpoints: Checkpoints, told: Told
) -> None:
    async with running(written, timers, checkpoints, LONG_S, held_max=2):
        await began(written, "a", "b", "c")
        await until_told(lambda: _at_least(told, 3))


async def _at_least(told: Told, count: int) -> bool:
    return await told.holds() >= count
