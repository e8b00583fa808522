"""The same history in the layouts that are compared: in blocks, in blocks of one commit each, and a message a commit.

Written as fast as the broker takes it, many on their way at a time; what lies there afterwards is what an engine that
waits for each block, or a writer that waits for each message, would have left behind, headers and all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from nats.aio.client import Client
from nats.js.api import PubAck, StorageType, StreamConfig

from bench.lives import lives
from bench.stored import NotStored, expect
from bus.logs.blocks import GENESIS, hash_of, seal
from bus.logs.jetstream import JetStreamLog

COMMITS = 500
"""In a block of a busy shop."""
ON_THEIR_WAY_BYTES_MAX = 4 * 1024 * 1024
COMMIT_BYTES = 512
"""About, at most: to tell how many may be on their way."""


async def in_blocks(client: Client, log: JetStreamLog, n: int, commits: int = COMMITS, *, of_shop: int = 0) -> None:
    """Fill an empty log with so many commits of `lives`, so many a block."""
    publishing = _Publishing(client, ON_THEIR_WAY_BYTES_MAX // (COMMIT_BYTES * commits))
    prev, expected, blocks = GENESIS, 0, 0
    for chunk in _chunks((lived.commit for lived in lives(n, of_shop=of_shop)), commits):
        block = seal(log.epoch, datetime.now(UTC), prev, chunk)
        prev = hash_of(block)
        headers = {"Nats-Msg-Id": prev, "Nats-Expected-Last-Subject-Sequence": str(expected)}
        await publishing.publish(f"log.{log.name}.0", block, headers)
        blocks += 1
        expected = 1 + blocks  # The first record is the log's epoch.
    await publishing.end()
    expect(await log.head(), 1 + blocks, f"the log {log.name}")


async def one_a_message(client: Client, name: str, n: int) -> None:
    """The usual layout, in a stream of this name: a message a commit, a subject an aggregate, each expecting the last
    one of its aggregate."""
    stream = client.jetstream()
    await stream.add_stream(
        StreamConfig(name=name, subjects=[f"{name}.*"], storage=StorageType.FILE, allow_direct=True)
    )
    publishing = _Publishing(client, ON_THEIR_WAY_BYTES_MAX // COMMIT_BYTES)
    for lived in lives(n):
        headers = {"Nats-Expected-Last-Subject-Sequence": str(lived.before)}
        await publishing.publish(f"{name}.{lived.order_id}", lived.commit, headers)
    await publishing.end()
    expect((await stream.stream_info(name)).state.messages, n, f"the stream {name}")


def _chunks(commits: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while chunk := list(islice(commits, size)):
        yield chunk


class _Publishing:
    """Publishes with so many on their way at most. `end` raises `NotStored` unless all were acknowledged."""

    def __init__(self, client: Client, window: int) -> None:
        self._stream = client.jetstream(publish_async_max_pending=window + 1)
        self._slots = asyncio.Semaphore(window)  # In place of the client's own, which gives up after a moment.
        self._refused = ""

    async def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        await self._slots.acquire()
        acknowledged = await self._stream.publish_async(subject, data, headers=headers)
        acknowledged.add_done_callback(self._ended)

    async def end(self) -> None:
        await self._stream.publish_async_completed()
        await asyncio.sleep(0)  # The callbacks of the last ones are due in this turn of the loop.
        if self._refused:
            raise NotStored(f"a message was not stored: {self._refused}")

    def _ended(self, acknowledged: asyncio.Future[PubAck]) -> None:
        self._slots.release()
        if (error := acknowledged.exception()) is not None:
            self._refused = repr(error)
