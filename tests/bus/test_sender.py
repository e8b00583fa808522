"""Senders and endpoints over a real server: commands travel together, and every one of them gets a definite answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.commands import (
    FRAME_BYTES_MAX,
    Answer,
    Refused,
    Stored,
    Unavailable,
    Unknown,
    command_subject,
    decode_answers,
    encode,
)
from bus.engines.endpoint import Endpoint
from bus.logs.log import MemoryLog
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from tests.bus.counter import Add, CounterEngine, Scribble, Transfer, blocks_of, contiguous, counters, totals
from tests.bus.faults import FaultyLog
from tests.bus.waiting import PATIENCE_S, until


@pytest.fixture
def log(unique: str) -> FaultyLog:
    return FaultyLog(MemoryLog(unique))


@pytest.fixture
async def engine(log: FaultyLog, unique: str) -> AsyncIterator[CounterEngine]:
    running = CounterEngine(counters(unique), log)
    await running.start()
    yield running
    log.gate.set()
    await running.stop()


@pytest.fixture
async def endpoint(broker: EmbeddedBroker, engine: CounterEngine, unique: str) -> AsyncIterator[Endpoint]:
    """The engine, served on a connection of its own."""
    client = await connect(broker.url, "engine")
    serving = Endpoint(client, engine, unique)
    await serving.start()
    await client.flush()
    yield serving
    await serving.stop()
    await serving.drain()
    await close(client)


@pytest.fixture
def sender(client: Client, unique: str) -> Sender:
    return Sender(client, {Add: unique, Transfer: unique, Scribble: unique})


async def send_all(sender: Sender, count: int, timeout_s: float = 5.0) -> list[Answer]:
    async with asyncio.timeout(PATIENCE_S):
        sending = (sender.send(Add(f"a{n % 5}", 1), id=f"c{n}", timeout_s=timeout_s) for n in range(count))
        return list(await asyncio.gather(*sending))


async def test_one_command_is_sent_and_answered(endpoint: Endpoint, sender: Sender, log: FaultyLog) -> None:
    given = await sender.send(Add("a", 5), id="c1", actor="alice", expect=0)
    assert isinstance(given, Stored)
    assert (given.position, given.version, bytes(given.events)) == (
        2,
        1,
        b'[{"type":"Added","counter_id":"a","amount":5}]',
    )
    [[commit]] = [block.commits for block in await blocks_of(log)]
    assert (commit.id, commit.actor) == ("c1", "alice")


async def test_many_commands_at_once_are_each_answered_in_few_frames_and_blocks(
    endpoint: Endpoint, sender: Sender, log: FaultyLog
) -> None:
    given = await send_all(sender, 3_000)
    assert all(isinstance(each, Stored) for each in given)
    blocks = await blocks_of(log)
    assert len(blocks) <= 16
    assert contiguous(blocks)
    assert sum(totals(blocks).values()) == 3_000


async def test_large_commands_travel_in_frames_that_the_broker_takes(
    endpoint: Endpoint, sender: Sender, log: FaultyLog
) -> None:
    text = "x" * (FRAME_BYTES_MAX // 3)
    given = await asyncio.gather(*(sender.send(Scribble("a", text), id=f"c{n}") for n in range(12)))
    assert all(isinstance(each, Stored) for each in given)
    assert sum(len(block.commits) for block in await blocks_of(log)) == 12


async def test_a_command_larger_than_a_frame_is_refused_and_not_sent(sender: Sender) -> None:
    given = await sender.send(Scribble("a", "x" * FRAME_BYTES_MAX), id="c1")
    assert isinstance(given, Refused)
    assert given.code == "command_too_large"


async def test_a_malformed_envelope_is_refused_alone_and_spoils_nobodys_frame(
    endpoint: Endpoint, sender: Sender
) -> None:
    bad, good = await asyncio.gather(sender.send(Add("a", 1), id="x" * 129), sender.send(Add("a", 1), id="c1"))
    assert bad == Refused("malformed", "Expected `str` of length <= 128", "/id")
    assert isinstance(good, Stored)


async def test_a_frame_that_makes_no_sense_gets_one_definite_answer(
    endpoint: Endpoint, client: Client, unique: str
) -> None:
    message = await client.request(command_subject(unique, 0), b'[{"id":1}]')
    [given] = decode_answers(message.data)
    assert isinstance(given, Refused)
    assert given.code == "malformed_frame"


async def test_without_an_engine_everybody_hears_so_quickly(sender: Sender) -> None:
    began = time.monotonic()
    assert await send_all(sender, 100) == [Unavailable("no_engine")] * 100
    assert time.monotonic() - began < 2.0


async def test_an_engine_that_does_not_answer_is_unknown_at_the_timeout(
    endpoint: Endpoint, sender: Sender, log: FaultyLog
) -> None:
    log.gate.clear()
    began = time.monotonic()
    assert await send_all(sender, 10, timeout_s=0.2) == [Unknown("no answer in time")] * 10
    assert 0.15 < time.monotonic() - began < 2.0
    log.gate.set()
    again = await send_all(sender, 10)
    assert all(isinstance(each, Stored) for each in again)
    assert sum(totals(await blocks_of(log)).values()) == 10


async def test_an_answer_that_does_not_match_its_frame_is_nobodys(client: Client, sender: Sender, unique: str) -> None:
    async def arrived(message: Msg) -> None:
        await message.respond(encode([Unavailable("stopping")]))

    await client.subscribe(command_subject(unique, 0), cb=arrived)
    assert await send_all(sender, 2) == [Unknown("answers do not match the frame")] * 2


async def test_more_than_the_queue_holds_is_told_overloaded_at_once(
    endpoint: Endpoint, sender: Sender, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.sender.QUEUE_MAX", 10)
    given = await send_all(sender, 15)
    assert [type(each) for each in given] == [Stored] * 10 + [Unavailable] * 5
    assert given[-1] == Unavailable("overloaded")
    assert sum(totals(await blocks_of(log)).values()) == 10


async def test_a_caller_who_is_cancelled_leaves_the_others_alone(
    endpoint: Endpoint, sender: Sender, log: FaultyLog
) -> None:
    log.gate.clear()
    first, second = (asyncio.create_task(sender.send(Add("a", 1), id=f"c{n}")) for n in range(2))
    await until(lambda: log.appending)
    first.cancel()
    await asyncio.wait({first})
    log.gate.set()
    assert isinstance(await second, Stored)
    assert first.cancelled()
    assert totals(await blocks_of(log)) == {"a": 2}  # It was on its way already.


async def test_a_caller_who_is_cancelled_before_the_command_left_has_sent_nothing(
    endpoint: Endpoint, sender: Sender, log: FaultyLog
) -> None:
    first, second = (asyncio.create_task(sender.send(Add("a", 1), id=f"c{n}")) for n in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Stored)
    assert first.cancelled()
    assert totals(await blocks_of(log)) == {"a": 1}


async def test_a_stopped_endpoint_takes_no_more_and_still_answers_what_it_took(
    endpoint: Endpoint, sender: Sender, log: FaultyLog
) -> None:
    log.gate.clear()
    taken = asyncio.create_task(sender.send(Add("a", 1), id="c1"))
    await until(lambda: log.appending)
    await endpoint.stop()
    assert await sender.send(Add("a", 1), id="c2") == Unavailable("no_engine")
    log.gate.set()
    assert isinstance(await taken, Stored)


async def test_when_the_broker_dies_every_answer_is_definite_and_none_hangs(
    own_broker: EmbeddedBroker, engine: CounterEngine, log: FaultyLog, unique: str
) -> None:
    serving, sending = await connect(own_broker.url, "engine"), await connect(own_broker.url, "sender")
    endpoint = Endpoint(serving, engine, unique)
    await endpoint.start()
    await serving.flush()
    sender = Sender(sending, {Add: unique})
    log.gate.clear()
    caught = asyncio.create_task(send_all(sender, 50, timeout_s=0.5))
    await until(lambda: log.appending)
    own_broker.kill()
    log.gate.set()
    assert {type(each) for each in await caught} == {Unknown}
    await until(lambda: not sending.is_connected)
    assert await send_all(sender, 50, timeout_s=0.5) == [Unavailable("broker_unreachable")] * 50
    own_broker.start()
    await until(lambda: sending.is_connected and serving.is_connected)
    for _ in range(10):  # Until the engine's subscription is known to the new server too.
        if all(isinstance(each, Stored) for each in await send_all(sender, 50)):
            break
        await asyncio.sleep(0.05)
    assert sum(totals(await blocks_of(log)).values()) == 50
    await close(serving)
    await close(sending)


async def test_the_partition_is_chosen_by_the_aggregate(client: Client, unique: str) -> None:
    logs = [MemoryLog(unique), MemoryLog(unique)]
    engines = [CounterEngine(counters(unique), each) for each in logs]
    endpoints = [Endpoint(client, engine, unique, partition) for partition, engine in enumerate(engines)]
    for engine, endpoint in zip(engines, endpoints, strict=True):
        await engine.start()
        await endpoint.start()
    told = Sender(client, {Add: unique}, {unique: 2})
    knows = Sender(client, {Add: unique}, {unique: 2}, {unique: counters().targets})
    for n in range(8):
        assert isinstance(await told.send(Add(f"a{n}", 1), id=f"c0-{n}", aggregate=f"a{n}"), Stored)
        assert isinstance(await knows.send(Add(f"a{n}", 1), id=f"c1-{n}"), Stored)
    found = [totals(await blocks_of(each)) for each in logs]
    assert found[0]
    assert found[1]
    assert found[0] | found[1] == {f"a{n}": 2 for n in range(8)}
    for engine, endpoint in zip(engines, endpoints, strict=True):
        await endpoint.stop()
        await engine.stop()
