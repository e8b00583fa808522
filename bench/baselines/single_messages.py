"""A message a command: what most systems on JetStream do, waiting for each acknowledgement or for many at once."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable
from functools import partial

from nats.js import JetStreamContext
from nats.js.api import PubAck, StreamConfig

from bench.closed_loop import closed_loop, up_to
from bench.load import new_tag, order_commit
from bench.rounds import Round
from bench.server import Server
from bench.stored import NotStored, expect

ASYNC_SUBJECTS = 1_000


async def plain(server: Server) -> Callable[[int, int], Awaitable[Round]]:
    """A `js.publish` with an expectation a command, one subject an aggregate."""
    stream = await _stream(server, "plain")

    async def do(in_flight: int, n: int) -> Round:
        commits = _commits(n)
        before = await _messages(stream, "plain")

        async def one(number: int) -> None:
            name, commit = commits[number]
            headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
            await stream.publish(f"plain.{name}", commit, headers=headers)

        done = await closed_loop(lambda number: asyncio.ensure_future(one(number)), in_flight, up_to(n))
        expect(await _messages(stream, "plain") - before, n, "the stream plain")
        return done

    return do


async def pipelined(server: Server) -> Callable[[int, int], Awaitable[Round]]:
    """`publish_async`, so many unacknowledged at most, with no expectation."""
    setup = await _stream(server, "async")

    async def do(in_flight: int, n: int) -> Round:
        commits = _commits(n)
        before = await _messages(setup, "async")
        stream = server.client.jetstream(publish_async_max_pending=in_flight + 1)
        slots = asyncio.Semaphore(in_flight)  # In place of the client's own, so that no time is spent waiting for it.
        times_s = array("d")

        def ended(started: float, acknowledged: asyncio.Future[PubAck]) -> None:
            slots.release()
            if acknowledged.exception() is None:
                times_s.append(time.perf_counter() - started)

        began = time.perf_counter()
        for number, (_, commit) in enumerate(commits):
            await slots.acquire()
            started = time.perf_counter()
            acknowledged = await stream.publish_async(f"async.{number % ASYNC_SUBJECTS}", commit)
            acknowledged.add_done_callback(partial(ended, started))
        await stream.publish_async_completed()
        await asyncio.sleep(0)  # The callbacks of the last ones are due in this turn of the loop.
        spent_s = time.perf_counter() - began
        if len(times_s) != n:
            raise NotStored(f"only {len(times_s)} of {n} messages were acknowledged")
        expect(await _messages(setup, "async") - before, n, "the stream async")
        return Round(spent_s, times_s, n)

    return do


def _commits(n: int) -> list[tuple[str, bytes]]:
    tag = new_tag()
    return [order_commit(tag) for _ in range(n)]


async def _stream(server: Server, name: str) -> JetStreamContext:
    stream = server.client.jetstream()
    replicas = server.environment.replicas
    await stream.add_stream(StreamConfig(name=name, subjects=[f"{name}.*"], num_replicas=replicas, allow_direct=True))
    return stream


async def _messages(stream: JetStreamContext, name: str) -> int:
    return (await stream.stream_info(name)).state.messages
