"""A state-stored service: what it answers, when, and that it answers always."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from bus.calls.call import Unreachable
from bus.calls.deadline import HEADER
from bus.calls.over_nats import NatsTransport
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.commands import Answer, Envelope, Refused, Stored, Unavailable, Unchanged, Unknown
from bus.engines.endpoint import Endpoint
from bus.logs.log import MemoryLog
from bus.outboxes.database import Database, Doubtful, Outcome
from bus.outboxes.outbox import Relay
from bus.outboxes.state_stored import ServiceLimits, StateStoredService, answer_queries, ask
from bus.sender import Sender
from bus.servers.connection import Client
from tests.bus.faults import FaultyLog
from tests.bus.notes import NoteCommand, NoteEvent, NoteState, Write, envelope, notes
from tests.bus.waiting import PATIENCE_S, turns, until

PATIENT = ServiceLimits(published_within_s=3_600.0)


class Running:
    """A service with its database and relay, in this process."""

    def __init__(self, path: Path) -> None:
        self.database: Database[NoteState, NoteCommand, NoteEvent] = Database(notes, path)
        self.log = FaultyLog(MemoryLog("notes"))
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, limits: ServiceLimits = PATIENT) -> StateStoredService[NoteState, NoteCommand, NoteEvent]:
        await self.database.open()
        self.relay = Relay(self.database, self.log, published=lambda *told: service.published(*told), retry_s=0.001)
        service = StateStoredService(self.database, self.relay.wake, limits=limits)
        await self.relay.open()
        self.tasks = [asyncio.create_task(service.run()), asyncio.create_task(self.relay.run())]
        return service

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await self.database.close()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path / "notes.db")
    yield running
    await running.stop()


def write(number: int, text: str = "") -> Envelope:
    return envelope(Write("n", text or f"text {number}"), f"c{number}")


def briefly(answers: Sequence[Answer]) -> list[tuple[str, int, int]]:
    return [
        (type(each).__name__, each.position, each.version) for each in answers if isinstance(each, Stored | Unchanged)
    ]


async def test_answers_tell_where_the_log_has_the_change_that_they_rest_on(running: Running) -> None:
    service = await running.start()
    assert briefly(await service.submit([write(1), write(2)])) == [("Stored", 2, 1), ("Stored", 2, 2)]
    answers = await service.submit(
        [write(2), envelope(Write("n", "text 2"), "c3"), envelope(Write("n", "x" * 101), "c4")]
    )
    assert briefly(answers) == [("Stored", 2, 2), ("Unchanged", 2, 2)]
    assert isinstance(answers[0], Stored)
    assert answers[0].repeated
    assert answers[2] == Refused("too_long", "a note is short", "/text")
    assert await service.submit([]) == []


async def test_while_the_log_takes_nothing_commands_are_done_all_the_same_and_told_of_later(running: Running) -> None:
    running.log.gate.clear()
    service = await running.start(ServiceLimits(published_within_s=0.001))
    async with asyncio.timeout(PATIENCE_S):
        assert briefly(await service.submit([write(1)])) == [("Stored", 0, 1)]
    assert running.database.state("n").version == 1
    again = service.submit([write(1)])
    assert briefly(await again) == [("Stored", 0, 1)]
    running.log.gate.set()
    await until(lambda: running.relay.position == 2)
    assert briefly(await service.submit([write(1)])) == [("Stored", 2, 1)]


async def test_an_answer_waits_for_the_log_as_long_as_it_may(running: Running) -> None:
    running.log.gate.clear()
    service = await running.start()
    first = service.submit([write(1)])
    await until(lambda: running.log.appending)
    repeated = service.submit([write(1)])
    assert not first.done()
    running.log.gate.set()
    assert briefly([*await first, *await repeated]) == [("Stored", 2, 1), ("Stored", 2, 1)]


async def test_more_than_it_may_hold_is_refused_at_once(running: Running) -> None:
    service = await running.start(ServiceLimits(queue_max=2))
    waiting = service.submit([write(1), write(2)])
    assert await service.submit([write(3)]) == [Unavailable("overloaded")]
    assert briefly(await waiting) == [("Stored", 2, 1), ("Stored", 2, 2)]


async def test_a_database_that_takes_nothing_is_told_and_tried_again(running: Running, tmp_path: Path) -> None:
    service = await running.start()
    with closing(sqlite3.connect(tmp_path / "notes.db")) as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'no room'); END")
        assert await service.submit([write(1)]) == [Unavailable("database_unavailable")]
        connection.execute("DROP TRIGGER no")
    assert briefly(await service.submit([write(1)])) == [("Stored", 2, 1)]


class InDoubt(Database[NoteState, NoteCommand, NoteEvent]):
    async def write(self, envelopes: Sequence[Envelope], now: float) -> list[Outcome]:
        await super().write(envelopes, now)
        raise Doubtful("the disk did not say")


async def test_when_nobody_can_tell_what_was_written_it_says_so_and_ends(running: Running, tmp_path: Path) -> None:
    running.database = InDoubt(notes, tmp_path / "notes.db")
    service = await running.start()
    waiting = service.submit([write(1)])
    assert await waiting == [Unknown("halted")]
    with pytest.raises(Doubtful):
        await running.tasks[0]
    assert await service.submit([write(2)]) == [Unavailable("stopping")]


async def test_it_is_told_and_asked_over_nats_as_an_engine_is(running: Running, client: Client) -> None:
    path = CallPath("notes", CallPolicy(retries=0), NatsTransport("notes", client))
    with pytest.raises(Unreachable):
        await ask(path, "n")
    service = await running.start()
    endpoint = Endpoint(client, service, "notes")
    await answer_queries(client, running.database)
    await endpoint.start()
    sender = Sender(client, dict.fromkeys(notes.commands, "notes"), targets={"notes": notes.targets})
    assert (await ask(path, "n")).version == 0
    assert briefly([await sender.send(Write("n", "hello"), id="c1")]) == [("Stored", 2, 1)]
    kept = await ask(path, "n")
    assert (kept.version, msgspec.json.decode(kept.state)) == (1, {"type": "Note", "text": "hello"})
    late = asyncio.create_task(client.request("state.notes", b"n", timeout=PATIENCE_S, headers={HEADER: "0"}))
    await turns()
    assert (await ask(path, "n")).version == 1
    assert not late.done(), "it was asked first, and nobody waits for it any more"
    late.cancel()
    await endpoint.stop()
    assert await sender.send(Write("n", "again"), id="c2") == Unavailable("no_engine")
