"""Timers on a real server: due when they are, replaced, cancelled, kept over a restart, told once in effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw
from nats.aio.client import Client
from nats.js.api import StreamConfig

from bus.engines.endpoint import Endpoint
from bus.logs.log import MemoryLog
from bus.logs.streams import StreamMisconfigured
from bus.reactors.processes import ring
from bus.reactors.timers import Due, Timer, Timers
from bus.sender import Sender
from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.connection import close, connect
from tests.bus.counter import Add, CounterEngine, blocks_of, counters, totals
from tests.bus.waiting import PATIENCE_S

PAST = datetime(2026, 11, 21, tzinfo=UTC)
SOON_S = 0.5


def timer(id: str) -> Timer:
    return Timer(id, Raw(b"{}"), cause="log=1", correlation="o1")


def far() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def taken(timers: Timers, count: int) -> list[Due]:
    """The next so many that are due."""
    found: list[Due] = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in timers.due():
            found += batch
            if len(found) >= count:
                return found
    raise AssertionError("unreachable")


@pytest.fixture
async def timers(client: Client, unique: str) -> Timers:
    opened = Timers(client, "process", stream=unique, again_s=SOON_S)
    await opened.open()
    return opened


async def left(client: Client, stream: str) -> int:
    return (await client.jetstream().stream_info(stream)).state.messages


async def test_what_is_due_comes_with_all_that_was_set_and_goes_when_it_is_done(
    timers: Timers, client: Client, unique: str
) -> None:
    await timers.set("o1", PAST, timer("t1"))
    (due,) = await taken(timers, 1)
    assert due.timer == timer("t1")
    await due.done()
    assert await left(client, unique) == 0


async def test_what_is_not_done_comes_again(timers: Timers) -> None:
    await timers.set("o1", PAST, timer("t1"))
    for _ in range(2):
        (due,) = await taken(timers, 1)
        assert due.timer.id == "t1"
    await due.done()
    await timers.set("o2", PAST, timer("t2"))
    assert [due.timer.id for due in await taken(timers, 1)] == ["t2"]


async def test_a_key_has_one_timer_the_last_that_was_set(timers: Timers, client: Client, unique: str) -> None:
    await timers.set("o1", far(), timer("t1"))
    await timers.set("o1", PAST, timer("t2"))
    (due,) = await taken(timers, 1)
    assert due.timer.id == "t2"
    await due.done()
    assert await left(client, unique) == 0


async def test_what_is_cancelled_never_comes(timers: Timers, client: Client, unique: str) -> None:
    await timers.set("o1", far(), timer("t1"))
    await timers.set("o2", far(), timer("t2"))
    await timers.cancel("o1")
    assert await left(client, unique) == 1
    await timers.cancel("never-set")


async def test_it_is_not_due_before_its_time(timers: Timers) -> None:
    at = datetime.now(UTC) + timedelta(seconds=SOON_S)
    await timers.set("o1", at, timer("t1"))
    await taken(timers, 1)
    assert datetime.now(UTC) >= at


async def test_a_restart_of_the_broker_loses_none(tmp_path: Path) -> None:
    settings = BrokerSettings(tmp_path / "broker", free_port(), "secret")
    with EmbeddedBroker(settings) as broker:
        client = await connect(broker.url, "tests")
        timers = Timers(client, "process")
        await timers.open()
        await timers.set("o1", datetime.now(UTC) + timedelta(seconds=SOON_S), timer("t1"))
        await close(client)
    with EmbeddedBroker(settings) as broker:
        client = await connect(broker.url, "tests")
        again = Timers(client, "process")
        await again.open()
        assert [due.timer.id for due in await taken(again, 1)] == ["t1"]
        await close(client)


async def test_a_stream_that_was_made_otherwise_is_refused(client: Client, unique: str) -> None:
    await client.jetstream().add_stream(StreamConfig(name=unique, subjects=[f"{unique}.>"]))
    with pytest.raises(StreamMisconfigured, match="allow_msg_schedules"):
        await Timers(client, "process", stream=unique).open()


# -- who is told ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def log(client: Client, unique: str) -> AsyncIterator[MemoryLog]:
    log = MemoryLog(unique)
    engine = CounterEngine(counters(unique), log)
    await engine.start()
    endpoint = Endpoint(client, engine, unique)
    await endpoint.start()
    yield log
    await endpoint.stop()
    await engine.stop()
    await endpoint.drain()


async def test_an_instance_is_told_once_what_it_wanted_to_be_told(
    log: MemoryLog, client: Client, unique: str, timers: Timers
) -> None:
    sender = Sender(client, {Add: unique})
    add = Raw(msgspec.json.encode(Add("a", 1)))
    ringing = asyncio.create_task(ring(sender, timers, msgspec.json.Decoder(Add).decode, "a process"))
    try:
        for name in ("t1", "t1", "t2"):
            await timers.set("a", PAST, Timer(name, add))
            await until_empty(client, unique)
        assert totals(await blocks_of(log)) == {"a": 2}
    finally:
        ringing.cancel()
        await asyncio.wait({ringing})


async def until_empty(client: Client, stream: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await left(client, stream):
            pass
