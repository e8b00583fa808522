"""The statements of a batch, as few as there can be: same texts together, and a row that moves on is written once.

Only statements of different keys change places. Of one key, what just sets columns of a row that the same batch has
inserted or set before is folded into that: an order that is placed, reserved and paid within a batch is one INSERT.
Statements of any other form, and all of a read model without a key, are executed as they are, in their order.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from bus.logs.blocks import Commit
from bus.logs.brief import BriefCommit
from projections.projection import Fact, Handler, Projection, Recorded, Statement, Value, in_utc, timestamp
from projections.rows import ROWS, write

AnyCommit = Commit[object] | BriefCommit[object]

PLANS_MAX = 256
TOGETHER_ROWS = 64

_OF_COMMIT = {"at": "stamp", "version": "commit.version", "sequence": "sequence"}

_INSERT = re.compile(r"\s*INSERT\s+INTO\s+(\w+)\s+VALUES\s*\((.*)\)\s*", re.DOTALL)
_UPDATE = re.compile(r"\s*UPDATE\s+(\w+)\s+SET\s+(.*)\s+WHERE\s+(\w+)\s*=\s*:(\w+)\s*", re.DOTALL)
_SET = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)
_PLAIN = re.compile(r"\s*(?::([a-z_]+)|'([^':,]*)'|(-?\d+)|(NULL))\s*")
"""What says nothing of any table: a parameter or a literal."""
_NAMED = re.compile(r"'(?:[^']|'')*'|:([a-z_]+)")
_RULES = re.compile(r"\b(TRIGGER|CHECK|REFERENCES|GENERATED)\b", re.IGNORECASE)
"""Where a schema has such a thing, it may matter how often a row is written."""


class Group(NamedTuple):
    """A statement's text and the rows that it is executed with. `together`, if not empty: a text that does many of them
    in one step (`projections/rows.py`), in any order of their keys, which are at `key`."""

    sql: str
    rows: list[list[Value]]
    together: str = ""
    key: int = 0

    def execute(self, connection: sqlite3.Connection) -> None:
        if self.together and len(self.rows) >= TOGETHER_ROWS:
            # A page that lies in a cache is changed in half the time, and the next key is mostly on the same one.
            self.rows.sort(key=lambda row: str(row[self.key]))
            write(connection, self.together, self.rows)
        else:
            connection.executemany(self.sql, self.rows)


@dataclass(frozen=True, slots=True)
class _Form:
    """A statement as it is executed: with the values of `items`, which are parameters (`:name`) and literals.

    `key` is where its key is among them. `table` is empty where it may read or write more than rows of its key in one
    table; `columns` are those that it sets of that key's only row, by their places; `inserts` says that it makes it.
    """

    sql: str
    items: tuple[str, ...]
    key: int
    table: str = ""
    columns: tuple[int, ...] = ()
    inserts: bool = False
    together: str = ""

    def step(self) -> _Step:
        """How it is done for an event. Compiled, for this is done for every event of every log: a fifth of the time
        that it takes to get values by their names one after the other."""
        sources = [_OF_COMMIT.get(item[1:], f"event.{item[1:]}") if item[0] == ":" else item for item in self.items]
        arguments = "event, commit, stamp, sequence"
        moves: Callable[..., bool] | None = None
        if self.columns and not self.inserts:
            sets = "; ".join(f"row[{at}] = {source}" for at, source in zip(self.columns, sources, strict=False))
            moves = _compiled(
                f"def made(placed, {arguments}):\n last = placed.get({sources[self.key]})\n"
                f" if last is None or not last[2].inserts: return False\n row = last[1]; {sets}\n return True"
            )
        values = _compiled(f"def made({arguments}): return [{', '.join(sources)}]")
        key = _compiled(f"def made({arguments}): return {sources[self.key] if sources else None}")
        return _Step(self, key, values, moves)

    def of_row(self) -> Callable[[Mapping[str, object]], list[Value]]:
        sources = (f"row[{item[1:]!r}]" if item[0] == ":" else item for item in self.items)
        return _compiled(f"def made(row): return [{', '.join(sources)}]")


class _Step(NamedTuple):
    """What is done about an event, which all three take with its commit, the time as text and the block's sequence.

    `key` and `values` are the statement's. `moves`, if that can be done, is also given what there is of its table in
    this batch, and sets what it sets in its key's row, if that was inserted; it says whether.
    """

    form: _Form
    key: Callable[[object, AnyCommit, str, int], Value]
    values: Callable[[object, AnyCommit, str, int], list[Value]]
    moves: Callable[[Mapping[Value, _Placed], object, AnyCommit, str, int], bool] | None


_Placed = tuple[int, list[Value], _Form]
"""The group and the values of a statement, and what it is."""
_NOTHING: _Placed = -1, [], _Form("", (), 0)


class _Plan:
    """How one read model's statements are executed."""

    def __init__(self, projection: Projection) -> None:
        self._key = projection.key
        self._tables = _tables(projection.schema) if self._key and not _RULES.search(projection.schema) else {}
        self._forms: dict[str, tuple[_Form, Callable[[Mapping[str, object]], list[Value]]]] = {}
        self.steps: dict[type, list[_Step]] = {}
        self.handlers: dict[type, Callable[[Fact], Iterable[Statement]]] = {}
        for kind, handler in projection.on.items():
            if callable(handler):
                self.handlers[kind] = handler
            else:
                self.steps[kind] = [self._form(sql).step() for sql in _texts(handler)]

    def fields(self) -> dict[type, set[str]]:
        """Of the events with statements, the fields that matter."""
        return {
            kind: {item[1:] for step in steps for item in step.form.items if item[0] == ":"} - _OF_COMMIT.keys()
            for kind, steps in self.steps.items()
        }

    def executed(self, sql: str, row: Mapping[str, object]) -> tuple[_Form, list[Value]]:
        """The form and the values of a statement that a handler gave."""
        if sql not in self._forms:
            form = self._form(sql)
            self._forms[sql] = form, form.of_row()
        form, values = self._forms[sql]
        return form, values(row)

    def _form(self, sql: str) -> _Form:
        if self._tables:
            if (parts := _INSERT.fullmatch(sql)) and (form := self._insert(parts[1], parts[2])):
                return form
            if (parts := _UPDATE.fullmatch(sql)) and (form := self._update(*parts.groups())):
                return form
        names = list(dict.fromkeys(match[1] for match in _NAMED.finditer(sql) if match[1]))
        text = _NAMED.sub(lambda match: f"?{names.index(match[1]) + 1}" if match[1] else match[0], sql)
        if self._key and self._key not in names:
            raise KeyError(self._key)
        return _Form(text, tuple(f":{name}" for name in names), names.index(self._key) if self._key else 0)

    def _insert(self, table: str, values: str) -> _Form | None:
        items, columns = _plain(values.split(",")), self._tables.get(table, {})
        key = f":{self._key}"
        if items is None or len(items) != len(columns) or key not in items:
            return None
        place = items.index(key)
        single = [name for name, part in columns.items() if part] == [self._key] == [list(columns)[place]]
        text = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
        together = f"INSERT INTO {table} {ROWS}"
        return _Form(text, items, place, table, tuple(range(len(columns))) if single else (), single, together)

    def _update(self, table: str, sets: str, column: str, parameter: str) -> _Form | None:
        parts = [_SET.fullmatch(each) for each in sets.split(",")]
        known = list(self._tables.get(table, {}))
        columns = [part[1] for part in parts if part]
        items = _plain([*(part[2] for part in parts if part), f":{parameter}"])
        if not (column == parameter == self._key) or column in columns or items is None or not all(parts):
            return None
        if not set(columns) <= set(known):
            return None
        text = f"UPDATE {table} SET {', '.join(f'{each} = ?' for each in columns)} WHERE {column} = ?"
        given = ", ".join(f"{each} = given.column{number}" for number, each in enumerate(columns, 1))
        key = f"given.column{len(items)}"
        together = f"UPDATE {table} SET {given} FROM ({ROWS}) AS given WHERE {table}.{column} = {key}"
        return _Form(text, items, len(columns), table, tuple(map(known.index, columns)), together=together)


