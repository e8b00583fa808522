"""Presence: who is there as long as it says so, and the subject that reaches an owner and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.client import Client

from bus.commands import Stored, Unavailable, command_subject
from bus.engines.endpoint import Endpoint
from bus.logs.log import MemoryLog
from bus.presence import SILENT_S, Announcing, Owned, Present, Worker, this_process
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from tests.bus.counter import Add, CounterEngine, blocks_of, counters, totals
from tests.bus.waiting import until
from tests.clock import Clock


def worker(name: str, *owns: Owned) -> Worker:
    return Worker(name, "host", 1, "", ("commands",), 0.0, "1", owns)


def test_who_says_nothing_is_not_there(present: Present, clock: Clock) -> None:
    present.hear(worker("b"))
    present.hear(worker("a"))
    assert [each.id for each in present.workers()] == ["a", "b"]
    clock.now += SILENT_S
    present.hear(worker("a"))
    clock.now += SILENT_S / 2
    assert [each.id for each in present.workers()] == ["a"]


def test_who_leaves_is_not_there_any_more(present: Present) -> None:
    present.hear(worker("a"))
    present.hear(msgspec.structs.replace(worker("a"), leaving=True))
    assert present.workers() == []


def test_the_later_owner_is_addressed_and_nobody_when_it_is_silent(present: Present, clock: Clock) -> None:
    def owned(token: int, *, serving: bool = True) -> Owned:
        return Owned("orders", 2, token, serving)

    assert present.address("orders", 2) == "cmd.orders.2"
    present.hear(worker("a", owned(7, serving=False)))
    assert present.address("orders", 2) == "cmd.orders.2", "it does not serve yet"
    present.hear(worker("a", owned(7)))
    assert present.address("orders", 2) == "cmd.orders.2.7"
    present.hear(worker("b", owned(12)))
    present.hear(worker("a", owned(7)))
    assert present.address("orders", 2) == "cmd.orders.2.12", "the former owner does not know yet"
    clock.now += SILENT_S * 1.01
    assert present.address("orders", 2) == "cmd.orders.2"
    present.hear(worker("a", owned(3)))
    assert present.address("orders", 2) == "cmd.orders.2.3", "tokens began anew, as after the loss of the bucket"
    assert present.address("orders", 1) == "cmd.orders.1"


async def test_what_is_announced_is_heard(client: Client) -> None:
    present, announcing = Present(client), Announcing(client, this_process(("commands",), "1"))
    await present.start()
    announcing.owns = lambda: (Owned("orders", 0, 3, True),)
    running = asyncio.create_task(announcing.run())
    await until(lambda: announcing.worker.id in [each.id for each in present.workers()])
    assert present.address("orders", 0) == "cmd.orders.0.3"
    running.cancel()
    await announcing.leave()
    await until(lambda: announcing.worker.id not in [each.id for each in present.workers()])


async def test_an_announcement_that_makes_no_sense_is_nobody(client: Client) -> None:
    present = Present(client)
    await present.start()
    await client.publish("worker.x", b"nonsense")
    await client.flush()
    assert "x" not in [each.id for each in present.workers()]


# -- senders and owners ---------------------------------------------------------------------------------------------


class Owner:
    """An engine of a log of its own, so that it shows who was reached; frozen, it takes frames and does nothing."""

    def __init__(self, log: MemoryLog, token: int) -> None:
        self.log = log
        self.token = token
        self.holds = True


@asynccontextmanager
async def owner(broker: EmbeddedBroker, domain: str, token: int) -> AsyncIterator[Owner]:
    client = await connect(broker.url, "engine")
    its = Owner(MemoryLog(domain), token)
    engine = CounterEngine(counters(domain), its.log, holds=lambda: its.holds)
    await engine.start()
    endpoint = Endpoint(client, engine, domain, token=token, holds=lambda: its.holds)
    await endpoint.start()
    await client.flush()
    yield its
    await endpoint.stop()
    await engine.stop()
    await close(client)


async def test_a_frozen_owner_gets_no_share_of_what_its_successor_is_sent(
    broker: EmbeddedBroker, client: Client, present: Present, unique: str
) -> None:
    sender = Sender(client, {Add: unique}, address=present.address)
    async with owner(broker, unique, 7) as former, owner(broker, unique, 12) as latter:
        present.hear(worker("b", Owned(unique, 0, 12, True)))
        former.holds = False
        for number in range(20):
            assert isinstance(await sender.send(Add("a", 1), id=f"c{number}"), Stored)
        assert totals(await blocks_of(latter.log)) == {"a": 20}
        assert await former.log.head() == 1


async def test_the_successor_of_an_owner_that_is_gone_is_waited_for_as_long_as_the_owner_may_be_there(
    broker: EmbeddedBroker, client: Client, present: Present, clock: Clock, unique: str
) -> None:
    sender = Sender(client, {Add: unique}, address=present.address)
    assert await sender.send(Add("a", 1), id="c1") == Unavailable("no_engine"), "there was none"
    present.hear(worker("a", Owned(unique, 0, 7, True)))
    waits = asyncio.create_task(sender.send(Add("a", 1), id="c2"))
    await asyncio.sleep(0.05)
    async with owner(broker, unique, 12):
        assert isinstance(await waits, Stored), "it is asked on the common subject"
    waits = asyncio.create_task(sender.send(Add("a", 1), id="c3"))
    await asyncio.sleep(0.05)
    assert not waits.done()
    clock.now += SILENT_S * 1.01
    assert await waits == Unavailable("no_engine"), "there is none any more, and nothing was written"


async def test_frames_that_reach_a_former_owner_go_to_the_next(
    broker: EmbeddedBroker, client: Client, present: Present, unique: str
) -> None:
    sender = Sender(client, {Add: unique}, address=present.address)
    async with owner(broker, unique, 7) as former, owner(broker, unique, 12) as latter:
        present.hear(worker("a", Owned(unique, 0, 7, True)))
        former.holds = False
        sent = asyncio.create_task(sender.send(Add("a", 1), id="c1"))
        await asyncio.sleep(0.05)
        present.hear(worker("b", Owned(unique, 0, 12, True)))
        assert isinstance(await sent, Stored)
        assert totals(await blocks_of(latter.log)) == {"a": 1}
        assert await former.log.head() == 1


async def test_that_one_owner_wrote_nothing_is_no_answer_when_another_had_the_frame(
    client: Client, present: Present, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first takes it and says nothing; the second refuses to take more. The first may yet write it."""
    monkeypatch.setattr("bus.sender.ANSWER_WITHIN_S", 0.05)
    asked: list[bytes] = []

    async def arrived(message: object) -> None:
        asked.append(message.data)  # type: ignore[attr-defined]
        if len(asked) > 1:
            await message.respond(msgspec.json.encode([Unavailable("stopping")]))  # type: ignore[attr-defined]

    await client.subscribe(command_subject(unique, 0), cb=arrived)
    answer = await Sender(client, {Add: unique}).send(Add("a", 1), id="c1", timeout_s=0.6)
    assert type(answer).__name__ == "Unknown"
    assert len(asked) > 2
