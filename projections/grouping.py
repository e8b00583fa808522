"""The statements of a batch, as few as there can be: same texts together, and a row that moves on is written once.

Only statements of different keys change places. Of one key, what just sets columns of a row that the same batch has
inserted or set before is folded into that: an order that is placed, reserved and paid within a batch is one INSERT.
Statements of any other form, and all of a read model without a key, are executed as they are, in their order.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from projections.projection import Fact, Handler, Projection, Recorded, Statement, Value

Values = Sequence[Value]
Group = tuple[str, list[Values]]
"""A statement's text and the rows that it is executed with."""

PLANS_MAX = 256
RECORDED = {"at": "stamp", "version": "commit.version", "sequence": "sequence"}
"""Parameters that are of the commit and not of the event, see `projections.projection.bound`."""

_INSERT = re.compile(r"\s*INSERT\s+INTO\s+(\w+)\s+VALUES\s*\((.*)\)\s*", re.DOTALL)
_UPDATE = re.compile(r"\s*UPDATE\s+(\w+)\s+SET\s+(.*)\s+WHERE\s+(\w+)\s*=\s*:(\w+)\s*", re.DOTALL)
_SET = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)
_PLAIN = re.compile(r"\s*(?::([a-z_]+)|'([^':,]*)'|(-?\d+)|(NULL))\s*")
"""What says nothing of any table: a parameter or a literal."""
_NAMED = re.compile(r"'(?:[^']|'')*'|:([a-z_]+)")
_RULES = re.compile(r"\b(TRIGGER|CHECK|REFERENCES|GENERATED)\b", re.IGNORECASE)
"""Where a schema has such a thing, it may matter how often a row is written."""


class _Form(NamedTuple):
    """A statement as it is executed: with the values of the parameters `names`, those of the event before those of the
    commit, then of the `literals`, in the order of `places`.

    `table` is empty where it may read or write more than rows of its key in one table; `columns` are those that it sets
    of that key's only row, by their places; `inserts` says that it makes that row.
    """

    sql: str
    names: tuple[str, ...]
    literals: tuple[Value, ...]
    places: tuple[int, ...]
    key: int
    table: str = ""
    columns: tuple[int, ...] = ()
    inserts: bool = False

    def of_event(self) -> Callable[[object, Recorded], Values]:
        take = _attributes([name for name in self.names if name not in RECORDED])
        more = _attributes([RECORDED[name] for name in self.names if name in RECORDED])
        pick, literals = _items(self.places), self.literals
        return lambda event, recorded: pick(take(event) + more(recorded) + literals)

    def of_row(self) -> Callable[[Mapping[str, object]], Values]:
        take, pick, literals = _items(self.names), _items(self.places), self.literals
        return lambda row: pick(take(row) + literals)


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
        names = _ordered(match[1] for match in _NAMED.finditer(sql) if match[1])
        text = _NAMED.sub(lambda match: f"?{names.index(match[1]) + 1}" if match[1] else match[0], sql)
        if self._key and self._key not in names:
            raise KeyError(self._key)
        key = names.index(self._key) if self._key else 0
        return _Form(text, names, (), tuple(range(len(names))), key)

    def _insert(self, table: str, values: str) -> _Form | None:
        found = _plain(values.split(","))
        columns = self._tables.get(table)
        if columns is None or found is None or len(found[2]) != len(columns) or self._key not in found[0]:
            return None
        names, literals, places = found
        key = places.index(names.index(self._key))
        single = [name for name, part in columns.items() if part] == [self._key] == [list(columns)[key]]
        text = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
        return _Form(text, names, literals, places, key, table, tuple(range(len(columns))) if single else (), single)

    def _update(self, table: str, sets: str, column: str, parameter: str) -> _Form | None:
        parts = [_SET.fullmatch(each) for each in sets.split(",")]
        known = self._tables.get(table, {})
        if not (column == parameter == self._key) or not all(part and part[1] in known for part in parts):
            return None
        columns = [part[1] for part in parts if part]
        found = _plain([*(part[2] for part in parts if part), f":{parameter}"])
        if found is None or column in columns:
            return None
        names, literals, places = found
        text = f"UPDATE {table} SET {', '.join(f'{each} = ?' for each in columns)} WHERE {column} = ?"
        order = list(known)
        return _Form(text, names, literals, places, len(columns), table, tuple(order.index(each) for each in columns))


class _Groups:
    """The groups of a batch in the order in which they are to be executed."""

    def __init__(self) -> None:
        self.found: list[Group] = []
        self._latest: dict[str, int] = {}
        """Of each text, the last group."""
        self._placed: dict[tuple[str, Value], tuple[int, list[Value], _Form]] = {}
        """Of each table and key, the last statement."""
        self._others: dict[Value, int] = {}
        """Of each key, the group of the last statement that is not of one table only."""
        self._highest: dict[Value, int] = {}

    def add(self, form: _Form, row: Values, key: Value) -> None:
        if form.table:
            place = form.table, key
            floor = self._others.get(key, -1)
            if last := self._placed.get(place):
                group, values, before = last
                if group > floor and form.columns and not form.inserts:
                    if before.columns == form.columns and not before.inserts:
                        values[:] = row
                        return
                    if before.inserts:
                        for column, value in zip(form.columns, row, strict=False):  # The key is the last of the row.
                            values[column] = value
                        return
                floor = max(floor, group)
            written = list(row)
            group = self._append(form.sql, floor, written)
            self._placed[place] = group, written, form
        else:
            group = self._append(form.sql, self._highest.get(key, -1), row)
            self._others[key] = group
        if group > self._highest.get(key, -1):
            self._highest[key] = group

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


def _plain(items: Sequence[str]) -> tuple[tuple[str, ...], tuple[Value, ...], tuple[int, ...]] | None:
    """Names, literals and places of values that are all parameters and literals; None where one is not."""
    matches = [_PLAIN.fullmatch(item) for item in items]
    if not all(matches):
        return None
    found = [match for match in matches if match]
    names = _ordered(match[1] for match in found if match[1])
    literals: list[Value] = []
    places: list[int] = []
    for match in found:
        if match[1]:
            places.append(names.index(match[1]))
        else:
            places.append(len(names) + len(literals))
            literals.append(int(match[3]) if match[3] else None if match[4] else match[2])
    return names, tuple(literals), tuple(places)


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, those of the event first."""
    return tuple(sorted(dict.fromkeys(names), key=lambda name: name in RECORDED))


def _texts(handler: Handler) -> tuple[str, ...]:
    if isinstance(handler, str):
        return (handler,)
    assert isinstance(handler, tuple)
    return handler


def _attributes(names: Sequence[str]) -> Callable[[object], tuple[Value, ...]]:
    """Gives these attributes of an object, always as a tuple."""
    if not names:
        return lambda _: ()
    get: Callable[[object], Any] = attrgetter(*names)
    return get if len(names) > 1 else lambda of: (get(of),)


def _items(keys: Sequence[str | int]) -> Callable[[Any], tuple[Value, ...]]:
    """The same for the items of a mapping or a sequence."""
    if not keys:
        return lambda _: ()
    get: Callable[[Any], Any] = itemgetter(*keys)
    return get if len(keys) > 1 else lambda of: (get(of),)
