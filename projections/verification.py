"""Whether a build may go live: it is compared with the live one where the same code made both, else with the log."""

from __future__ import annotations

import logging
import sqlite3
from itertools import islice, zip_longest
from zlib import crc32

from projections.batches import Batch
from projections.projection import Projection, Recorded
from projections.store import Store, columns_of, rows_of

ROWS_AT_ONCE = 1_000
SAMPLE_KEYS = 200
"""So many keys, if there are as many, are folded a second time when there is nothing to compare with."""
AGGREGATE = "aggregate"
"""The column by which a read model that folds whole batches is sampled."""
TOLD_KEYS_MAX = 3
TOLD_CHARACTERS_MAX = 300

Row = tuple[object, ...]

log = logging.getLogger(__name__)


def compared(live: Store, built: Store) -> list[str]:
    """What differs between two builds at the same position: of each table the first row, by its key."""
    if live.position.sequence != built.position.sequence:
        return [f"positions {live.position.sequence} and {built.position.sequence} cannot be compared"]
    found: list[str] = []
    old, new = live.tables(), built.tables()
    for table in sorted({*old, *new}):
        if table not in old or table not in new:
            found.append(f"table {table} is only in the {'live' if table in old else 'rebuilt'} one")
        elif live.columns(table) != built.columns(table):
            found.append(f"table {table} has other columns in the rebuilt one")
        elif first := _first_difference(live, built, table):
            found.append(f"table {table} has {_count(live, table)} rows live, {_count(built, table)} rebuilt; {first}")
    return found


def emptied(live: Store, built: Store) -> list[str]:
    """Tables that lost all of their rows: what is left to compare where other code made the live one."""
    both = sorted({*live.tables()} & {*built.tables()})
    lost = [(table, _count(live, table)) for table in both if not _count(built, table)]
    return [f"table {table} has {rows} rows live, none rebuilt" for table, rows in lost if rows]


def checked(built: Store, sample: Sample) -> list[str]:
    """What is wrong with a build by itself: what must never be in it, and keys that are not as the log has them."""
    broken = [(rule, built.first(sql)) for rule, sql in built.projection.never.items()]
    return [f"{rule}: {_short(row)}" for rule, row in broken if row is not None] + sample.differences(built)


def counted(store: Store) -> str:
    """How many rows each table has, for people."""
    return ", ".join(f"{table} {_count(store, table)} rows" for table in store.tables())


class Sample:
    """Some keys of a read model, folded in memory straight from the log: one statement after the other, in its order.

    They are those whose hash is lowest: so each is chosen when it is first seen, or never, and has the same chance.
    """

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._column = projection.key if projection.batch is None else AGGREGATE
        self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._memory.executescript(projection.schema)
        self._chosen: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._below = 1 << 32

    def __len__(self) -> int:
        return len(self._chosen)

    def apply(self, batch: Batch) -> None:
        for block in batch.blocks:
            for recorded in block.recorded:
                self._fold(recorded)

    def differences(self, built: Store) -> list[str]:
        """Where a build shows something else for a sampled key. Of what it parked or left out it says so itself."""
        found: list[str] = []
        told = {*built.parked, *(discarded.key for discarded in built.discarded())}
        for table in built.tables():
            if self._column not in columns_of(self._memory, table):
                continue
            for key in sorted(self._chosen.keys() - told):
                where = f"WHERE {self._column} = ?"
                wanted, got = list(rows_of(self._memory, table, where, key)), list(built.rows(table, where, key))
                if wanted != got:
                    pair = f"{_short(wanted)} by the log, {_short(got)} rebuilt"
                    found.append(f"table {table}, {self._column} = {key!r}: {pair}")
                if len(found) == TOLD_KEYS_MAX:
                    return [*found, "and maybe more"]
        return found

    def close(self) -> None:
        self._memory.close()

    def _fold(self, recorded: Recorded) -> None:
        projection, aggregate = self._projection, recorded.commit.aggregate
        try:
            if projection.batch is not None:
                if self._wants(aggregate):
                    projection.batch(self._memory, [recorded])
            elif self._column:
                for sql, row in projection.statements(recorded):
                    if self._wants(str(row[self._column])):
                        self._memory.execute(sql, row)
        except Exception:  # What becomes of the commit is the build's to say.
            log.warning("%s has no sample of %s", projection.name, aggregate, exc_info=True)
            for key in {aggregate, *(str(getattr(event, self._column, "")) for event in recorded.commit.events)}:
                if self._wants(key):
                    del self._chosen[key]
                    self._given_up.add(key)

    def _wants(self, key: str) -> bool:
        number = crc32(key.encode())
        if number >= self._below or key in self._given_up:
            return False
        self._chosen[key] = number
        if len(self._chosen) > 2 * SAMPLE_KEYS:
            self._below = sorted(self._chosen.values())[SAMPLE_KEYS]
            self._chosen = {key: number for key, number in self._chosen.items() if number < self._below}
        return number < self._below


def _first_difference(live: Store, built: Store, table: str) -> str:
    """Row by row in the order of the key, a piece at a time; empty when there is none."""
    columns = live.columns(table)
    names = list(columns)
    parts = sorted((name for name in names if columns[name]), key=columns.__getitem__)
    old, new = live.rows(table), built.rows(table)
    while True:
        some, others = list(islice(old, ROWS_AT_ONCE)), list(islice(new, ROWS_AT_ONCE))
        for one, other in zip_longest(some, others) if some != others else ():
            if one != other:
                return _told(one, other, parts, [names.index(name) for name in parts])
        if not some:
            return ""


def _told(live: Row | None, built: Row | None, names: list[str], places: list[int]) -> str:
    """Two rows at the same place: where their keys differ, the lower one is missing on the other side."""
    if live is not None and built is not None and places:
        old, new = ([row[place] for place in places] for row in (live, built))
        if old < new:
            built = None
        elif old > new:
            live = None
    row = live or built
    assert row is not None
    key = ", ".join(f"{name} = {row[place]!r}" for name, place in zip(names, places, strict=True))
    missing = "no such row"
    return (
        f"first {key or 'row'}: {_short(live) if live else missing} live, {_short(built) if built else missing} rebuilt"
    )


def _count(store: Store, table: str) -> int:
    row = store.first(f"SELECT count(*) FROM {table}")
    assert row is not None
    return int(str(row[0]))


def _short(what: object) -> str:
    text = repr(what)
    return text if len(text) <= TOLD_CHARACTERS_MAX else f"{text[:TOLD_CHARACTERS_MAX]}..."
