"""Queries: each names its read model, one SQL statement and the type of its rows.

Read-only connections of a process to each read model; when a rebuild goes live the next query opens it. A query runs
in the read model's own thread, but one for a few rows by their keys on the loop: that takes some five microseconds,
the way to a thread and back twenty times as long, and it takes turns with the loop for the interpreter.

Queries on the loop that come together share a moment (`_Open.rows`): to find the live file and to begin and end a
transaction costs as much as what is asked. Pages (`page.py`) that are asked for together are one statement.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import aiosqlite
import msgspec

from projections.files import ReadModelFiles
from projections.projection import Projection, Value

if TYPE_CHECKING:
    from projections.page import Page

Result = TypeVar("Result", bound=msgspec.Struct)

QUERY_ROWS_MAX = 10_000
CACHE_KIB = 16 * 1024
"""Pages that a connection keeps at most; what else it reads comes from the mapped file."""
MAPPED_BYTES_MAX = 1 << 30
Row = tuple[Value, ...] | sqlite3.Row
Columns = Callable[[], list[str]]
"""Their names, asked for once a query."""
Rows = list[Any]
"""Of a page's queries, each its own rows."""
Waiting = dict[str, list[asyncio.Future[Rows | None]]]
"""By what a page is asked for, those who wait for it."""

log = logging.getLogger(__name__)


class ReadModelMissing(Exception):
    """The read model has not been built yet, or only by code whose tables are others."""


class ResultTooLarge(Exception):
    """A query gives more rows than may be held; it needs a limit of its own."""


@dataclass(frozen=True, slots=True)
class Query(Generic[Result]):
    """`sql` selects the fields of `result` by their names, in any order. What has no LIMIT of its own is given one.

    `by_key`: it finds a few rows by their keys, whatever the size of the tables.
    """

    projection: Projection
    sql: str
    result: type[Result]
    by_key: bool = False

    def __post_init__(self) -> None:
        if "LIMIT" not in self.sql:
            object.__setattr__(self, "sql", f"{self.sql} LIMIT {QUERY_ROWS_MAX + 1}")


class Moment(msgspec.Struct, frozen=True):
    """What a query gives, as a JSON array, and the position of the read model at that very moment."""

    sequence: int
    rows: str


def at_its_position(query: Query[Result]) -> Query[Moment]:
    """The same query, with the position that its rows show: read apart, one could be older than the other."""
    fields = ", ".join(f"'{name}', {name}" for name in query.result.__struct_fields__)
    rows = f"SELECT json_group_array(json_object({fields})) FROM ({query.sql})"
    return Query(query.projection, f"SELECT sequence, ({rows}) AS rows FROM _position", Moment)


class _Open:
    """An open file and how many queries are on it: `connection` is for its thread, `on_loop` for the loop."""

    def __init__(
        self, path: Path, connection: aiosqlite.Connection, on_loop: sqlite3.Connection, stamp: tuple[int, int]
    ) -> None:
        self.path = path
        self.connection = connection
        self.on_loop = on_loop
        self.stamp = stamp
        self.makers: dict[str, Callable[[Row], msgspec.Struct]] = {}
        """Of each query's text, what makes its rows' structs."""
        self.users = 0
        self.retired = False
        self.reading = False
        """Whether a moment is being shared by queries on the loop."""

    def rows(self, sql: str, parameters: dict[str, Value]) -> sqlite3.Cursor:
        """On the loop, in one moment with all that was to run when the first of them asked, and no later: whoever has
        heard of a write since then, heard it by something that runs after the end of this moment. Nobody who writes
        on this loop and waits for nothing may read what he wrote here."""
        if not self.reading:
            self.on_loop.execute("BEGIN")
            self.reading = True
            asyncio.get_running_loop().call_soon(self._end)
        return self.on_loop.execute(sql, parameters)

    def _end(self) -> None:
        if self.reading:
            self.reading = False
            if self.on_loop.in_transaction:
                self.on_loop.execute("COMMIT")

    async def close(self) -> None:
        self._end()
        self.on_loop.close()
        await self.connection.close()


