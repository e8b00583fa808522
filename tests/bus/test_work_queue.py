"""Work queues over a real server: each job is done, by one of those who are free, and is gone then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.client import Client

from bus.control import Reply
from bus.logs.streams import StreamMisconfigured
from bus.queues import work_queue
from bus.queues.mending import Listed, ParkedMessages
from bus.queues.parked_jobs import ParkedJobs
from bus.queues.work_queue import ATTEMPTS_MAX, JOB_BYTES_MAX, Do, Job, QueueUnavailable, WorkQueue
from bus.reactors.reactor import Again
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from tests.bus.waiting import PATIENCE_S, until, until_told


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKOFF_S", "RETRY_S"):
        monkeypatch.setattr(work_queue, name, 0.001)


@pytest.fixture
def queue(client: Client, unique: str) -> WorkQueue:
    return WorkQueue(client, "jobs", stream=unique)


@asynccontextmanager
async def working(*works: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def left(client: Client, stream: str) -> int:
    return (await client.jetstream().stream_info(stream)).state.messages


def collecting(into: list[Job]) -> Do:
    async def do(job: Job) -> None:
        into.append(job)

    return do


async def test_what_waited_is_done_once_and_is_gone(queue: WorkQueue, client: Client, unique: str) -> None:
    await queue.put("one", b"1")
    await queue.put("one", b"1")
    await queue.put("two", b"2")
    assert await left(client, unique) == 2
    done: list[Job] = []
    async with working(queue.work(collecting(done))):
        await until(lambda: len(done) == 2)
        await queue.put("three", b"3")
        await until(lambda: len(done) == 3)
    assert sorted(done) == [("one", b"1"), ("three", b"3"), ("two", b"2")]
    await _until_left(client, unique, 0)


async def test_each_job_is_for_one_of_those_who_are_free(queue: WorkQueue, client: Client, unique: str) -> None:
    done: dict[str, list[Job]] = {"a": [], "b": []}
    both = asyncio.Event()

    def doing(name: str) -> Do:
        async def do(job: Job) -> None:
            done[name].append(job)
            if all(done.values()):
                both.set()
            await both.wait()

        return do

    for number in range(40):
        await queue.put(f"j{number}", b"")
    async with working(*(WorkQueue(client, "jobs", stream=unique).work(doing(name)) for name in done)):
        await until(lambda: sum(map(len, done.values())) == 40)
        await _until_left(client, unique, 0)
    assert {job.id for jobs in done.values() for job in jobs} == {f"j{n}" for n in range(40)}
    assert all(done.values())


async def test_a_job_that_must_wait_is_done_later_and_keeps_nobody_up(
    queue: WorkQueue, client: Client, unique: str
) -> None:
    tries = 0
    done: list[str] = []

    async def do(job: Job) -> None:
        nonlocal tries
        if job.id == "later":
            tries += 1
            if tries <= ATTEMPTS_MAX + 2:
                raise Again("not yet")
        done.append(job.id)

    await queue.put("later", b"")
    await queue.put("now", b"")
    async with working(queue.work(do)):
        await until(lambda: len(done) == 2)
    assert done == ["now", "later"]
    await _until_left(client, unique, 0)


@pytest.fixture
def mending(client: Client, unique: str) -> ParkedJobs:
    return ParkedJobs(client, ["others", "jobs"], stream=unique)


async def parked(mending: ParkedJobs, key: str = "") -> list[Listed]:
    reply = await mending.parked({"key": key})
    assert not reply.code, reply
    return msgspec.json.decode(reply.detail, type=ParkedMessages).items


async def failing(job: Job) -> None:
    raise ZeroDivisionError(job.id)


async def test_a_job_that_fails_again_and_again_is_given_up_told_and_kept(
    queue: WorkQueue, mending: ParkedJobs, client: Client, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    async def do(job: Job) -> None:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError

    await queue.put("bad", b"what was to be done")
    assert await parked(mending) == []
    async with working(queue.work(do)):
        await until(lambda: "given up" in caplog.text)
        await _until_left(client, unique, 1)
    assert tries == ATTEMPTS_MAX
    assert "what was to be done" in caplog.text
    (one,) = await parked(mending)
    assert (one.queue, one.key, one.error) == ("jobs", "bad", "ZeroDivisionError()")
    assert await parked(mending, "bad") == [one]
    assert await parked(mending, "good") == []


async def test_a_parked_job_is_done_under_its_id_once_it_is_put_back(
    queue: WorkQueue, mending: ParkedJobs, client: Client, unique: str
) -> None:
    await queue.put("bad", b"1")
    async with working(queue.work(failing)):
        await until_told(lambda: parked(mending))
        (first,) = await parked(mending)
        assert await mending.redrive({"sequence": str(first.sequence)}) == Reply()

        async def again() -> bool:
            return [one.key for one in await parked(mending) if one != first] == ["bad"]

        await until_told(again)  # Nothing was mended.
    (second,) = await parked(mending)
    done: list[Job] = []
    async with working(queue.work(collecting(done))):
        assert await mending.redrive({"sequence": str(second.sequence)}) == Reply()
        await until(lambda: done)
    assert done == [("bad", b"1")]
    await _until_left(client, unique, 0)
    assert (await mending.redrive({"sequence": str(second.sequence)})).code == "parked_unknown"


async def test_a_parked_job_may_be_discarded_and_none_that_waits(
    queue: WorkQueue, mending: ParkedJobs, client: Client, unique: str
) -> None:
    await queue.put("bad", b"")
    async with working(queue.work(failing)):
        await until_told(lambda: parked(mending))
    (one,) = await parked(mending)
    assert (await mending.discard({"sequence": str(one.sequence), "reason": " "})).code == "malformed"
    assert await mending.discard({"sequence": str(one.sequence), "reason": "a test"}) == Reply()
    assert await left(client, unique) == 0
    await queue.put("good", b"")
    waits = {"sequence": str(one.sequence + 1), "reason": "a test"}
    assert (await mending.discard(waits)).code == (await mending.redrive(waits)).code == "parked_unknown"
    assert await left(client, unique) == 1


async def test_what_cannot_be_parked_waits_and_keeps_nobody_up(
    queue: WorkQueue,
    mending: ParkedJobs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(work_queue, "PARKED_MAX", 1)
    monkeypatch.setattr(work_queue, "BACKOFF_MAX_S", 0.001)
    done: list[Job] = []

    async def do(job: Job) -> None:
        if job.id == "good":
            return done.append(job)
        raise ZeroDivisionError

    for name in ("one", "two"):
        await queue.put(name, b"")
    async with working(queue.work(do)):
        await until(lambda: "cannot be parked, so it waits: 1 jobs are parked" in caplog.text)
        (first,) = await parked(mending)
        await queue.put("good", b"")
        await until(lambda: done)
        await mending.discard({"sequence": str(first.sequence), "reason": "a test"})
        await until_told(lambda: parked(mending))
    (second,) = await parked(mending)
    assert {first.key, second.key} == {"one", "two"}


async def test_the_largest_job_there_may_be_can_be_parked(queue: WorkQueue, mending: ParkedJobs) -> None:
    async def do(job: Job) -> None:
        raise ValueError("\U0001f600" * 10_000)

    with pytest.raises(ValueError, match="at most"):
        await queue.put("larger", bytes(JOB_BYTES_MAX + 1))
    await queue.put("largest", bytes(JOB_BYTES_MAX))
    async with working(queue.work(do)):
        await until_told(lambda: parked(mending))


async def test_who_dies_with_a_job_leaves_it_to_another(
    queue: WorkQueue, client: Client, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "DONE_WITHIN_S", 0.2)
    begun = asyncio.Event()

    async def never(job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    await queue.put("one", b"")
    async with working(queue.work(never)):
        await begun.wait()
    done: list[Job] = []
    async with working(queue.work(collecting(done))):
        await until(lambda: done)
    assert done == [("one", b"")]


async def test_jobs_outlive_the_broker_and_work_goes_on(own_broker: EmbeddedBroker) -> None:
    client = await connect(own_broker.url, "test")
    queue = WorkQueue(client, "jobs")
    done: list[Job] = []
    await queue.put("before", b"")
    own_broker.kill()
    with pytest.raises(QueueUnavailable):
        await queue.put("meanwhile", b"")
    own_broker.start()
    async with working(queue.work(collecting(done))):
        await until(lambda: done)
        await _put(queue, "after")
        await until(lambda: {job.id for job in done} >= {"before", "after"})
    await close(client)


async def test_a_stream_that_is_somebody_elses_is_refused(queue: WorkQueue, client: Client, unique: str) -> None:
    await client.jetstream().add_stream(name=unique, subjects=[f"{unique}.*"])
    with pytest.raises(StreamMisconfigured, match="retention"):
        await queue.put("one", b"")
    with pytest.raises(StreamMisconfigured):
        await queue.work(collecting([]))


async def _put(queue: WorkQueue, id: str) -> None:
    while True:
        try:
            return await queue.put(id, b"")
        except QueueUnavailable:
            await asyncio.sleep(0)


async def _until_left(client: Client, stream: str, number: int) -> None:
    """Acknowledgements are on their way for a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while await left(client, stream) != number:
            pass
