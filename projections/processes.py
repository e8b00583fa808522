"""Processes: how it stands with each checkout, since when, and what it did last."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Union

import msgspec
from msgspec import Struct

from domains.processes.checkout import Checkout, Idle, checkout, status_of
from domains.processes.messages import CheckoutAdvanced
from projections.commit_index import json_array
from projections.projection import Projection, Recorded, Value
from projections.reader import Query
from projections.rows import ROWS, write

STUCK_AFTER_S = 60.0
"""A process that is under way and did nothing for so long is stuck."""

_STATES = "SELECT process_id, began_at, state FROM process WHERE process_id IN (SELECT value FROM json_each(?))"
_WRITE = f"""
INSERT INTO process {ROWS}
ON CONFLICT (process_id) DO UPDATE SET status = excluded.status, state = excluded.state, event = excluded.event,
    commands = excluded.commands, version = excluded.version, changed_at = excluded.changed_at
"""
_decode_state = msgspec.json.Decoder(Union[checkout.states]).decode  # noqa: UP007  # Made at run time.
_encode = msgspec.json.Encoder().encode


def _fold(connection: sqlite3.Connection, batch: Sequence[Recorded]) -> None:
    ids = json_array({recorded.commit.aggregate for recorded in batch})
    known = {name: (began_at, _decode_state(state)) for name, began_at, state in connection.execute(_STATES, (ids,))}
    rows: dict[str, tuple[Value, ...]] = {}
    for recorded in batch:
        name = recorded.commit.aggregate
        began_at, state = known.get(name) or (recorded.stamp, checkout.initial(name))
        for event in recorded.commit.events:
            assert isinstance(event, CheckoutAdvanced)
            nothing_begun = isinstance(state, Idle) and not event.steps  # A cancellation that came first, or alone.
            state = checkout.evolve(state, event)
            if not nothing_begun:
                rows[name] = _row(name, began_at, state, event, recorded)
        known[name] = began_at, state
    write(connection, _WRITE, [rows[name] for name in sorted(rows)])


def _row(
    name: str, began_at: str, state: Checkout, event: CheckoutAdvanced, recorded: Recorded
) -> tuple[str, str, str, str, str, int, str, str]:
    commands = _encode([type(step).__name__ for step in event.steps]).decode()
    encoded = _encode(state).decode()
    version = recorded.commit.version
    return name, status_of(state), encoded, type(event.input).__name__, commands, version, began_at, recorded.stamp


processes = Projection(
    name="processes",
    version=2,
    stream="checkout",
    schema="""
    CREATE TABLE process (
        process_id TEXT PRIMARY KEY, status TEXT NOT NULL, state TEXT NOT NULL, event TEXT NOT NULL,
        commands TEXT NOT NULL, version INTEGER NOT NULL, began_at TEXT NOT NULL, changed_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX process_by_status ON process (status, process_id);
    """,
    on={},
    batch=_fold,
)


class ProcessRow(Struct, frozen=True):
    """`state` as JSON; `event`: what it saw last, and `commands`, as JSON, what it had done about that."""

    process_id: str
    status: str
    state: str
    event: str
    commands: str
    version: int
    began_at: str
    changed_at: str


_UNDER_WAY = "status IN ('running', 'waiting', 'compensating')"
_COLUMNS = f"""
SELECT process_id, CASE WHEN {_UNDER_WAY} AND changed_at < :stuck_before THEN 'stuck' ELSE status END AS status,
    state, event, commands, version, began_at, changed_at
FROM process
"""
_PAGE = "process_id > :after ORDER BY process_id LIMIT :limit"

PROCESSES = Query(processes, f"{_COLUMNS} WHERE {_PAGE}", ProcessRow)
PROCESSES_STUCK = Query(
    processes, f"{_COLUMNS} WHERE {_UNDER_WAY} AND changed_at < :stuck_before AND {_PAGE}", ProcessRow
)
PROCESSES_OF_STATUS = Query(
    processes,
    f"{_COLUMNS} WHERE status = :status AND NOT ({_UNDER_WAY} AND changed_at < :stuck_before) AND {_PAGE}",
    ProcessRow,
)
"""All three with `stuck_before`, a time as read models write it."""