class Reader:
    def __init__(self, folder: Path) -> None:
        self._files = ReadModelFiles(folder)
        self._open: dict[str, _Open] = {}
        self._opening = asyncio.Lock()
        self._asked: dict[Page, Waiting] = {}

    async def all(self, query: Query[Result], **parameters: Value) -> list[Result]:
        """All rows of one moment, the newest: a query runs to its end in one hop, so no other one of the connection
        finds it half-read and gets its moment, which would be an older one."""
        try:
            rows = self._on_loop(query, parameters) if query.by_key else None
            if rows is not None:
                return rows
            async with self._connection(query.projection.name) as opened:
                found = list(await opened.connection.execute_fetchall(query.sql, parameters))
                return self._made(opened, query, found, lambda: found[0].keys())
        except (sqlite3.OperationalError, msgspec.ValidationError) as error:
            opened = self._open[query.projection.name]
            if self._files.is_of(opened.path, query.projection):
                raise
            being_built = f"{opened.path.name} is live, and version {query.projection.version} not built yet"
            raise ReadModelMissing(f"{being_built}: {error}") from error

    def _made(self, opened: _Open, query: Query[Result], rows: Sequence[Row], columns: Columns) -> list[Result]:
        if len(rows) > QUERY_ROWS_MAX:
            raise ResultTooLarge(f"a query of {query.projection.name} gives more than {QUERY_ROWS_MAX} rows")
        if not rows:
            return []
        make = opened.makers.get(query.sql)
        if make is None:
            ours = self._files.is_of(opened.path, query.projection)
            make = opened.makers[query.sql] = _maker(query.result, columns(), ours)
        return [make(row) for row in rows]  # type: ignore[misc]  # They are of the query's own type.

    def _on_loop(self, query: Query[Result], parameters: dict[str, Value]) -> list[Result] | None:
        """None where it has to go to the thread: the file is not open yet, or locked for a moment."""
        opened = self._now(query.projection)
        if opened is None:
            return None
        try:
            cursor = opened.rows(query.sql, parameters)
            rows = cursor.fetchall()
        except sqlite3.OperationalError as error:
            log.debug("a query of %s goes to its thread: %s", query.projection.name, error)
            return None
        return self._made(opened, query, rows, lambda: [column[0] for column in cursor.description])

    async def one(self, query: Query[Result], **parameters: Value) -> Result | None:
        rows = await self.all(query, **parameters)
        return rows[0] if rows else None

    async def page(self, page: Page, key: str) -> Rows:
        """Of each of a page's queries the rows, of one moment a read model. What is asked for in one turn of the loop,
        as much as there are requests under way, is read together at its end."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows | None] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._answer)
        self._asked.setdefault(page, {}).setdefault(key, []).append(answer)
        found = await answer
        return found or [await self.all(query, **{page.key: key}) for query in page.queries]

    def _answer(self) -> None:
        asked, self._asked = self._asked, {}
        for page, waiting in asked.items():
            try:
                found: Sequence[Rows | None] = self._pages(page, list(waiting))
            except sqlite3.OperationalError as error:
                log.debug("pages are read query by query: %s", error)
                found = [None] * len(waiting)
            for answers, rows in zip(waiting.values(), found, strict=True):
                for answer in answers:
                    if not answer.done():
                        answer.set_result(rows)

    def _pages(self, page: Page, keys: Sequence[str]) -> Sequence[Rows | None]:
        """Of each key its page; None where its queries have to go one by one, for a file is not open yet, or of other
        code."""
        found: list[Rows] = [[None] * len(page.queries) for _ in keys]
        parameters: dict[str, Value] = {"keys": msgspec.json.encode(keys).decode()}
        for part in page.parts:
            opened = self._now(part.projection)
            if opened is None or not self._files.is_of(opened.path, part.projection):
                return [None] * len(keys)
            ((answer,),) = opened.rows(part.sql, parameters).fetchall()
            for rows, of_key in zip(found, page.rows_of(part, answer), strict=True):
                for place, of_query in zip(part.places, of_key, strict=True):
                    rows[place] = of_query
        return found

    def _now(self, projection: Projection) -> _Open | None:
        """The live file, where that is the one that is open."""
        opened = self._open.get(projection.name)
        return opened if opened and (opened.reading or opened.stamp == self._files.stamp(projection.name)) else None

    async def sequence(self, name: str) -> int:
        """The position of a read model's live file."""
        async with self._connection(name) as opened:
            rows = list(await opened.connection.execute_fetchall("SELECT sequence FROM _position"))
        return int(rows[0][0]) if rows else 0

    async def close(self) -> None:
        for opened in self._open.values():
            await opened.close()
        self._open.clear()

    @asynccontextmanager
    async def _connection(self, name: str) -> AsyncIterator[_Open]:
        opened = self._open.get(name)
        if opened is None or opened.stamp != self._files.stamp(name):
            opened = await self._reopen(name)
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            if opened.retired and not opened.users:
                await opened.close()

    async def _reopen(self, name: str) -> _Open:
        async with self._opening:
            stamp = self._files.stamp(name)
            before = self._open.get(name)
            if before is not None and before.stamp == stamp:
                return before
            path = self._files.live(name)
            if path is None:
                raise ReadModelMissing(f"read model {name} is not built yet")
            uri = f"{path.absolute().as_uri()}?mode=ro"
            try:
                on_loop = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)
                connection = await aiosqlite.connect(uri, uri=True, isolation_level=None)
                on_loop.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                on_loop.execute(f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
                await connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
            except sqlite3.OperationalError as error:
                raise ReadModelMissing(f"read model {name} cannot be opened: {error}") from error
            connection.row_factory = sqlite3.Row
            self._open[name] = _Open(path, connection, on_loop, stamp)
            if before is not None:
                before.retired = True
                if not before.users:
                    await before.close()
            return self._open[name]


def _maker(result: type[Result], columns: list[str], ours: bool) -> Callable[[Row], Result]:
    """What makes a struct of a row. What our own code wrote is of the types that its tables are of; a file that other
    code wrote is checked."""
    if not ours or set(columns) != set(result.__struct_fields__):
        return lambda row: msgspec.convert(dict(zip(columns, row, strict=True)), result)
    if tuple(columns) == result.__struct_fields__:
        return lambda row: result(*row)
    in_order = itemgetter(*map(columns.index, result.__struct_fields__))
    return lambda row: result(*in_order(row))
