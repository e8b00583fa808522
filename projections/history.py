"""What the log itself holds of one aggregate or one conversation, read by the index: just the blocks that hold it.

`folded` shows such commits as a read model would that had seen nothing else, so the past is asked with the queries of
the present.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

import msgspec

from bus.logs.log import Log, LogDamaged
from projections.commit_index import Place, places_of_aggregate, places_of_command, places_of_correlation
from projections.feed import Decoder
from projections.projection import Projection, Recorded, Value, recorded_of
from projections.reader import Query, Reader, Result

BLOCKS_AT_ONCE = 8
"""Blocks of up to 512 KiB that are fetched and decoded side by side, by all who ask."""


class Caused(NamedTuple):
    """A commit of a conversation: in which log, and the number of its first event among all of its block."""

    log: str
    recorded: Recorded
    first_event: int


class History:
    """Reads commits back. Raises `LogUnreachable` when the log cannot be read, `LogDamaged` when a commit is gone."""

    def __init__(self, reader: Reader, logs: Mapping[str, Log], decoders: Mapping[str, Decoder]) -> None:
        self._reader = reader
        self._logs = logs
        self._decoders = decoders
        self._fetching = asyncio.Semaphore(BLOCKS_AT_ONCE)

    async def of_aggregate(self, log: str, aggregate: str, *, after: int = 0) -> list[Recorded]:
        """The commits of an aggregate behind version `after`, in their order."""
        return await self._at(log, await self._reader.all(places_of_aggregate(log), aggregate=aggregate, after=after))

    async def of_command(self, log: str, command_id: str) -> list[Recorded]:
        """The commits that a command caused, in their order."""
        return await self._at(log, await self._reader.all(places_of_command(log), id=command_id))

    async def of_correlation(self, correlation: str) -> list[Caused]:
        """Every commit that belongs to it, in whatever log, by the time of writing; in one log in the log's order."""
        found = await asyncio.gather(*(self._of_correlation(log, correlation) for log in self._logs))
        of_all = [one for of_log in found for one in of_log]
        return sorted(
            of_all, key=lambda one: (one.recorded.written_at, one.log, one.recorded.sequence, one.recorded.offset)
        )

    async def _of_correlation(self, log: str, correlation: str) -> list[Caused]:
        return await self._found(log, await self._reader.all(places_of_correlation(log), correlation=correlation))

    async def _at(self, log: str, places: Sequence[Place]) -> list[Recorded]:
        return [one.recorded for one in await self._found(log, places)]

    async def _found(self, log: str, places: Sequence[Place]) -> list[Caused]:
        offsets: dict[int, list[int]] = {}
        for place in places:
            offsets.setdefault(place.sequence, []).append(place.offset)
        blocks = await asyncio.gather(*(self._commits(log, sequence, of) for sequence, of in offsets.items()))
        commits = {(one.recorded.sequence, one.recorded.offset): one for of_block in blocks for one in of_block}
        return [commits[place.sequence, place.offset] for place in places]

    async def _commits(self, log: str, sequence: int, offsets: list[int]) -> list[Caused]:
        async with self._fetching:
            record = await self._logs[log].get(sequence)
            if record is None:
                raise LogDamaged(f"{log} holds nothing at {sequence} any more")
            try:
                block = self._decoders[log].decode(record.data)
            except msgspec.DecodeError as error:
                raise LogDamaged(f"record {sequence} of {log} is no block that can be read: {error}") from error
        if max(offsets) >= len(block.commits):
            raise LogDamaged(f"block {sequence} of {log} holds {len(block.commits)} commits, not what was indexed")
        recorded = recorded_of(sequence, block.at, block.commits)
        first = list(accumulate((len(commit.events) for commit in block.commits), initial=0))
        return [Caused(log, recorded[offset], first[offset]) for offset in offsets]


class Folded:
    """The tables of a read model that has seen some commits only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, query: Query[Result], **parameters: Value) -> list[Result]:
        return [msgspec.convert(dict(row), query.result) for row in self._connection.execute(query.sql, parameters)]

    def one(self, query: Query[Result], **parameters: Value) -> Result | None:
        rows = self.all(query, **parameters)
        return rows[0] if rows else None


@contextmanager
def folded(projection: Projection, commits: Iterable[Recorded]) -> Iterator[Folded]:
    """A read model in memory, of these commits. Takes about a millisecond."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.executescript(projection.schema)
        for recorded in commits:
            for sql, row in projection.statements(recorded):
                connection.execute(sql, row)
        yield Folded(connection)
    finally:
        connection.close()
