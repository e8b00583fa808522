"""A bare loop of blocks: no domain, no states, no checks, no answers to tell apart. The engine's ceiling.

Its commits are encoded before the time runs; sealing them into a block and hashing it is in the time.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from bench.load import new_tag, order_commit
from bench.rounds import Round
from bench.stored import aggregates_stored, expect
from bus.logs.blocks import BLOCK_BYTES_MAX, BLOCK_COMMITS_MAX, BLOCK_HEAD_BYTES, GENESIS, hash_of, seal
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import Appended


class Writer:
    """The only writer of a log: appends one block after the other."""

    def __init__(self, log: JetStreamLog) -> None:
        self._log = log
        self._prev = GENESIS
        self._sequence = 0

    async def append(self, commits: Sequence[bytes]) -> None:
        block = seal(self._log.epoch, datetime.now(UTC), self._prev, list(commits))
        block_hash = hash_of(block)
        outcome = await self._log.append(0, block, block_hash, self._sequence)
        assert isinstance(outcome, Appended), outcome
        self._prev, self._sequence = block_hash, outcome.sequence


def in_blocks(log: JetStreamLog) -> Callable[[int, int], Awaitable[Round]]:
    """So many commits wait at any time; as many of them as a block holds go together, one block in flight."""
    writer = Writer(log)

    async def do(in_flight: int, n: int) -> Round:
        tag, before = new_tag(), await log.head()
        commits = [order_commit(tag)[1] for _ in range(n)]
        block_max = min(BLOCK_COMMITS_MAX, (BLOCK_BYTES_MAX - BLOCK_HEAD_BYTES) // (len(commits[0]) + 1))
        times_s = array("d")
        done, begun = 0, min(in_flight, n)
        began = time.perf_counter()
        waiting = deque([began] * begun)
        while waiting:
            count = min(block_max, len(waiting))
            await writer.append(commits[done : done + count])
            done += count
            now = time.perf_counter()
            times_s.extend([now - waiting.popleft() for _ in range(count)])
            fresh = min(count, n - begun)
            waiting.extend([now] * fresh)
            begun += fresh
        spent_s = time.perf_counter() - began
        expect(await aggregates_stored(log, before, tag), n, f"the log {log.name}")
        return Round(spent_s, times_s, n)

    return do
