"""Where reactors stand: one small SQLite file with a position a reactor, what is unfinished before it, and what was
parked.

A position here only saves work: a reaction is idempotent by its id, so going back some records repeats and never
doubles.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import aiosqlite
import msgspec

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint (
    reactor TEXT PRIMARY KEY, epoch TEXT NOT NULL, sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ahead (
    reactor TEXT PRIMARY KEY, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, unfinished TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked (
    reactor TEXT NOT NULL, sequence INTEGER NOT NULL, offset INTEGER NOT NULL, key TEXT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (reactor, sequence, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS discarded (
    reactor TEXT NOT NULL, sequence INTEGER NOT NULL, offset INTEGER NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (reactor, sequence, offset)
) STRICT, WITHOUT ROWID;
"""
_QUEUES = """
SELECT key, reactions, sequence, offset, error FROM (
    SELECT key, sequence, offset, error, COUNT(*) OVER (PARTITION BY key) AS reactions,
        ROW_NUMBER() OVER (PARTITION BY key ORDER BY sequence, offset) AS place
    FROM parked WHERE reactor = ?1 AND (?2 = '' OR key = ?2)
) WHERE place = 1 ORDER BY sequence, offset
"""


class Place(NamedTuple):
    """Of an event: its block, and which of the block's events it is."""

    sequence: int
    offset: int


class Stands(NamedTuple):
    """All up to `sequence` is done, but what is `unfinished`."""

    sequence: int
    unfinished: Collection[Place] = ()


class Queue(NamedTuple):
    """What is parked for one key: how many, and the first of them."""

    key: str
    reactions: int
    first: Place
    error: str


_decode_places = msgspec.json.Decoder(list[Place]).decode


class Checkpoints:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Checkpoints:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = await aiosqlite.connect(path, isolation_level=None)
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = NORMAL")
        await connection.executescript(_SCHEMA)
        return cls(connection)

    async def close(self) -> None:
        await self._connection.close()

    async def load(self, reactor: str, epoch: str) -> int:
        """The position of a reactor in the log of this epoch; 0 when it has none."""
        query = "SELECT sequence FROM checkpoint WHERE reactor = ? AND epoch = ?"
        async with self._connection.execute(query, (reactor, epoch)) as rows:
            row = await rows.fetchone()
        return int(row[0]) if row else 0

    async def save(self, reactor: str, epoch: str, sequence: int) -> None:
        await self._connection.execute(
            "INSERT INTO checkpoint VALUES (?, ?, ?)"
            " ON CONFLICT (reactor) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence",
            (reactor, epoch, sequence),
        )

    async def stands(self, reactor: str, epoch: str) -> Stands:
        """How far a reactor came, and what it had not finished of that."""
        position = await self.load(reactor, epoch)
        query = "SELECT sequence, unfinished FROM ahead WHERE reactor = ? AND epoch = ?"
        async with self._connection.execute(query, (reactor, epoch)) as rows:
            row = await rows.fetchone()
        if row is None or row[0] <= position:
            return Stands(position)
        return Stands(int(row[0]), [place for place in _decode_places(row[1]) if place.sequence > position])

    async def save_ahead(self, reactor: str, epoch: str, stands: Stands) -> None:
        """Beside the position below which all is done. Each of the two is true without the other, so either may be
        older."""
        await self._connection.execute(
            "INSERT OR REPLACE INTO ahead VALUES (?, ?, ?, ?)",
            (reactor, epoch, stands.sequence, msgspec.json.encode(sorted(stands.unfinished)).decode()),
        )

    async def parked(self, reactor: str) -> list[Place]:
        """Everything that a reactor gave up, in order."""
        query = "SELECT sequence, offset FROM parked WHERE reactor = ? ORDER BY sequence, offset"
        async with self._connection.execute(query, (reactor,)) as rows:
            return [Place(int(sequence), int(offset)) async for sequence, offset in rows]

    async def queues(self, reactor: str, key: str = "") -> list[Queue]:
        """The same by key, or of one key; the longest waiting first."""
        async with self._connection.execute(_QUEUES, (reactor, key)) as rows:
            return [Queue(name, number, Place(*place), error) async for name, number, *place, error in rows]

    async def unpark(self, reactor: str, place: Place) -> None:
        await self._connection.execute(
            "DELETE FROM parked WHERE reactor = ? AND sequence = ? AND offset = ?", (reactor, *place)
        )

    async def park(self, reactor: str, place: Place, key: str, error: str) -> None:
        await self._connection.execute(
            "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?)", (reactor, *place, key, error)
        )

    async def note_discarded(self, reactor: str, place: Place, key: str, reason: str) -> None:
        """Why it will never be done."""
        await self._connection.execute(
            "INSERT OR REPLACE INTO discarded VALUES (?, ?, ?, ?, ?)", (reactor, *place, key, reason)
        )
