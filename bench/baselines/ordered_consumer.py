"""nats-py's ordered consumer, whose callback does nothing but count: the fastest that the client itself can read."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.rounds import BenchmarkFailed, Round

SILENT_S = 30.0


@asynccontextmanager
async def of_its_own(url: str) -> AsyncIterator[Client]:
    """The client as its makers ship it: ours reads headers faster."""
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def reading_all(client: Client, stream: str, subjects: str, n: int) -> Callable[[], Awaitable[Round]]:
    """Read a whole stream, which holds `n` events in however many messages."""
    jetstream = client.jetstream()
    messages = (await jetstream.stream_info(stream)).state.messages

    async def do() -> Round:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seen = 0

        async def count(_: Msg) -> None:
            nonlocal seen
            seen += 1
            if seen == messages:
                over.set_result(None)

        began = time.perf_counter()
        subscription = await jetstream.subscribe(subjects, stream=stream, ordered_consumer=True, cb=count)
        try:
            while not over.done():
                before = seen
                await asyncio.wait({over}, timeout=SILENT_S)
                if seen == before and not over.done():
                    raise BenchmarkFailed(f"the ordered consumer of {stream} stands still at {seen} of {messages}")
        finally:
            await subscription.unsubscribe()
        spent_s = time.perf_counter() - began
        return Round(spent_s, array("d", [spent_s]), n)

    return do
