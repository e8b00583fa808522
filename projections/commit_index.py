"""Where each commit of a log lies: by aggregate and version, by what it belongs to, by the command that caused it.

One read model a log. With it, an aggregate's past and everything that an order caused are read from just the blocks
that hold them (`projections/history.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache

import msgspec
from msgspec import Struct

from projections.projection import Projection, Recorded, timestamp
from projections.reader import Query

CORRELATED_MAX = 1_000
"""Commits of one correlation in one log: an order causes some ten."""


def _index(connection: sqlite3.Connection, batch: Sequence[Recorded]) -> None:
    connection.executemany(
        "INSERT INTO commit_index VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                recorded.commit.aggregate,
                recorded.commit.version,
                recorded.sequence,
                recorded.offset,
                recorded.commit.id,
                recorded.commit.correlation,
                timestamp(recorded.at),
            )
            for recorded in batch
        ),
    )


@cache
def commit_index(log: str) -> Projection:
    """The index of one log."""
    return Projection(
        name=f"commit_index_{log}",
        version=1,
        stream=log,
        schema="""
        CREATE TABLE commit_index (
            aggregate TEXT NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL, offset INTEGER NOT NULL,
            id TEXT NOT NULL, correlation TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (aggregate, version)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX commit_of_correlation ON commit_index (correlation, sequence, offset);
        CREATE INDEX commit_of_id ON commit_index (id);
        """,
        on={},
        batch=_index,
    )


class Place(Struct, frozen=True):
    """Where a commit lies in its log: in the block at `sequence`, the `offset`th. `at` is its business time."""

    aggregate: str
    version: int
    sequence: int
    offset: int
    at: str


class Changed(Struct, frozen=True):
    aggregate: str


_PLACES = "SELECT aggregate, version, sequence, offset, at FROM commit_index"


@cache
def places_of_aggregate(log: str) -> Query[Place]:
    """Parameters `aggregate` and `after`, a version."""
    return Query(
        commit_index(log), f"{_PLACES} WHERE aggregate = :aggregate AND version > :after ORDER BY version", Place
    )


@cache
def places_of_correlation(log: str) -> Query[Place]:
    """Parameter `correlation`."""
    return Query(
        commit_index(log),
        f"{_PLACES} WHERE correlation = :correlation ORDER BY sequence, offset LIMIT {CORRELATED_MAX}",
        Place,
    )


@cache
def changed_since(log: str) -> Query[Changed]:
    """Which of `aggregates`, a JSON array, have a commit behind the position `after`."""
    return Query(
        commit_index(log),
        "SELECT DISTINCT aggregate FROM commit_index"
        " WHERE aggregate IN (SELECT value FROM json_each(:aggregates)) AND sequence > :after",
        Changed,
    )


def json_array(values: Iterable[str]) -> str:
    """What `json_each` takes."""
    return msgspec.json.encode(sorted(values)).decode()
