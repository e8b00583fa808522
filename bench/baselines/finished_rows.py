"""Plain SQLite, no broker and no events: the rows that a rebuild ends with, written by one `executemany`."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from array import array
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from bench.rounds import Round
from bench.stored import expect
from projections.files import remove
from projections.projection import Projection
from projections.store import CACHE_KIB


def writing_rows(built: Path, projection: Projection, folder: Path, n: int) -> Callable[[], Awaitable[Round]]:
    """Write the rows of a read model that was built of `n` events, a table of its own name, in the order of its key."""

    async def do() -> Round:
        return await asyncio.to_thread(_write, built, projection, folder / "rows.db", n)

    return do


def _write(built: Path, projection: Projection, path: Path, n: int) -> Round:
    name = projection.name
    with closing(sqlite3.connect(built)) as source:
        rows = source.execute(f"SELECT * FROM {name}").fetchall()
    places = ", ".join("?" * len(rows[0]))
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode = WAL")
        target.execute("PRAGMA synchronous = NORMAL")
        target.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        began = time.perf_counter()
        target.executescript(projection.schema)
        target.execute("BEGIN")
        target.executemany(f"INSERT INTO {name} VALUES ({places})", rows)
        target.execute("COMMIT")
        spent_s = time.perf_counter() - began
        (written,) = target.execute(f"SELECT count(*) FROM {name}").fetchone()
    expect(written, len(rows), "the table of finished rows")
    remove(path)
    return Round(spent_s, array("d", [spent_s]), n)
