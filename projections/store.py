"""One read model's SQLite file, open for writing: rows and position in one transaction, a position that only rises.

Synchronous code for one thread at a time; `projections/worker.py` calls it off the loop, one hop a batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from bus.blocks import Commit
from projections.grouping import grouped
from projections.projection import Projection, Recorded, recorded_of

_POSITION = """
CREATE TABLE _position (
    one INTEGER PRIMARY KEY CHECK (one = 1), stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    tips TEXT NOT NULL, events INTEGER NOT NULL
) STRICT;
"""
BUSY_TIMEOUT_S = 5.0
CACHE_KIB = 32 * 1024
"""Of a read model's pages at most: rows of random keys are spread over all of them."""


class Batch(NamedTuple):
    """Blocks of one stream, decoded and checked, and the tips of its partitions after the last of them."""

    blocks: list[ReadBlock]
    tips: Mapping[int, str]


@dataclass(frozen=True)
class ReadBlock:
    sequence: int
    at: datetime
    commits: list[Commit[object]]

    @cached_property
    def recorded(self) -> list[Recorded]:
        """Its commits, for all read models of the stream."""
        return recorded_of(self.sequence, self.at, self.commits)


class Position(NamedTuple):
    """Where a read model stands: everything up to `sequence` is in it; `events` of them mattered or not."""

    epoch: str
    sequence: int
    tips: dict[int, str]
    events: int


class Store:
    def __init__(self, projection: Projection, path: Path, connection: sqlite3.Connection) -> None:
        self.projection = projection
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, projection: Projection, path: Path, epoch: str, *, building: bool = False) -> Self:
        """A new, empty file at position 0, on disk with its tables; one of that name is an error. `building`: see
        `projections/build.py`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(path)
        store = cls(projection, path, _connect(path, safe=not building))
        tables = [each for each in statements_of(projection.schema) if not (building and is_index(each))]
        with store._connection as connection:
            connection.execute("BEGIN")
            for statement in (*tables, *statements_of(_POSITION)):
                connection.execute(statement)
            connection.execute("INSERT INTO _position VALUES (1, ?, ?, 0, '{}', 0)", (projection.stream, epoch))
        if not building:
            _relax(store._connection)
        return store

    @classmethod
    def open(cls, projection: Projection, path: Path) -> Store:
        if not path.exists():
            raise FileNotFoundError(path)
        connection = _connect(path)
        _relax(connection)
        return cls(projection, path, connection)

    @classmethod
    def look(cls, projection: Projection, path: Path) -> Store:
        """To read only: the file as it is at this moment, whatever is written meanwhile."""
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("BEGIN")
        connection.execute("SELECT sequence FROM _position").fetchone()  # The moment is that of the first read.
        return cls(projection, path, connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def position(self) -> Position:
        row = self._connection.execute("SELECT epoch, sequence, tips, events FROM _position").fetchone()
        return Position(row[0], row[1], msgspec.json.decode(row[2], type=dict[int, str]), row[3])

    def apply(self, batch: Batch) -> int:
        """Write what the blocks after the position do, and the new position, in one transaction. The new sequence."""
        connection, projection = self._connection, self.projection
        last = batch.blocks[-1].sequence
        connection.execute("BEGIN IMMEDIATE")
        try:
            position = int(connection.execute("SELECT sequence FROM _position").fetchone()[0])
            recorded = [each for block in batch.blocks if block.sequence > position for each in block.recorded]
            events = sum(len(each.commit.events) for each in recorded)
            if projection.batch is not None and recorded:
                projection.batch(connection, recorded)
            if projection.on:
                for sql, rows in grouped(projection, recorded):
                    connection.executemany(sql, rows)
            if last > position:
                connection.execute(
                    "UPDATE _position SET sequence = ?, tips = ?, events = events + ? WHERE sequence < ?",
                    (last, msgspec.json.encode(batch.tips).decode(), events, last),
                )
            connection.execute("COMMIT")
        except BaseException:  # Raised again; no transaction is left open, however it ended.
            if connection.in_transaction:  # A full disk has rolled it back already.
                connection.execute("ROLLBACK")
            raise
        return max(position, last)

    def tables(self) -> list[str]:
        """The tables of the read model, without what keeps its position."""
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name"
        return [name for (name,) in self._connection.execute(query)]

    def digests(self) -> dict[str, tuple[int, str]]:
        """Of every table: how many rows, and a hash of all of them in the order of the primary key."""
        return {table: self._digest(table) for table in self.tables()}

    def first(self, sql: str) -> tuple[object, ...] | None:
        """The first row that a query gives."""
        row: tuple[object, ...] | None = self._connection.execute(sql).fetchone()
        return row

    def columns(self, table: str) -> dict[str, int]:
        return columns_of(self._connection, table)

    def rows(self, table: str, condition: str = "", *parameters: object) -> Iterator[tuple[object, ...]]:
        yield from rows_of(self._connection, table, condition, *parameters)

    def _digest(self, table: str) -> tuple[int, str]:
        hashed = sha256()
        count = 0
        for row in self.rows(table):
            hashed.update(msgspec.json.encode(row))
            count += 1
        return count, hashed.hexdigest()


def columns_of(connection: sqlite3.Connection, table: str) -> dict[str, int]:
    """The columns of a table, and which part of its primary key each is, from 1; 0 for none."""
    return dict(connection.execute("SELECT name, pk FROM pragma_table_info(?)", (table,)).fetchall())


def rows_of(connection: sqlite3.Connection, table: str, condition: str = "", *parameters: object) -> sqlite3.Cursor:
    """Rows in the order of the primary key: all, or those that a WHERE lets through."""
    columns = columns_of(connection, table)
    key = ", ".join(sorted((name for name, pk in columns.items() if pk), key=columns.__getitem__)) or "rowid"
    return connection.execute(f"SELECT * FROM {table} {condition} ORDER BY {key}", parameters)  # Our own names.


def _connect(path: Path, *, safe: bool = True) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {'FULL' if safe else 'OFF'}")
    connection.execute(f"PRAGMA journal_mode = {'WAL' if safe else 'MEMORY'}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _relax(connection: sqlite3.Connection) -> None:
    """From now on a power cut may take the last transactions, rows and position together: they are read again."""
    connection.execute("PRAGMA synchronous = NORMAL")


def statements_of(script: str) -> list[str]:
    return [statement for statement in script.split(";") if statement.strip()]


def is_index(statement: str) -> bool:
    """A plain one: a unique index is a rule that holds from the first row on."""
    return statement.split()[:2] == ["CREATE", "INDEX"]
