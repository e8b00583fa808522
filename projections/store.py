"""One read model's SQLite file: rows, parked keys and position in one transaction, a position that only rises.

Who opens it to write takes its lease: a number in the file that rises with each taker, and that every transaction
checks. So a run that was supplanted, however late it wakes up, writes nothing. A lease in the file holds for whoever
can write to it: a lock beside it would not for a thread or a process that has the file open already.

Synchronous code for one thread at a time; `projections/worker.py` calls it off the loop, one hop a batch.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from projections.batches import Batch
from projections.grouping import Group, grouped
from projections.parking import PARKED_MAX, Discarded, Parking, Queue, ReadModelHalts, Redriven, Waiting, is_poison
from projections.parking import SCHEMA as PARKING
from projections.projection import Projection, Recorded, in_utc, timestamp

FORMAT = 2
"""Of what is in a file beside the read model's own tables. One of another format is built anew."""
_POSITION = """
CREATE TABLE _position (
    one INTEGER PRIMARY KEY CHECK (one = 1), stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    tips TEXT NOT NULL, events INTEGER NOT NULL, at TEXT, lease INTEGER NOT NULL
) STRICT;
"""
BUSY_TIMEOUT_S = 5.0
CACHE_KIB = 32 * 1024
"""Of a read model's pages at most: rows of random keys are spread over all of them."""
BUILD_CACHE_KIB = 96 * 1024
"""The same while it is built: years of a log are read in minutes, and what changes at a time is spread over more."""
CACHED_STATEMENTS = 64
"""Prepared ones: of those that write many rows each number of rows is another one, and takes some 100 kB."""
EPOCH_SEQUENCE = 1
"""Of a log's first record, which is no block."""
NO_LEASE, FIRST_LEASE = 0, 1

log = logging.getLogger(__name__)


class OtherFormat(Exception):
    """The file was written by another release."""


class LeaseLost(ReadModelHalts):
    """Somebody else has opened this file to write, and goes on with it."""


class BlocksSkipped(ReadModelHalts):
    """A batch does not begin where the read model stands."""


class Position(NamedTuple):
    """Where a read model stands: everything up to `sequence` is in it; `events` of them mattered or not."""

    epoch: str
    sequence: int
    tips: dict[int, str]
    events: int


