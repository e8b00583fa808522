"""Queries: each names its read model, one SQL statement and the type of its rows.

One read-only connection a read model and process, off the loop; when a rebuild goes live the next query opens it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import aiosqlite
import msgspec

from projections.files import ReadModelFiles
from projections.projection import Projection, Value

Result = TypeVar("Result", bound=msgspec.Struct)

QUERY_ROWS_MAX = 10_000


class ReadModelMissing(Exception):
    """The read model has not been built yet."""


class ResultTooLarge(Exception):
    """A query gives more rows than may be held; it needs a limit of its own."""


@dataclass(frozen=True, slots=True)
class Query(Generic[Result]):
    """`sql` selects the fields of `result` by their names, in any order. What has no LIMIT of its own is given one."""

    projection: Projection
    sql: str
    result: type[Result]

    def __post_init__(self) -> None:
        if "LIMIT" not in self.sql:
            object.__setattr__(self, "sql", f"{self.sql} LIMIT {QUERY_ROWS_MAX + 1}")


class _Open:
    """An open file and how many queries are on it."""

    def __init__(self, connection: aiosqlite.Connection, stamp: tuple[int, int]) -> None:
        self.connection = connection
        self.stamp = stamp
        self.users = 0
        self.retired = False


class Reader:
    def __init__(self, folder: Path) -> None:
        self._files = ReadModelFiles(folder)
        self._open: dict[str, _Open] = {}
        self._opening = asyncio.Lock()

    async def all(self, query: Query[Result], **parameters: Value) -> list[Result]:
        """All rows of one moment, the newest: a query runs to its end in one hop, so no other one of the connection
        finds it half-read and gets its moment, which would be an older one."""
        async with self._connection(query.projection.name) as connection:
            rows = list(await connection.execute_fetchall(query.sql, parameters))
        if len(rows) > QUERY_ROWS_MAX:
            raise ResultTooLarge(f"a query of {query.projection.name} gives more than {QUERY_ROWS_MAX} rows")
        return [msgspec.convert(dict(row), query.result) for row in rows]

    async def one(self, query: Query[Result], **parameters: Value) -> Result | None:
        rows = await self.all(query, **parameters)
        return rows[0] if rows else None

    async def sequence(self, name: str) -> int:
        """The position of a read model's live file."""
        async with self._connection(name) as connection:
            rows = list(await connection.execute_fetchall("SELECT sequence FROM _position"))
        return int(rows[0][0]) if rows else 0

    async def close(self) -> None:
        for opened in self._open.values():
            await opened.connection.close()
        self._open.clear()

    @asynccontextmanager
    async def _connection(self, name: str) -> AsyncIterator[aiosqlite.Connection]:
        opened = self._open.get(name)
        if opened is None or opened.stamp != self._files.stamp(name):
            opened = await self._reopen(name)
        opened.users += 1
        try:
            yield opened.connection
        finally:
            opened.users -= 1
            if opened.retired and not opened.users:
                await opened.connection.close()

    async def _reopen(self, name: str) -> _Open:
        async with self._opening:
            stamp = self._files.stamp(name)
            before = self._open.get(name)
            if before is not None and before.stamp == stamp:
                return before
            path = self._files.live(name)
            if path is None:
                raise ReadModelMissing(f"read model {name} is not built yet")
            try:
                connection = await aiosqlite.connect(
                    f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
                )
            except sqlite3.OperationalError as error:
                raise ReadModelMissing(f"read model {name} cannot be opened: {error}") from error
            connection.row_factory = sqlite3.Row
            self._open[name] = _Open(connection, stamp)
            if before is not None:
                before.retired = True
                if not before.users:
                    await before.connection.close()
            return self._open[name]
