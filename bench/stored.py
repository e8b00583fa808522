"""Was it really stored? What a round counted, counted again in the log."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from bench.rounds import BenchmarkFailed
from bus.logs.log import Log


class NotStored(BenchmarkFailed):
    """A round counted what the log does not hold: its figures mean nothing."""


class _Commit(Struct, frozen=True):
    aggregate: str


class _Block(Struct, frozen=True):
    commits: list[_Commit]


_decode = msgspec.json.Decoder(_Block).decode


async def aggregates_stored(log: Log, after: int, prefix: str) -> int:
    """How many aggregates whose name begins with `prefix` have a commit after a position."""
    return sum(name.startswith(prefix) for name in await aggregates(log, after))


async def aggregates(log: Log, after: int) -> set[str]:
    """Of all commits after a position."""
    found: set[str] = set()
    until = await log.head()
    async for batch in log.read(after, until):
        for record in batch:
            if record.sequence > 1:  # The first is the log's epoch.
                found.update(commit.aggregate for commit in _decode(record.data).commits)
    return found


async def commits_stored(log: Log, after: int) -> int:
    """How many commits lie after a position."""
    until = await log.head()
    stored = 0
    async for batch in log.read(after, until):
        stored += sum(len(_decode(record.data).commits) for record in batch if record.sequence > 1)
    return stored


def expect(stored: int, counted: int, where: str, more_at_most: int = 0) -> None:
    """Raise `NotStored` unless all that was counted was stored, and no more than `more_at_most` besides."""
    if not counted <= stored <= counted + more_at_most:
        raise NotStored(f"{counted} operations were counted, but {where} holds {stored}")
