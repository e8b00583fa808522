"""A log that is written by hand, a block of counters' events at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from bus.logs.blocks import GENESIS, Commit, hash_of, seal
from bus.logs.log import Appended, Log
from tests.bus.counter import CounterEvent

Event = TypeVar("Event")

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


class Written:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.prev = GENESIS
        self.last = 0

    async def block(
        self, *commits: tuple[str, Sequence[CounterEvent]], at: datetime = AT, occurred_at: datetime | None = None
    ) -> int:
        """Append one block; its sequence."""
        return await self.commits(
            [
                Commit(id=f"c{n}", aggregate=aggregate, version=1, events=list(events), occurred_at=occurred_at)
                for n, (aggregate, events) in enumerate(commits)
            ],
            at=at,
        )

    async def commits(self, commits: Sequence[Commit[Event]], at: datetime = AT) -> int:
        """Append one block of these; its sequence."""
        encoded = [msgspec.json.encode(commit) for commit in commits]
        return await self.bytes(seal(self.log.epoch, at, self.prev, encoded))

    async def bytes(self, data: bytes) -> int:
        """Append what is no block of ours, or a damaged one."""
        outcome = await self.log.append(0, data, hash_of(data), self.last)
        assert isinstance(outcome, Appended)
        self.prev, self.last = hash_of(data), outcome.sequence
        return outcome.sequence
