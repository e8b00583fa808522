"""Parking: what becomes of a commit that a read model's handler cannot deal with.

It waits in a table of the read model's own file, written in the transaction of the rows and the position, and what
comes later for its key queues behind it, in order. Other keys go on. Only a place in the log is kept: the log has the
rest. Whoever has mended the handler redrives the key; what can never be handled is discarded, with a reason, and a
rebuild leaves it out as well.

Which key is to blame is looked for only after a batch has failed: halves of it are tried, and halves of those.
Nothing here decides about transactions; `projections/store.py` does.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from msgspec import Struct

from bus.logs.log import LogDamaged
from projections.projection import Projection, Recorded

PARKED_MAX = 10_000
"""Commits that wait in one read model. It halts at one more: by then it shows too little to be called live."""
REDRIVEN_MAX = 500
"""Commits that one transaction deals with again, while the live read models of the stream wait."""
ERROR_CHARS_MAX = 500

SCHEMA = """
CREATE TABLE _parked (
    key TEXT NOT NULL, sequence INTEGER NOT NULL, offset INTEGER NOT NULL, commit_id TEXT NOT NULL, at TEXT NOT NULL,
    error TEXT NOT NULL, PRIMARY KEY (key, sequence, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE _discarded (
    key TEXT NOT NULL, sequence INTEGER NOT NULL, offset INTEGER NOT NULL, error TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (key, sequence, offset)
) STRICT, WITHOUT ROWID;
"""
"""`error` is empty for what only queues."""

_FIRST = "SELECT sequence, offset, at, error FROM _parked WHERE key = ? ORDER BY sequence, offset LIMIT 1"
_DEFECTS = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
)
"""What SQLite says of a statement or a value. All else is about the file, the disk or the moment."""

log = logging.getLogger(__name__)


class ReadModelHalts(Exception):
    """What no parking helps against."""


class TooMuchParked(ReadModelHalts):
    """More waits than may: whatever is wrong is not about single keys."""


class Waiting(NamedTuple):
    """A commit that waits, where it lies in the log."""

    sequence: int
    offset: int
    commit_id: str


class Queue(Struct, frozen=True):
    """What waits for one key: so many commits, the first at `sequence` and `offset`, of the time `at`, for `error`."""

    key: str
    commits: int
    sequence: int
    offset: int
    at: str
    error: str


class Discarded(NamedTuple):
    key: str
    sequence: int
    offset: int
    error: str
    reason: str


class Redriven(Struct, frozen=True):
    """So many commits were dealt with, so many wait still; `error` is that of the first of those, if it failed."""

    redriven: int
    left: int
    error: str = ""


def is_poison(error: Exception) -> bool:
    """Whether an error is about what was handled. A dead or full disk, say, is not."""
    if isinstance(error, sqlite3.Error):
        code: int | None = getattr(error, "sqlite_errorcode", None)  # Python's own, of wrong parameters, have none.
        return code is None or code & 0xFF in _DEFECTS
    return not isinstance(error, ReadModelHalts | LogDamaged | OSError | MemoryError)


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]


class Parking:
    """The parked keys of one read model. Every method that writes is called within a transaction, and `remember` after
    it was committed."""

    def __init__(
        self, projection: Projection, connection: sqlite3.Connection, fold: Callable[[Sequence[Recorded]], None]
    ) -> None:
        self._projection = projection
        self._connection = connection
        self._fold = fold
        self._changed = True
        self._discarded: set[tuple[str, int, int]] = set()
        self.commits: dict[str, int] = {}
        """How many wait, for each parked key."""
        self.remember()

    def __bool__(self) -> bool:
        """Whether anything is parked or was discarded."""
        return bool(self.commits or self._discarded)

    def remember(self) -> None:
        """Know what is committed."""
        if not self._changed:
            return
        counted = self._connection.execute("SELECT key, count(*) FROM _parked GROUP BY key")
        self.commits = dict(counted)
        self._discarded = {(key, sequence, offset) for key, sequence, offset, *_ in self.discarded()}
        self._changed = False

    # -- while the log is folded ---------------------------------------------------------------------------------------

    def write(self, recorded: list[Recorded]) -> None:
        """Fold a batch in one go, but for the keys that are parked. Raises whatever a handler does."""
        self._fold(self._set_aside(recorded))

    def write_by_key(self, recorded: list[Recorded]) -> None:
        """Fold a batch that cannot be folded in one go, and park the keys that are to blame."""
        parts: dict[str, list[Recorded]] = {}
        for each in self._set_aside(recorded):
            for key, part in self._projection.by_key(each).items():
                parts.setdefault(key, []).append(part)
        if parts:
            self._divide(list(parts.items()))

    def _set_aside(self, recorded: list[Recorded]) -> list[Recorded]:
        """What is not of a parked key; that queues, and what was discarded is left out."""
        if not self:
            return recorded
        free: list[Recorded] = []
        concerned = {*self.commits, *(key for key, _, _ in self._discarded)}
        for each in recorded:
            if concerned.isdisjoint(self._projection.keys(each)):
                free.append(each)
                continue
            parts = self._projection.by_key(each)
            gone = {key for key in parts if (key, each.sequence, each.offset) in self._discarded}
            for key, part in parts.items():
                if key in gone:
                    continue
                if key in self.commits:
                    self._park(key, [part])
                else:
                    free.append(part)
        return free

    def _divide(self, parts: list[tuple[str, list[Recorded]]]) -> None:
        """Fold these keys together; where that fails, either half of them, down to the one that is to blame."""
        try:
            with self._savepoint():
                self._fold([part for _, its in parts for part in its])
            return
        except Exception as error:
            if not is_poison(error):
                raise
        if len(parts) > 1:
            self._divide(parts[: len(parts) // 2])
            self._divide(parts[len(parts) // 2 :])
        else:
            self._one_by_one(*parts[0])

    def _one_by_one(self, key: str, parts: list[Recorded]) -> None:
        for number, part in enumerate(parts):
            if (error := self._attempt(part)) is not None:
                log.error("%s parks %s at %d: %s", self._projection.name, key, part.sequence, error)
                self._park(key, parts[number:], error)
                return

    def _attempt(self, part: Recorded) -> str | None:
        """What keeps this from being folded, or None: it is."""
        try:
            with self._savepoint():
                self._fold([part])
        except Exception as error:
            if not is_poison(error):
                raise
            return told(error)
        return None

    def _park(self, key: str, parts: Iterable[Recorded], error: str = "") -> None:
        self._changed = True
        for part in parts:
            self._connection.execute(
                "INSERT INTO _parked VALUES (?, ?, ?, ?, ?, ?)",
                (key, part.sequence, part.offset, part.commit.id, part.stamp, error),
            )
            error = ""
        (parked,) = self._connection.execute("SELECT count(*) FROM _parked").fetchone()
        if parked > PARKED_MAX:
            raise TooMuchParked(f"more than {PARKED_MAX:,} commits would be parked; the last key was {key}")

    # -- once somebody looks after it ----------------------------------------------------------------------------------

    def queues(self, key: str, limit: int) -> list[Queue]:
        """The parked keys, the one that waits longest first; or only this one."""
        found: list[Queue] = []
        keys = self._connection.execute(
            "SELECT key, count(*) FROM _parked WHERE ? IN ('', key) GROUP BY key ORDER BY min(sequence), key LIMIT ?",
            (key, limit),
        ).fetchall()
        for key, commits in keys:
            sequence, offset, at, error = self._connection.execute(_FIRST, (key,)).fetchone()
            found.append(Queue(key, commits, sequence, offset, at, error))
        return found

    def waiting(self, key: str) -> list[Waiting]:
        """The first commits that wait for a key, as many as are redriven at once."""
        rows = self._connection.execute(
            "SELECT sequence, offset, commit_id FROM _parked WHERE key = ? ORDER BY sequence, offset LIMIT ?",
            (key, REDRIVEN_MAX),
        )
        return [Waiting(*row) for row in rows]

    def redrive(self, key: str, waiting: Iterable[Recorded]) -> Redriven:
        """Deal with the first commits that wait for a key, in order, up to the first that fails again."""
        self._changed = True
        redriven, error = 0, ""
        for recorded in waiting:
            part = self._projection.by_key(recorded).get(key)
            place = key, recorded.sequence, recorded.offset
            if part is not None and (trouble := self._attempt(part)) is not None:
                error = trouble
                self._connection.execute(
                    "UPDATE _parked SET error = ? WHERE key = ? AND sequence = ? AND offset = ?", (error, *place)
                )
                break
            self._connection.execute("DELETE FROM _parked WHERE key = ? AND sequence = ? AND offset = ?", place)
            redriven += 1
        (left,) = self._connection.execute("SELECT count(*) FROM _parked WHERE key = ?", (key,)).fetchone()
        return Redriven(redriven, left, error)

    def discard(self, key: str, sequence: int, offset: int, reason: str) -> bool:
        """Give up the commit at this place for ever; False where it is not the first that waits for its key."""
        first = self._connection.execute(_FIRST, (key,)).fetchone()
        if first is None or (first[0], first[1]) != (sequence, offset):
            return False
        self.adopt([Discarded(key, sequence, offset, first[3], reason)])
        self._connection.execute(
            "DELETE FROM _parked WHERE key = ? AND sequence = ? AND offset = ?", (key, sequence, offset)
        )
        return True

    def discarded(self) -> list[Discarded]:
        rows = self._connection.execute("SELECT key, sequence, offset, error, reason FROM _discarded")
        return [Discarded(*row) for row in rows]

    def adopt(self, discarded: Iterable[Discarded]) -> None:
        """Leave these out."""
        self._changed = True
        self._connection.executemany("INSERT OR REPLACE INTO _discarded VALUES (?, ?, ?, ?, ?)", discarded)

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        connection = self._connection
        connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if connection.in_transaction:  # A full disk has rolled all of it back already.
                connection.execute("ROLLBACK TO part")
                connection.execute("RELEASE part")
            raise
        connection.execute("RELEASE part")
