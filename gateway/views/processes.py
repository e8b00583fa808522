"""Processes as they are shown: over HTTP and on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Union

import msgspec
from msgspec import Struct

from domains.processes.checkout import checkout, stage_of
from projections.processes import PROCESSES, PROCESSES_OF_STATUS, PROCESSES_STUCK, STUCK_AFTER_S, ProcessRow
from projections.projection import timestamp
from projections.reader import Reader

ProcessStatus = Literal["running", "waiting", "compensating", "done", "failed", "stuck"]

_decode_names = msgspec.json.Decoder(list[str]).decode
_decode_state = msgspec.json.Decoder(Union[checkout.states]).decode  # noqa: UP007  # Made at run time.


class Process(Struct, frozen=True):
    """One instance of a process; a checkout has the id of its order. `status`: running, waiting (for the outside
    world), compensating, done, failed (it came to nothing, and nothing is held or owed), or stuck (under way, and
    nothing happened for a minute). `state`: the step that is under way, or what it has come to; `event`: what it saw
    last, `commands`: what it had done about that."""

    process_id: str
    process: str
    status: str
    state: str
    event: str
    commands: list[str]
    version: int
    began_at: str
    changed_at: str


async def processes_of(
    reader: Reader, status: ProcessStatus | None, after: str, limit: int, now: Callable[[], float] = time.time
) -> list[Process]:
    """By id, from behind `after`. Raises `ReadModelMissing`."""
    stuck_before = timestamp(datetime.fromtimestamp(now() - STUCK_AFTER_S, UTC))
    if status is None:
        rows = await reader.all(PROCESSES, stuck_before=stuck_before, after=after, limit=limit)
    elif status == "stuck":
        rows = await reader.all(PROCESSES_STUCK, stuck_before=stuck_before, after=after, limit=limit)
    else:
        rows = await reader.all(PROCESSES_OF_STATUS, status=status, stuck_before=stuck_before, after=after, limit=limit)
    return [_process(row) for row in rows]


def _process(row: ProcessRow) -> Process:
    return Process(
        process_id=row.process_id,
        process="checkout",
        status=row.status,
        state=stage_of(_decode_state(row.state)),
        event=row.event,
        commands=_decode_names(row.commands),
        version=row.version,
        began_at=row.began_at,
        changed_at=row.changed_at,
    )
