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

from projections.projection import Projection, Recorded
from projections.reader import Query
from projections.rows import ROWS, write

PLACES = 4_096
"""A commit's place is its block's sequence times this, plus its offset: more than a block holds commits."""
CORRELATED_MAX = 1_000
"""Commits of one correlation in one log: an order causes some ten."""


def _index(connection: sqlite3.Connection, batch: Sequence[Recorded]) -> None:
    write(
        connection,
        f"INSERT INTO commit_index {ROWS}",
        [
            (
                recorded.sequence * PLACES + recorded.offset,
                recorded.commit.aggregate,
                recorded.commit.version,
                recorded.commit.id,
                recorded.commit.correlation,
            )
            for recorded in batch
        ],
    )


@cache
def commit_index(log: str) -> Projection:
    """The index of one log. What correlates with its own aggregate, as an order does, is found by that."""
    return Projection(
        name=f"commit_index_{log}",
        version=1,
        stream=log,
        schema="""
        CREATE TABLE commit_index (
            place INTEGER PRIMARY KEY, aggregate TEXT NOT NULL, version INTEGER NOT NULL, id TEXT NOT NULL,
            correlation TEXT NOT NULL
        ) STRICT;
        CREATE INDEX commit_of_aggregate ON commit_index (aggregate, version);
        CREATE INDEX commit_of_id ON commit_index (id);
        CREATE INDEX commit_of_correlation ON commit_index (correlation) WHERE correlation != aggregate;
        """,
        on={},
        batch=_index,
    )


class Place(Struct, frozen=True):
    """Where a commit lies in its log: in the block at `sequence`, the `offset`th."""

    sequence: int
    offset: int


_PLACES = f"SELECT place / {PLACES} AS sequence, place % {PLACES} AS offset FROM commit_index"  # Our own names.


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
        f"{_PLACES} WHERE correlation = :correlation AND correlation != aggregate"
        f" UNION ALL {_PLACES} WHERE aggregate = :correlation AND correlation = :correlation"
        f" ORDER BY sequence, offset LIMIT {CORRELATED_MAX}",
        Place,
    )


class Changed(Struct, frozen=True):
    aggregate: str


@cache
def places_of_command(log: str) -> Query[Place]:
    """Parameter `id`, a command's: its commits, that of its own aggregate first."""
    return Query(commit_index(log), f"{_PLACES} WHERE id = :id ORDER BY sequence, offset LIMIT {CORRELATED_MAX}", Place)


@cache
def changed_since(log: str) -> Query[Changed]:
    """Which of `aggregates`, a JSON array, have a commit behind the position `after`."""
    return Query(
        commit_index(log),
        "SELECT DISTINCT aggregate FROM commit_index"
        f" WHERE aggregate IN (SELECT value FROM json_each(:aggregates)) AND place >= (:after + 1) * {PLACES}",
        Changed,
    )


def json_array(values: Iterable[str]) -> str:
    """What `json_each` takes."""
    return msgspec.json.encode(sorted(values)).decode()