class Store:
    def __init__(self, projection: Projection, path: Path, connection: sqlite3.Connection, lease: int) -> None:
        self.projection = projection
        self.path = path
        self._connection = connection
        self._lease = lease
        self._parking = Parking(projection, connection, self._fold)
        self._events: int
        self._at: str | None
        self._events, self._at = connection.execute("SELECT events, at FROM _position").fetchone()

    @classmethod
    def create(cls, projection: Projection, path: Path, epoch: str, *, building: bool = False) -> Self:
        """A new, empty file at position 0, on disk with its tables; one of that name is an error. `building`: see
        `projections/build.py`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(path)
        connection = _connect(path, safe=not building)
        tables = [each for each in statements_of(projection.schema) if not (building and is_index(each))]
        with connection:
            connection.execute("BEGIN")
            for statement in (*tables, *statements_of(_POSITION), *statements_of(PARKING)):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO _position VALUES (1, ?, ?, 0, '{}', 0, NULL, ?)", (projection.stream, epoch, FIRST_LEASE)
            )
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        if not building:
            _relax(connection)
        return cls(projection, path, connection, FIRST_LEASE)

    @classmethod
    def open(cls, projection: Projection, path: Path) -> Store:
        """To write: takes the lease from whoever had it. Raises `OtherFormat`."""
        if not path.exists():
            raise FileNotFoundError(path)
        connection = _connect(path)
        with _closed_on_failure(connection):
            _check_format(connection, path)
            _relax(connection)
            [(lease,)] = connection.execute("UPDATE _position SET lease = lease + 1 RETURNING lease").fetchall()
            return cls(projection, path, connection, lease)

    @classmethod
    def look(cls, projection: Projection, path: Path) -> Store:
        """To read only: the file as it is at this moment, whatever is written meanwhile. Nobody's lease is taken.

        Raises `OtherFormat`.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        with _closed_on_failure(connection):
            connection.execute("BEGIN")
            _check_format(connection, path)  # The moment is that of the first read.
            return cls(projection, path, connection, NO_LEASE)

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
        """Write what the blocks after the position do, and the new position, in one transaction. The new sequence.

        A key that cannot be handled is parked. Raises `ReadModelHalts`, and what the disk or a handler without a key
        raises; then nothing has changed.
        """
        folded = batch.folded.get(self.projection) if not self._parking else None
        try:
            return self._apply(batch, self._parking.write, folded)
        except Exception as error:
            if not self.projection.key or not is_poison(error):
                raise
            log.warning("%s is written key by key: %r", self.projection.name, error)
        return self._apply(batch, self._parking.write_by_key)

    def _apply(
        self, batch: Batch, write: Callable[[list[Recorded]], None], folded: Sequence[Group] | None = None
    ) -> int:
        last, at = batch.last, timestamp(in_utc(batch.at))
        with self._writing() as position:
            if last <= position:
                return position
            wanted = max(position, EPOCH_SEQUENCE) + 1
            if batch.first > wanted:
                raise BlocksSkipped(f"the read model stands at {position}, the batch begins at {batch.first}")
            if folded is not None and batch.first == wanted:
                self._execute(folded)
                events = batch.events
            else:
                blocks = [block for block in batch.blocks if block.sequence > position]
                write([each for block in blocks for each in block.recorded])
                events = sum(block.events for block in blocks)
            moved = self._connection.execute(
                "UPDATE _position SET sequence = ?, tips = ?, events = events + ?, at = ?"
                " WHERE sequence = ? AND sequence < ? AND lease = ?",
                (
                    last,
                    msgspec.json.encode(batch.tips).decode(),
                    events,
                    at,
                    position,
                    last,
                    self._lease,
                ),
            )
            if moved.rowcount != 1:
                raise LeaseLost(f"the position of {self.path.name} is not {position} any more")
        self._events += events
        self._at = at
        return last

    def _fold(self, recorded: Sequence[Recorded]) -> None:
        """What these commits do to the tables."""
        if self.projection.batch is not None and recorded:
            self.projection.batch(self._connection, recorded)
        if self.projection.on:
            self._execute(grouped(self.projection, recorded))

    def _execute(self, groups: Sequence[Group]) -> None:
        for group in groups:
            group.execute(self._connection)

    @contextmanager
    def _writing(self, *, keep: bool = True) -> Iterator[int]:
        """A transaction of whoever has the lease, and the position that it begins at. Rolled back unless `keep`."""
        if self._lease == NO_LEASE:
            raise LeaseLost(f"{self.path.name} was opened to read only")
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            sequence, lease = connection.execute("SELECT sequence, lease FROM _position").fetchone()
            if lease != self._lease:
                raise LeaseLost(f"somebody else writes {self.path.name} now, under lease {lease}")
            yield sequence
            connection.execute("COMMIT" if keep else "ROLLBACK")
        except BaseException:  # Raised again; no transaction is left open, however it ended.
            if connection.in_transaction:  # A full disk has rolled it back already.
                connection.execute("ROLLBACK")
            raise
        self._parking.remember()

    # -- what is told of it, from memory -------------------------------------------------------------------------------

    @property
    def parked(self) -> dict[str, int]:
        """How many commits wait, for each parked key."""
        return self._parking.commits

    @property
    def events(self) -> int:
        """Events up to the position."""
        return self._events

    @property
    def at(self) -> datetime | None:
        """When the last block was written; None before the first."""
        return datetime.fromisoformat(self._at) if self._at else None

    # -- parked keys ---------------------------------------------------------------------------------------------------

    def queues(self, key: str = "", limit: int = PARKED_MAX) -> list[Queue]:
        """The parked keys, the one that waits longest first; or only this one."""
        return self._parking.queues(key, limit)

    def waiting(self, key: str) -> list[Waiting]:
        """The first commits that wait for a key, as many as are redriven at once."""
        return self._parking.waiting(key)

    def redrive(self, key: str, waiting: Sequence[Recorded], *, dry: bool = False) -> Redriven:
        """Deal with these again, in one transaction; `dry`: only say what would come of it."""
        with self._writing(keep=not dry):
            return self._parking.redrive(key, waiting)

    def discard(self, key: str, sequence: int, offset: int, reason: str) -> bool:
        """Give up a commit for ever, if it is the first that waits for its key."""
        with self._writing():
            return self._parking.discard(key, sequence, offset, reason)

    def discarded(self) -> list[Discarded]:
        return self._parking.discarded()

    def leave_out(self, discarded: Sequence[Discarded]) -> None:
        """What was given up in the build before this one."""
        with self._writing():
            self._parking.adopt(discarded)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Nobody takes the lease meanwhile. Raises `LeaseLost` where somebody has."""
        with self._writing(keep=False):
            yield

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
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    connection.execute(f"PRAGMA synchronous = {'FULL' if safe else 'OFF'}")
    connection.execute(f"PRAGMA journal_mode = {'WAL' if safe else 'MEMORY'}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB if safe else BUILD_CACHE_KIB}")
    return connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise OtherFormat(f"{path.name} is of format {found}, this release writes {FORMAT}")


@contextmanager
def _closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _relax(connection: sqlite3.Connection) -> None:
    """From now on a power cut may take the last transactions, rows and position together: they are read again."""
    connection.execute("PRAGMA synchronous = NORMAL")


def statements_of(script: str) -> list[str]:
    return [statement for statement in script.split(";") if statement.strip()]


def is_index(statement: str) -> bool:
    """A plain one: a unique index is a rule that holds from the first row on."""
    return statement.split()[:2] == ["CREATE", "INDEX"]