class Folding:
    """The groups of a batch in the order in which they are to be executed, gathered block by block.

    `kinds` says which event a brief one stands for.
    """

    def __init__(self, projection: Projection, kinds: Mapping[type, type] | None = None) -> None:
        self.groups: list[Group] = []
        self._plan = _plan(projection)
        briefly = {brief: self._plan.steps[kind] for brief, kind in (kinds or {}).items() if kind in self._plan.steps}
        self._steps = {**self._plan.steps, **briefly}
        self._keyed = bool(projection.key)
        self._latest: dict[str, int] = {}
        """Of each text, the last group."""
        self._placed: defaultdict[str, dict[Value, _Placed]] = defaultdict(dict)
        """Of each table and key the last statement, into whose values others may be folded."""
        self._others: dict[Value, int] = {}
        """Of each key, the group of the last statement that is not of one table only."""

    def add(self, recorded: Iterable[Recorded]) -> None:
        """What some commits do."""
        for each in recorded:
            self._commit(each.commit, each.stamp, each.sequence, each)

    def add_block(self, sequence: int, at: datetime, commits: Iterable[AnyCommit]) -> None:
        """What the commits of a block do, brief ones, too, where `fields_of` says which fields that takes."""
        written = timestamp(in_utc(at))
        for commit in commits:
            occurred_at = commit.occurred_at
            stamp = written if occurred_at is None else timestamp(in_utc(occurred_at))
            self._commit(commit, stamp, sequence)

    def _commit(self, commit: AnyCommit, stamp: str, sequence: int, recorded: Recorded | None = None) -> None:
        plan, steps, keyed, placed = self._plan, self._steps, self._keyed, self._placed
        for event in commit.events:
            kind = type(event)
            if kind in steps:
                for form, key_of, values, moves in steps[kind]:
                    if moves is None or not moves(placed[form.table], event, commit, stamp, sequence):
                        key = key_of(event, commit, stamp, sequence) if keyed else ""
                        self._add(form, values(event, commit, stamp, sequence), key)
            elif kind in plan.handlers:
                assert recorded is not None
                for sql, given in plan.handlers[kind](Fact(event, recorded)):
                    form, row = plan.executed(sql, given)
                    self._add(form, row, row[form.key] if keyed else "")

    def _add(self, form: _Form, row: list[Value], key: Value) -> None:
        if not form.table:
            floor = self._others.get(key, -1)
            for of_table in self._placed.values():
                floor = max(floor, of_table.pop(key, _NOTHING)[0])
            self._others[key] = self._append(form, floor, row)
            return
        of_table = self._placed[form.table]
        last = of_table.get(key)
        if last is None:
            floor = self._others.get(key, -1)
        else:
            floor, values, before = last
            if before.inserts and form.columns and not form.inserts:
                for column, value in zip(form.columns, row):  # noqa: B905  # The key is the last of the row.
                    values[column] = value
                return
            if before.columns == form.columns and form.columns and not form.inserts:
                values[:] = row
                return
        of_table[key] = self._append(form, floor, row), row, form

    def _append(self, form: _Form, floor: int, row: list[Value]) -> int:
        """Put it into the last group of its text, or a new one where something of its key comes after that."""
        group = self._latest.get(form.sql, -1)
        if group < max(floor, 0):
            group = self._latest[form.sql] = len(self.groups)
            self.groups.append(Group(form.sql, [], form.together, form.key))
        self.groups[group].rows.append(row)
        return group


