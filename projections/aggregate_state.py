"""The state of every aggregate of a log, as its domain folds it: what engines need not keep in memory.

A read model like any other, one a log: rows and position in one transaction, rebuilt from the log. Its version is a
hash of the fold's source, so a fold that changes builds it anew by itself. `SqliteStateStore` reads it for an engine,
together with the index of commits, which knows the block of every command's answer.
"""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar, Union

import msgspec

from bus.engines.overlay import Stored
from bus.engines.states import Known, Opened, StoreUnreachable
from bus.logs.log import LogDamaged
from domains.kernel import Domain
from projections.commit_index import PLACES, commit_index, json_array
from projections.files import ReadModelFiles
from projections.projection import Projection, Recorded
from projections.rows import ROWS, write

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

KEYS_AT_ONCE = 10_000

_STATES = "SELECT aggregate, version, state FROM aggregate_state WHERE aggregate IN (SELECT value FROM json_each(?))"
_WRITE = f"""
INSERT INTO aggregate_state {ROWS}
ON CONFLICT (aggregate) DO UPDATE SET version = excluded.version, state = excluded.state
"""
_ANSWERED = (
    f"SELECT id, min(place) / {PLACES} FROM commit_index WHERE id IN (SELECT value FROM json_each(?)) GROUP BY id"
)


@cache
def aggregate_state(domain: Domain[State, Command, Event]) -> Projection:
    """The states of one domain's log."""
    decode, encode = _decoder(domain).decode, msgspec.json.Encoder().encode

    def fold(connection: sqlite3.Connection, batch: Sequence[Recorded]) -> None:
        aggregates = json_array({recorded.commit.aggregate for recorded in batch})
        before = {name: (version, state) for name, version, state in connection.execute(_STATES, (aggregates,))}
        after: dict[str, tuple[int, State]] = {}
        for recorded in batch:
            name = recorded.commit.aggregate
            if name in after:
                version, state = after[name]
            elif name in before:
                version, state = before[name][0], decode(before[name][1])
            else:
                version, state = 0, domain.initial(name)
            if recorded.commit.version != version + 1:
                broken = f"{name} goes from version {version} to {recorded.commit.version}"
                raise LogDamaged(f"block {recorded.sequence} of {domain.name}: {broken}")
            for event in recorded.commit.events:
                state = domain.evolve(state, event)  # type: ignore[arg-type]  # Decoded as this domain's.
            after[name] = recorded.commit.version, state
        rows = [(name, version, encode(state).decode()) for name, (version, state) in sorted(after.items())]
        write(connection, _WRITE, rows)

    return Projection(
        name=f"aggregate_state_{domain.name}",
        version=source_version(domain),
        stream=domain.name,
        schema="""
        CREATE TABLE aggregate_state (aggregate TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL)
            STRICT, WITHOUT ROWID
        """,
        on={},
        batch=fold,
    )


def source_version(domain: Domain[State, Command, Event]) -> int:
    """Changes with the source of the fold: of the modules that define it, the states, the events and the upcasters."""
    upcasts = (each.upcast for each in domain.upcasters)
    modules = {each.__module__ for each in (domain.evolve, domain.initial, *domain.states, *domain.events, *upcasts)}
    source = "\n".join(inspect.getsource(sys.modules[name]) for name in sorted(modules - {"builtins"}))
    return int(sha256(source.encode()).hexdigest()[:12], 16)


class SqliteStateStore(Generic[State, Command, Event]):
    """Reads the live files of a domain's states and its index of commits. Both lag, each by itself."""

    def __init__(self, domain: Domain[State, Command, Event], folder: Path) -> None:
        self._files = ReadModelFiles(folder)
        self._states = _LiveFile(self._files, aggregate_state(domain))
        self._index = _LiveFile(self._files, commit_index(domain.name))
        self._decode = _decoder(domain).decode
        self._reading = Lock()
        self._closed = False

    async def opened(self) -> Opened:
        return await asyncio.to_thread(self._opened)

    async def read(self, aggregates: Collection[str], command_ids: Collection[str]) -> Stored[State]:
        return await asyncio.to_thread(self._read, aggregates, command_ids)

    def count(self) -> int:
        counts = self._all("SELECT count(*) FROM aggregate_state", "SELECT count(*) FROM commit_index")
        return sum(count for some in counts for count in some)

    def scan(self) -> Iterator[list[str]]:
        return self._all("SELECT aggregate FROM aggregate_state", "SELECT id FROM commit_index")

    def _all(self, of_states: str, of_index: str) -> Iterator[list[Any]]:
        """The only column of two queries, one of each file, on connections of their own."""
        try:
            for model, sql in ((self._states, of_states), (self._index, of_index)):
                connection = model.open()
                if connection is not None:
                    with closing(connection):
                        rows = connection.execute(sql)
                        while some := rows.fetchmany(KEYS_AT_ONCE):
                            yield [value for (value,) in some]
        except (sqlite3.Error, OSError) as error:
            raise StoreUnreachable(str(error)) from error

    def close(self) -> None:
        """Once what is being read is read: whoever was cancelled has left a thread behind that may still be reading."""
        with self._reading:
            self._closed = True
            self._states.close()
            self._index.close()

    def _opened(self) -> Opened:
        with self._open():
            states, index = self._states.position(), self._index.position()
        return min(states, index, key=lambda opened: opened.sequence)

    def _read(self, aggregates: Collection[str], command_ids: Collection[str]) -> Stored[State]:
        """The position is read first: what is read after it may be newer, never older."""
        opened = self._opened()
        with self._open():
            rows = self._states.rows(_STATES, json_array(aggregates)) if aggregates else []
            found = self._index.rows(_ANSWERED, json_array(command_ids)) if command_ids else []
        states = {name: Known(version, self._decode(state)) for name, version, state in rows}
        return Stored(opened.sequence, states, dict(found))

    @contextmanager
    def _open(self) -> Iterator[None]:
        """The right to use the connections, which are for one thread at a time."""
        with self._reading:
            if self._closed:
                raise StoreUnreachable("the store is closed")
            yield


class _LiveFile:
    """The live file of one read model, opened again when another one goes live. For one thread at a time."""

    def __init__(self, files: ReadModelFiles, projection: Projection) -> None:
        self._files = files
        self._projection = projection
        self._connection: sqlite3.Connection | None = None
        self._stamp = (0, 0)

    def position(self) -> Opened:
        """Where it stands; at 0 while there is none of this version."""
        for sequence, tips in self.rows("SELECT sequence, tips FROM _position"):
            return Opened(sequence, msgspec.json.decode(tips, type=dict[int, str]))
        return Opened()

    def rows(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        """Raises `StoreUnreachable`."""
        try:
            stamp = self._files.stamp(self._projection.name)
            if self._connection is None or stamp != self._stamp:
                self.close()
                self._connection, self._stamp = self.open(), stamp
            return [] if self._connection is None else self._connection.execute(sql, parameters).fetchall()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreUnreachable(f"{self._projection.name}: {error}") from error

    def open(self) -> sqlite3.Connection | None:
        """A connection of its own to the live file, if that is of this version."""
        path = self._files.live(self._projection.name)
        if path is None or not self._files.is_of(path, self._projection):
            return None
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _decoder(domain: Domain[State, Command, Event]) -> msgspec.json.Decoder[State]:
    return msgspec.json.Decoder(Union[domain.states])  # noqa: UP007  # Made at run time.
