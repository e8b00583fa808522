"""The statements of a batch, as few as there can be: same texts together, and a row that moves on is written once.

Only statements of different keys change places. Of one key, what just sets columns of a row that the same batch has
inserted or set before is folded into that: an order that is placed, reserved and paid within a batch is one INSERT.
Statements of any other form, and all of a read model without a key, are executed as they are, in their order.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

from projections.projection import Fact, Handler, Projection, Recorded, Statement, Value, source_of

Values = Sequence[Value]
Group = tuple[str, list[Values]]
"""A statement's text and the rows that it is executed with."""

PLANS_MAX = 256

_INSERT = re.compile(r"\s*INSERT\s+INTO\s+(\w+)\s+VALUES\s*\((.*)\)\s*", re.DOTALL)
_UPDATE = re.compile(r"\s*UPDATE\s+(\w+)\s+SET\s+(.*)\s+WHERE\s+(\w+)\s*=\s*:(\w+)\s*", re.DOTALL)
_SET = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)
_PLAIN = re.compile(r"\s*(?::([a-z_]+)|'([^':,]*)'|(-?\d+)|(NULL))\s*")
"""What says nothing of any table: a parameter or a literal."""
_NAMED = re.compile(r"'(?:[^']|'')*'|:([a-z_]+)")
_RULES = re.compile(r"\b(TRIGGER|CHECK|REFERENCES|GENERATED)\b", re.IGNORECASE)
"""Where a schema has such a thing, it may matter how often a row is written."""


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

    def of_event(self) -> Callable[[object, Recorded], Values]:
        """Takes the values of an event of a commit. Compiled, for this is done for every event of every log: a fifth of
        the time that it takes to get them by their names one after the other."""
        sources = (source_of(item[1:]) if item[0] == ":" else item for item in self.items)
        return _compiled("event, recorded", sources)

    def of_row(self) -> Callable[[Mapping[str, object]], Values]:
        return _compiled("row", (f"row[{item[1:]!r}]" if item[0] == ":" else item for item in self.items))


_NOTHING: tuple[int, list[Value], _Form] = -1, [], _Form("", (), 0)


class _Plan:
    """How one read model's statements are executed."""

    def __init__(self, projection: Projection) -> None:
        self._key = projection.key
        self._tables = _tables(projection.schema) if self._key and not _RULES.search(projection.schema) else {}
        self._forms: dict[str, tuple[_Form, Callable[[Mapping[str, object]], Values]]] = {}
        self.steps: dict[type, list[tuple[_Form, Callable[[object, Recorded], Values]]]] = {}
        self.handlers: dict[type, Callable[[Fact], Iterable[Statement]]] = {}
        for kind, handler in projection.on.items():
            if callable(handler):
                self.handlers[kind] = handler
            else:
                forms = [self._form(sql) for sql in _texts(handler)]
                self.steps[kind] = [(form, form.of_event()) for form in forms]

    def executed(self, sql: str, row: Mapping[str, object]) -> tuple[_Form, Values]:
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
        return _Form(text, items, place, table, tuple(range(len(columns))) if single else (), single)

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
        return _Form(text, items, len(columns), table, tuple(map(known.index, columns)))


class _Groups:
    """The groups of a batch in the order in which they are to be executed."""

    def __init__(self) -> None:
        self.found: list[Group] = []
        self._latest: dict[str, int] = {}
        """Of each text, the last group."""
        self._placed: defaultdict[str, dict[Value, tuple[int, list[Value], _Form]]] = defaultdict(dict)
        """Of each table and key the last statement: its group and its values, into which others may be folded."""
        self._others: dict[Value, int] = {}
        """Of each key, the group of the last statement that is not of one table only."""

    def add(self, form: _Form, row: Values, key: Value) -> None:
        if not form.table:
            floor = self._others.get(key, -1)
            for of_table in self._placed.values():
                floor = max(floor, of_table.pop(key, _NOTHING)[0])
            self._others[key] = self._append(form.sql, floor, row)
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
        written = list(row)
        of_table[key] = self._append(form.sql, floor, written), written, form

    def _append(self, sql: str, floor: int, row: Values) -> int:
        """Put it into the last group of its text, or a new one where something of its key comes after that."""
        group = self._latest.get(sql, -1)
        if group < max(floor, 0):
            group = self._latest[sql] = len(self.found)
            self.found.append((sql, []))
        self.found[group][1].append(row)
        return group


def grouped(projection: Projection, recorded: Iterable[Recorded]) -> list[Group]:
    """All statements of these commits."""
    plan, groups, keyed = _plan(projection), _Groups(), bool(projection.key)
    steps, handlers, add = plan.steps, plan.handlers, groups.add
    for each in recorded:
        for event in each.commit.events:
            kind = type(event)
            if kind in steps:
                for form, values in steps[kind]:
                    row = values(event, each)
                    add(form, row, row[form.key] if keyed else "")
            elif kind in handlers:
                for sql, given in handlers[kind](Fact(event, each)):
                    form, row = plan.executed(sql, given)
                    add(form, row, row[form.key] if keyed else "")
    return groups.found


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


def _compiled(arguments: str, sources: Iterable[str]) -> Callable[..., Values]:
    """A function that gives these as a tuple. They are made here, of names that are `[a-z_]+` and of literals."""
    function: Callable[..., Values] = eval(f"lambda {arguments}: ({''.join(f'{each}, ' for each in sources)})")  # noqa: S307
    return function


def _texts(handler: Handler) -> tuple[str, ...]:
    if isinstance(handler, str):
        return (handler,)
    assert isinstance(handler, tuple)
    return handler
