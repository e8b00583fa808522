"""Where reactors stand: one small SQLite file with a position a reactor, and what was parked.

A position here only saves work: a reaction is idempotent by its id, so going back some records repeats and never
doubles.
"""

from __future__ import annotations

from pathlib import Path

import aiosqlite

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint (
    reactor TEXT PRIMARY KEY, epoch TEXT NOT NULL, sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked (
    reactor TEXT NOT NULL, sequence INTEGER NOT NULL, offset INTEGER NOT NULL, key TEXT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (reactor, sequence, offset)
) STRICT, WITHOUT ROWID;
"""


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

    async def parked(self, reactor: str) -> list[tuple[int, int]]:
        """Sequence and offset of everything that a reactor gave up, in order."""
        query = "SELECT sequence, offset FROM parked WHERE reactor = ? ORDER BY sequence, offset"
        async with self._connection.execute(query, (reactor,)) as rows:
            return [(int(sequence), int(offset)) async for sequence, offset in rows]

    async def unpark(self, reactor: str, sequence: int, offset: int) -> None:
        await self._connection.execute(
            "DELETE FROM parked WHERE reactor = ? AND sequence = ? AND offset = ?", (reactor, sequence, offset)
        )

    async def park(self, reactor: str, sequence: int, offset: int, key: str, error: str) -> None:
        await self._connection.execute(
            "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?)", (reactor, sequence, offset, key, error)
        )
