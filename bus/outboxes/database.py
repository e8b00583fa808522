"""The database of a state-stored service: one SQLite file with a row an aggregate and an outbox.

A command's new state and the outbox row that tells of it are written in one transaction, synced: both are there or
neither is. Outbox rows stay: published ones say which command was answered how, for as long as there is a file. They
hold what goes onto the log, which must not be personal, and a digest of the command, which is blanked with its
aggregate's erasure.

One process writes, and holds a lock beside the file as long as it does. All writing is done in one thread; states are
read by a connection of the loop's own. Knows nothing of the log but what the relay tells it (`bus/outboxes/outbox.py`).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, Union

import msgspec
from msgspec import Raw

from bus.commands import Envelope, Refused, Unavailable, digest_of
from bus.engines.deciding import malformed
from bus.engines.states import Known
from bus.logs.blocks import GENESIS
from domains.kernel import Rejected, StateStored

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Result = TypeVar("Result")

LOCK_EVERY_S = 0.25
BUSY_TIMEOUT_S = 0.5
"""Nobody else writes; others may read for a moment."""
REFUSED_TO_COMMIT = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
"""Errors of a commit behind which nothing was written."""
ERASED = ""
"""The digest of a command about an aggregate that was erased since."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS aggregate (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL, aggregate TEXT NOT NULL,
    version INTEGER NOT NULL, events TEXT NOT NULL, actor TEXT NOT NULL, cause TEXT NOT NULL,
    correlation TEXT NOT NULL, trace TEXT NOT NULL, at REAL NOT NULL, sequence INTEGER
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS outbox_of_aggregate ON outbox (aggregate, version);
CREATE TABLE IF NOT EXISTS published (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, sequence INTEGER NOT NULL, tip TEXT NOT NULL,
    number INTEGER NOT NULL
) STRICT;
"""

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Outboxed(NamedTuple):
    """A change that is told of, or was before: the number of its row, and the block that holds it, 0 for none yet.

    `events` is None where nothing had to change: then the row is that of the last change before."""

    number: int
    sequence: int
    version: int
    events: Raw | None
    repeated: bool = False


class Row(NamedTuple):
    """An outbox row, as it is to be told."""

    number: int
    command_id: str
    aggregate: str
    version: int
    events: str
    actor: str
    cause: str
    correlation: str
    trace: str
    at: float


class Stand(NamedTuple):
    """Up to where the outbox is known to be published: the log's epoch, its last block, that block's hash, and the
    number of the last row in it."""

    epoch: str = ""
    sequence: int = 0
    tip: str = GENESIS
    number: int = 0


class OutboxDiffers(Exception):
    """The log tells of other changes than this database: it is not its own, or an older one."""


Outcome = Outboxed | Refused | Unavailable


class Database(Generic[State, Command, Event]):
    def __init__(self, service: StateStored[State, Command, Event], path: Path) -> None:
        self.service = service
        self.path = path
        self._decode_command = msgspec.json.Decoder(Union[service.commands]).decode  # noqa: UP007  # Made at run time.
        self._decode_state = msgspec.json.Decoder(Union[service.states]).decode  # noqa: UP007  # As above.
        self._thread = ThreadPoolExecutor(1, f"{service.name}-database")
        self._lock = -1

    async def open(self) -> None:
        """Wait until nobody else writes it, however long; then open it, made where there is none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        waiting = False
        while not _locked(self._lock):
            if not waiting:
                log.info("%s is written by another process: waiting to take over", self.path)
                waiting = True
            await asyncio.sleep(LOCK_EVERY_S)
        await self._hop(self._open)
        self._reading = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        self._reading.execute("PRAGMA query_only = ON")

    async def close(self) -> None:
        """Finish what was begun, and let the next one in."""
        if hasattr(self, "_reading"):
            self._reading.close()
        if hasattr(self, "_writing"):
            await self._hop(self._writing.close)
        self._thread.shutdown()
        if self._lock >= 0:
            os.close(self._lock)

    async def write(self, envelopes: Sequence[Envelope], now: float) -> list[Outcome]:
        """Decide commands in their order, each on the state that those before it leave, and keep what they lead to.

        All in one transaction. Raises `sqlite3.Error` when nothing of it was written, or, in `Doubtful`, when that is
        not known.
        """
        return await self._hop(lambda: self._write(envelopes, now))

    def state(self, aggregate: str) -> Known[State]:
        """As it is on disk now. For the loop: it takes some ten microseconds."""
        return self._known(self._reading, aggregate)

    async def stand(self) -> Stand:
        return await self._hop(self._stand)

    async def begin(self, epoch: str) -> None:
        """Forget what was published: to a log of this epoch nothing was, or it has to be found out anew."""
        await self._hop(lambda: self._begin(epoch))

    async def unpublished(self, rows_max: int) -> list[Row]:
        """The next rows to publish, in order."""
        return await self._hop(lambda: self._unpublished(rows_max))

    async def publish(self, command_ids: Sequence[str], sequence: int, tip: str) -> list[int]:
        """A block of the log holds the changes that these commands caused: mark them. Their numbers.

        Raises `OutboxDiffers` unless they are just the next rows to publish.
        """
        return await self._hop(lambda: self._publish(command_ids, sequence, tip))

    async def backlog(self) -> tuple[int, float]:
        """How many rows are to be published, and since when the first of them is (seconds since the epoch, or 0)."""
        return await self._hop(self._backlog)

    async def _hop(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        fresh = not self.path.exists()
        self._writing = sqlite3.connect(
            self.path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        self.path.chmod(0o600)
        self._writing.execute("PRAGMA journal_mode = WAL")
        self._writing.execute("PRAGMA synchronous = FULL")
        self._writing.execute("PRAGMA secure_delete = ON")
        self._writing.executescript(_SCHEMA)
        self._wipe()
        if fresh:
            _sync(self.path.parent)

    def _write(self, envelopes: Sequence[Envelope], now: float) -> list[Outcome]:
        database = self._writing
        erased: list[str] = []
        database.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._decide(envelope, now, erased) for envelope in envelopes]
        except BaseException:  # Raised again; no transaction is left open, however it ended.
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        try:
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if error.sqlite_errorcode in REFUSED_TO_COMMIT:
                raise
            raise Doubtful(str(error)) from error
        if erased:
            self._wipe()
        return outcomes

    def _decide(self, envelope: Envelope, now: float, erased: list[str]) -> Outcome:
        digest = envelope.digest or digest_of(envelope.command)
        if (first := self._answered(envelope.id, digest)) is not None:
            return first
        if envelope.deadline < now:
            return Unavailable("deadline_passed")
        service = self.service
        try:
            command: Command = self._decode_command(envelope.command)
            aggregate = service.target(command)
            known = self._known(self._writing, aggregate)
            if envelope.expect is not None and envelope.expect != known.version:
                return Refused("version_conflict", f"version is {known.version}, expected {envelope.expect}")
            state, events = service.decide(known.state, command)
        except Rejected as refusal:
            return Refused(refusal.code, refusal.detail, refusal.field)
        except msgspec.ValidationError as error:
            return malformed(error)
        except msgspec.DecodeError as error:
            return Refused("malformed", str(error))
        except Exception:  # A defect in a decider: this command is answered alone, its neighbours go on.
            log.exception("deciding %s of %s failed", envelope.id, service.name)
            return Refused("internal_error", "the command could not be decided; nothing was written")
        if not events:
            return self._last_of(aggregate, known.version)
        version = known.version + 1
        encoded = _encode(events)
        self._writing.execute(
            "INSERT INTO aggregate VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET version = excluded.version, state = excluded.state",
            (aggregate, version, _encode(state).decode()),
        )
        if isinstance(state, service.erased):
            self._writing.execute("UPDATE outbox SET digest = ? WHERE aggregate = ?", (ERASED, aggregate))
            erased.append(aggregate)
        (number,) = self._writing.execute(
            "INSERT INTO outbox (command_id, digest, aggregate, version, events, actor, cause, correlation, trace, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
            (
                envelope.id,
                digest,
                aggregate,
                version,
                encoded.decode(),
                envelope.actor,
                envelope.cause,
                envelope.correlation,
                envelope.trace,
                now,
            ),
        ).fetchone()
        return Outboxed(number, 0, version, Raw(encoded))

    def _answered(self, command_id: str, digest: str) -> Outcome | None:
        """The first answer of a command, if it has one."""
        found = self._writing.execute(
            "SELECT number, coalesce(sequence, 0), version, events, digest FROM outbox WHERE command_id = ?",
            (command_id,),
        ).fetchone()
        if found is None:
            return None
        number, sequence, version, events, first = found
        if first == ERASED:
            return Refused("erased_since", "what this command was about was erased since")
        if first != digest:
            return Refused("id_reused", "this id was used for another command before")
        return Outboxed(number, sequence, version, Raw(events.encode()), repeated=True)

    def _last_of(self, aggregate: str, version: int) -> Outboxed:
        """Where it was told that things are as they are."""
        found = self._writing.execute(
            "SELECT number, coalesce(sequence, 0) FROM outbox WHERE aggregate = ? AND version = ?", (aggregate, version)
        ).fetchone()
        number, sequence = found or (0, 0)
        return Outboxed(number, sequence, version, None)

    def _known(self, connection: sqlite3.Connection, aggregate: str) -> Known[State]:
        # All rows are fetched, so that no statement stays open and holds on to an old state of the file.
        found = connection.execute("SELECT version, state FROM aggregate WHERE id = ?", (aggregate,)).fetchall()
        if not found:
            return Known(0, self.service.initial)
        return Known(found[0][0], self._decode_state(found[0][1]))

    def _wipe(self) -> None:
        """Empty the file's log, which still holds rows as they were before; in the file they are overwritten. After
        each erasure, and when the file is opened, for a crash may have come between the two. Raises nothing: what was
        written before is on disk all the same."""
        try:
            busy, _, _ = self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            trouble = "somebody else reads it" if busy else ""
        except sqlite3.Error as error:
            trouble = str(error)
        if trouble:
            log.error("%s: its log could not be emptied, and still holds what was erased: %s", self.path, trouble)

    def _stand(self) -> Stand:
        found = self._writing.execute("SELECT epoch, sequence, tip, number FROM published").fetchone()
        return Stand(*found) if found else Stand()

    def _begin(self, epoch: str) -> None:
        with self._writing as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("UPDATE outbox SET sequence = NULL WHERE sequence IS NOT NULL")
            database.execute("INSERT OR REPLACE INTO published VALUES (1, ?, 0, ?, 0)", (epoch, GENESIS))

    def _unpublished(self, rows_max: int) -> list[Row]:
        found = self._writing.execute(
            "SELECT number, command_id, aggregate, version, events, actor, cause, correlation, trace, at FROM outbox"
            " WHERE number > (SELECT number FROM published) ORDER BY number LIMIT ?",
            (rows_max,),
        )
        return [Row(*row) for row in found.fetchall()]

    def _publish(self, command_ids: Sequence[str], sequence: int, tip: str) -> list[int]:
        with self._writing as database:
            database.execute("BEGIN IMMEDIATE")
            rows = self._unpublished(len(command_ids))
            if [row.command_id for row in rows] != list(command_ids):
                raise OutboxDiffers(
                    f"block {sequence} of {self.service.name} tells of changes that are not the next in {self.path}:"
                    " the database is another's, or an older one; put the right one back"
                )
            numbers = [row.number for row in rows]
            database.execute(
                "UPDATE outbox SET sequence = ? WHERE number BETWEEN ? AND ?", (sequence, numbers[0], numbers[-1])
            )
            database.execute("UPDATE published SET sequence = ?, tip = ?, number = ?", (sequence, tip, numbers[-1]))
        return numbers

    def _backlog(self) -> tuple[int, float]:
        found = self._writing.execute(
            "SELECT count(*), coalesce(min(at), 0.0) FROM outbox WHERE number > (SELECT number FROM published)"
        ).fetchone()
        return int(found[0]), float(found[1])


class Doubtful(Exception):
    """Whether a transaction is on disk is not known: only who opens the file anew can tell."""


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(folder: Path) -> None:
    """See that a new file's name is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
