"""Queued commands over a real server: what was accepted is dealt with, once, whoever is away meanwhile, and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
from msgspec import Raw, Struct
from nats.aio.client import Client
from nats.js.api import RetentionPolicy

from bus.engines.endpoint import Endpoint
from bus.logs.log import MemoryLog
from bus.logs.streams import StreamMisconfigured
from bus.queues.command_queue import (
    FRAME_COMMANDS_MAX,
    QUEUE,
    CommandQueue,
    Done,
    GivenUp,
    NotQueued,
    Outcome,
    Place,
    Queued,
    Rejected,
    ensure_queue,
    queue_stream,
    queue_subject,
)
from bus.queues.command_queue_worker import QueueLimits, QueueWorker
from bus.queues.mending import ParkedMessages
from bus.queues.parked_commands import ParkedCommands
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from tests.bus.counter import (
    Add,
    Added,
    Break,
    CounterCommand,
    CounterEngine,
    CounterEvent,
    Scribble,
    Transfer,
    blocks_of,
    counters,
    decide,
    totals,
)
from tests.bus.faults import FaultyLog
from tests.bus.waiting import until, until_told

COMMANDS = (Add, Transfer, Scribble, Break)
LIMITS = QueueLimits(attempts_max=3, backoff_s=0.001, backoff_max_s=0.01)


class Case:
    """A domain with its queue. `mended`: its decider can deal with `Break`."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.log = FaultyLog(MemoryLog(name))
        self.queue = CommandQueue(client)
        self.mended = False

        def deciding(states: Mapping[str, int], command: CounterCommand) -> list[CounterEvent]:
            if isinstance(command, Break) and self.mended:
                return [Added(command.counter_id, 100)]
            return decide(states, command)

        self.domain = replace(counters(name), decide=deciding)
        self.worker = self.new_worker(client)
        self.mending = ParkedCommands(client)

    def new_worker(self, client: Client) -> QueueWorker:
        sender = Sender(client, dict.fromkeys(COMMANDS, self.name))
        return QueueWorker(client, sender, {self.name: COMMANDS}, LIMITS)

    async def put(self, command: Struct, id: str, location: str = "") -> Place:
        return await self.queue.put(self.name, Queued(id, Raw(msgspec.json.encode(command)), location=location))

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[None]:
        running: CounterEngine = CounterEngine(self.domain, self.log)
        await running.start()
        endpoint = Endpoint(self.client, running, self.name)
        await endpoint.start()
        await self.client.flush()
        try:
            yield
        finally:
            await endpoint.stop()
            self.log.gate.set()
            await running.stop()
            await endpoint.drain()

    @asynccontextmanager
    async def working(self, worker: QueueWorker | None = None) -> AsyncIterator[None]:
        task = asyncio.create_task((worker or self.worker).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def outcome(self, place: Place) -> Outcome:
        await until_told(lambda: self.queue.outcome(place), f"what became of {place}")
        found = await self.queue.outcome(place)
        assert found is not None
        return found

    async def parked(self) -> list[str]:
        reply = await self.mending.parked({})
        listed = msgspec.json.decode(reply.detail, type=ParkedMessages)
        return [str(one.sequence) for one in listed.items if one.queue == self.name]

    def parked_but(self, before: str) -> Callable[[], Awaitable[bool]]:
        async def elsewhere() -> bool:
            return await self.parked() not in ([], [before])

        return elsewhere

    def done(self, place: Place) -> Callable[[], Awaitable[bool]]:
        async def is_done() -> bool:
            return isinstance(await self.queue.outcome(place), Done)

        return is_done


@pytest.fixture
async def case(client: Client, unique: str) -> Case:
    await ensure_queue(client)
    return Case(client, unique)


async def test_what_is_queued_is_done_and_told_where(case: Case) -> None:
    async with case.engine(), case.working():
        place = await case.put(Add("a", 5), "c1", location="/counters/a")
        assert await case.outcome(place) == Done(2, 1, "/counters/a")
        again = await case.put(Add("a", 5), "c1", location="/counters/a")
        assert await case.outcome(again) == Done(2, 1, "/counters/a")  # One id, one effect.
        nothing = await case.put(Add("a", 0), "c2")
        assert await case.outcome(nothing) == Done(2, 1)
    assert totals(await blocks_of(case.log)) == {"a": 5}
    assert not await case.queue.waits(place)


async def test_what_the_business_refuses_is_rejected_and_says_why(case: Case) -> None:
    async with case.engine(), case.working():
        place = await case.put(Transfer("a", "b", 7), "c1")
        assert await case.outcome(place) == Rejected("too_little", "a has 0", "/amount")
    assert not await case.parked()


async def test_a_burst_travels_in_full_frames_and_waits_until_an_engine_is_there(case: Case) -> None:
    count = 1_000
    async with case.working():
        places = await asyncio.gather(*(case.put(Add(f"a{n % 7}", 1), f"c{n}") for n in range(count)))
        frames = {place.sequence for place in places}
        assert len(frames) <= count // FRAME_COMMANDS_MAX + 2
        assert len(set(places)) == count
        assert await case.queue.outcome(places[-1]) is None
        assert await case.queue.waits(places[-1])
        async with case.engine():
            outcomes = [await case.outcome(place) for place in places]
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    blocks = await blocks_of(case.log)
    assert sum(totals(blocks).values()) == count
    assert len({commit.id for block in blocks for commit in block.commits}) == count


async def test_a_worker_takes_no_more_than_it_deals_with(case: Case, client: Client) -> None:
    """The rest waits in the queue, not in anybody's memory."""
    case.log.gate.clear()
    async with case.engine(), case.working():
        for n in range(3 * LIMITS.frames_in_flight_max):
            await case.put(Add("a", 1), f"c{n}")  # One after the other: a frame each.

        async def taken() -> int:
            return (await client.jetstream().consumer_info(QUEUE, f"{case.name}-queue")).num_ack_pending or 0

        async def full() -> bool:
            return await taken() >= LIMITS.frames_in_flight_max

        await until_told(full, "a worker with all that it takes")
        assert await taken() == LIMITS.frames_in_flight_max
        case.log.gate.set()


async def test_a_frame_whose_worker_ended_is_another_ones_at_once(case: Case, broker: EmbeddedBroker) -> None:
    case.log.gate.clear()
    async with case.engine():
        async with case.working():
            place = await case.put(Add("a", 5), "c1")
            await until(lambda: case.log.appending, "the command in its engine")
        assert await case.queue.outcome(place) is None
        case.log.gate.set()
        client = await connect(broker.url, "another worker")
        async with case.working(case.new_worker(client)):
            assert await case.outcome(place) == Done(2, 1)
        await close(client)
    assert totals(await blocks_of(case.log)) == {"a": 5}


async def test_what_fails_again_and_again_is_parked_and_its_neighbours_are_done(case: Case) -> None:
    async with case.engine(), case.working():
        ids = ("c1", "c2", "c3")
        commands: tuple[Struct, ...] = (Add("a", 1), Break("a"), Add("a", 2))
        places = await asyncio.gather(*(case.put(each, name) for each, name in zip(commands, ids, strict=True)))
        outcomes = [await case.outcome(place) for place in places]
        assert outcomes[0] == Done(2, 1)
        assert isinstance(outcomes[1], GivenUp)
        assert "internal_error" in outcomes[1].error
        assert isinstance(outcomes[2], Done)
        (parked,) = await case.parked()

        assert (await case.mending.redrive({"sequence": parked})).code == ""
        await until_told(case.parked_but(parked), "the parked command, parked again")  # Nothing was mended.
        assert isinstance(await case.queue.outcome(places[1]), GivenUp)

        case.mended = True
        (parked,) = await case.parked()
        assert (await case.mending.redrive({"sequence": parked})).code == ""
        await until_told(case.done(places[1]), "what was mended")
        assert await case.parked() == []
        assert (await case.mending.redrive({"sequence": parked})).code == "parked_unknown"
    assert totals(await blocks_of(case.log)) == {"a": 103}


async def test_what_is_no_command_is_parked_and_may_be_discarded(case: Case, client: Client) -> None:
    async with case.engine(), case.working():
        place = await case.queue.put(case.name, Queued("c1", Raw(b'{"type":"Nothing"}')))
        assert isinstance(await case.outcome(place), GivenUp)
        (parked,) = await case.parked()
        assert (await case.mending.discard({"sequence": parked, "reason": ""})).code == "malformed"
        assert (await case.mending.discard({"sequence": parked, "reason": "a test"})).code == ""
        assert await case.queue.outcome(place) == Rejected("discarded", "a test")
        assert await case.parked() == []
    for sequence in ("", "0", "x", str(place.sequence), "9" * 30):
        assert (await case.mending.discard({"sequence": sequence, "reason": "a test"})).code == "parked_unknown"


@pytest.mark.parametrize("erased", [True, False])
async def test_what_tells_of_people_is_overwritten_once_it_is_done(own_broker: EmbeddedBroker, erased: bool) -> None:
    client = await connect(own_broker.url, "test")
    await ensure_queue(client)
    case, secret = Case(client, "people"), "a-name-that-nobody-else-has"
    sender = Sender(client, dict.fromkeys(COMMANDS, case.name))
    worker = QueueWorker(client, sender, {case.name: COMMANDS}, LIMITS, erased=[case.name] if erased else [])
    await case.queue.put("another", Queued("c0", Raw(b"{}")))  # It keeps the file in which both lie.
    async with case.engine(), case.working(worker):
        place = await case.put(Scribble("a", secret), "c1")
        assert secret.encode() in _stored(own_broker)
        assert isinstance(await case.outcome(place), Done)

        async def gone() -> bool:
            return not await case.queue.waits(place)

        await until_told(gone, "an empty queue")
    assert (secret.encode() in _stored(own_broker)) is not erased
    await close(client)


def _stored(broker: EmbeddedBroker) -> bytes:
    """All that lies in the queue's files."""
    files = [path for path in broker.settings.folder.rglob("*") if path.is_file() and QUEUE in path.parts]
    return b"".join(path.read_bytes() for path in files)


async def test_a_full_queue_says_so_and_takes_nothing(own_broker: EmbeddedBroker) -> None:
    client = await connect(own_broker.url, "test")
    await client.jetstream().add_stream(queue_stream().evolve(max_msgs=1))
    case = Case(client, "full")
    await case.put(Add("a", 1), "c1")
    with pytest.raises(NotQueued) as refused:
        await case.put(Add("a", 1), "c2")
    assert (refused.value.code, refused.value.maybe) == ("queue_full", False)
    assert (await client.jetstream().stream_info(QUEUE)).state.messages == 1
    await close(client)


async def test_streams_of_other_limits_are_changed_and_of_another_kind_refused(own_broker: EmbeddedBroker) -> None:
    client = await connect(own_broker.url, "test")
    context = client.jetstream()
    await context.add_stream(queue_stream().evolve(max_msgs=1))
    await ensure_queue(client)
    assert (await context.stream_info(QUEUE)).config.max_msgs == queue_stream().max_msgs
    await context.delete_stream(QUEUE)
    await context.add_stream(queue_stream().evolve(retention=RetentionPolicy.LIMITS))
    with pytest.raises(StreamMisconfigured, match=QUEUE):
        await ensure_queue(client)
    await close(client)


async def test_without_a_stream_nothing_is_queued(own_broker: EmbeddedBroker) -> None:
    client = await connect(own_broker.url, "test")
    with pytest.raises(NotQueued) as refused:
        await Case(client, "nowhere").put(Add("a", 1), "c1")
    assert (refused.value.code, refused.value.maybe) == ("queue_unavailable", False)
    assert queue_subject("nowhere") == "queue.nowhere"
    await close(client)