def grouped(projection: Projection, recorded: Iterable[Recorded]) -> list[Group]:
    """All statements of these commits."""
    folding = Folding(projection)
    folding.add(recorded)
    return folding.groups


def fields_of(projection: Projection) -> Mapping[type, Collection[str]] | None:
    """Which fields of which events a read model is made of; None where only its functions know."""
    plan = _plan(projection)
    return None if plan.handlers or projection.batch is not None else plan.fields()


@lru_cache(maxsize=PLANS_MAX)
def _plan(projection: Projection) -> _Plan:
    return _Plan(projection)


def _tables(schema: str) -> dict[str, dict[str, int]]:
    """The columns of each table, and which part of the primary key each is."""
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(schema)
        names = memory.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        columns = "SELECT name, pk FROM pragma_table_info(?)"
        return {name: dict(memory.execute(columns, (name,)).fetchall()) for (name,) in names}


def _plain(items: Sequence[str]) -> tuple[str, ...] | None:
    """Values that are all parameters and literals, as `:name` or Python has them; None where one is not."""
    found: list[str] = []
    for match in map(_PLAIN.fullmatch, items):
        if match is None:
            return None
        parameter, text, number, _ = match.groups()
        literal = repr(text) if text is not None else str(int(number)) if number else "None"
        found.append(f":{parameter}" if parameter else literal)
    return tuple(found)


def _compiled(made: str) -> Callable[..., Any]:
    """The function `made`. What is in it are names that are `[a-z_]+`, and literals."""
    names: dict[str, Callable[..., Any]] = {}
    exec(made, {}, names)  # noqa: S102
    return names["made"]


def _texts(handler: Handler) -> tuple[str, ...]:
    if isinstance(handler, str):
        return (handler,)
    assert isinstance(handler, tuple)
    return handler
