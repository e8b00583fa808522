"""The simulated provider's books: what it was asked under each key, and what it has yet to tell."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal
from uuid import uuid4

import msgspec
from msgspec import Struct

from gateway.effects.provider import Operation

Kind = Literal["charge", "refund"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL, code TEXT NOT NULL,
    amount_cents INTEGER NOT NULL, currency TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deferred (
    key TEXT PRIMARY KEY, status TEXT NOT NULL, code TEXT NOT NULL, amount_cents INTEGER NOT NULL, due_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL) STRICT;
"""


class Message(Struct, frozen=True):
    """What a webhook says. `id` names the message, `key` is the idempotency key of what was asked."""

    id: str
    key: str
    operation: Operation


class Totals(Struct, frozen=True):
    captured_cents: int
    refunded_cents: int
    charges: int
    refunds: int
    declined: int


class Ledger:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.executescript(_SCHEMA)

    def recorded(self, key: str) -> Operation | None:
        row = self._file.execute(
            "SELECT id, status, amount_cents, code FROM operation WHERE key = ?", (key,)
        ).fetchone()
        return Operation(*row) if row else None

    def record(self, key: str, kind: Kind, made: Operation, currency: str) -> None:
        """Once a key."""
        self._file.execute(
            "INSERT OR IGNORE INTO operation VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, kind, made.id, made.status, made.code, made.amount_cents, currency),
        )

    def defer(self, key: str, kind: Kind, made: Operation, currency: str, due_at: float) -> Operation:
        """Record it as pending, to be decided at that time."""
        pending = Operation(made.id, "pending", 0)
        with self._file:
            self._file.execute("BEGIN")
            self.record(key, kind, pending, currency)
            deferred = (key, made.status, made.code, made.amount_cents, due_at)
            self._file.execute("INSERT OR IGNORE INTO deferred VALUES (?, ?, ?, ?, ?)", deferred)
        return pending

    def decide(self, now: float, copies: int) -> None:
        """Decide what is due, and note so many copies of a message about each."""
        due = "SELECT key, status, code, amount_cents FROM deferred WHERE due_at <= ?"
        for key, status, code, amount_cents in self._file.execute(due, (now,)).fetchall():
            with self._file:
                self._file.execute("BEGIN")
                decided = (status, code, amount_cents, key)
                self._file.execute("UPDATE operation SET status = ?, code = ?, amount_cents = ? WHERE key = ?", decided)
                self._file.execute("DELETE FROM deferred WHERE key = ?", (key,))
                (made,) = self._file.execute("SELECT id FROM operation WHERE key = ?", (key,)).fetchone()
                body = msgspec.json.encode(Message(uuid4().hex, key, Operation(made, status, amount_cents, code)))
                self._file.executemany("INSERT INTO message (body) VALUES (?)", [(body,)] * copies)

    def next_due(self) -> float | None:
        """When something is to be decided next."""
        due: float | None = self._file.execute("SELECT min(due_at) FROM deferred").fetchone()[0]
        return due

    def untold(self, limit: int) -> list[tuple[int, bytes]]:
        """Messages that are to be sent, oldest first."""
        return self._file.execute("SELECT number, body FROM message ORDER BY number LIMIT ?", (limit,)).fetchall()

    def told(self, number: int) -> None:
        self._file.execute("DELETE FROM message WHERE number = ?", (number,))

    def totals(self) -> Totals:
        row = self._file.execute(
            "SELECT coalesce(sum(CASE status WHEN 'captured' THEN amount_cents END), 0),"
            " coalesce(sum(CASE status WHEN 'refunded' THEN amount_cents END), 0),"
            " count(CASE status WHEN 'captured' THEN 1 END), count(CASE status WHEN 'refunded' THEN 1 END),"
            " count(CASE status WHEN 'declined' THEN 1 END) FROM operation"
        ).fetchone()
        return Totals(*row)

    def close(self) -> None:
        self._file.close()
