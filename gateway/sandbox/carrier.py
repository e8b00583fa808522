"""A simulated carrier: an HTTP service of its own with idempotency keys and a ledger that survives restarts.

The shipping token chooses what happens: `ship_ok` picks the goods up at once, `ship_refused` refuses, `ship_slow`
takes 3 s, `ship_flaky` answers 503 the first time, `ship_lost_answer` picks up and then answers 504 the first time,
`ship_later` only promises to come: whoever plays the carrier calls then, as for a delivery. Others are refused.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from msgspec import Struct

from bus.servers.lifetime import die_with_parent
from gateway.http.traced import Traced
from gateway.runtime.telemetry import collect_spans
from gateway.sandbox.provider import IdempotencyKey
from gateway.settings import from_environment

SLOW_S = 3.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, order_id TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL,
    code TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""
_STATUS = {
    "ship_ok": "picked_up",
    "ship_slow": "picked_up",
    "ship_flaky": "picked_up",
    "ship_lost_answer": "picked_up",
    "ship_later": "scheduled",
}


class Item(Struct, frozen=True):
    sku: str
    quantity: int


class PickupBody(Struct, frozen=True):
    order_id: str
    items: list[Item]
    token: str


class CancellationBody(Struct, frozen=True):
    order_id: str


class Operation(Struct, frozen=True):
    """`status`: picked_up, scheduled, refused or cancelled."""

    id: str
    status: str
    code: str = ""


class Ledger(Struct, frozen=True):
    """Pickups by what came of each; a cancelled one counts as cancelled only."""

    picked_up: int
    scheduled: int
    refused: int
    cancelled: int


@post("/pickups")
async def pick_up(request: Request[None, None, State], data: PickupBody, key: IdempotencyKey) -> Response[Operation]:
    ledger: sqlite3.Connection = request.app.state.ledger
    known = _recorded(ledger, key)
    if known is not None:
        return Response(known, status_code=200)
    if data.token == "ship_slow":  # noqa: S105  # A test case's name.
        await asyncio.sleep(SLOW_S)
    if data.token == "ship_flaky" and key not in request.app.state.tried:  # noqa: S105
        request.app.state.tried.add(key)
        return Response(Operation("", "unavailable"), status_code=503, headers={"Retry-After": "0"})
    request.app.state.tried.discard(key)
    status = _STATUS.get(data.token, "refused")
    made = Operation(f"pu_{key}"[:64], status, "not_carried" if status == "refused" else "")
    _record(ledger, key, "pickup", data.order_id, made)
    if data.token == "ship_lost_answer":  # noqa: S105
        return Response(Operation("", "unknown"), status_code=504)
    return Response(made, status_code=201)


@post("/cancellations")
async def cancel(
    request: Request[None, None, State], data: CancellationBody, key: IdempotencyKey
) -> Response[Operation]:
    """What was picked up is brought back; what was never asked for is cancelled, too."""
    ledger: sqlite3.Connection = request.app.state.ledger
    known = _recorded(ledger, key)
    if known is not None:
        return Response(known, status_code=200)
    made = Operation(f"ca_{key}"[:64], "cancelled")
    _record(ledger, key, "cancellation", data.order_id, made)
    return Response(made, status_code=201)


@get("/ledger")
async def show_ledger(request: Request[None, None, State]) -> Ledger:
    """What the carrier believes, to be compared with what we do."""
    row = request.app.state.ledger.execute(
        """
        SELECT count(CASE WHEN NOT called_off AND status = 'picked_up' THEN 1 END),
            count(CASE WHEN NOT called_off AND status = 'scheduled' THEN 1 END),
            count(CASE WHEN NOT called_off AND status = 'refused' THEN 1 END),
            count(CASE WHEN called_off THEN 1 END)
        FROM (
            SELECT status, status != 'refused' AND
                order_id IN (SELECT order_id FROM operation WHERE kind = 'cancellation') AS called_off
            FROM operation WHERE kind = 'pickup'
        )
        """
    ).fetchone()
    return Ledger(*row)


@get("/livez")
async def livez() -> str:
    return "alive"


def served() -> Litestar:
    """What granian's worker runs: the ledger is in the data folder."""
    die_with_parent()
    collect_spans("carrier")
    return create_carrier(from_environment().data_dir / "carrier.db")


def create_carrier(path: Path) -> Litestar:
    """The carrier's application, its ledger in this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ledger.execute("PRAGMA journal_mode = WAL")
    ledger.execute(_SCHEMA)
    state = State({"ledger": ledger, "tried": set()})
    app = Litestar([pick_up, cancel, show_ledger, livez], state=state, openapi_config=None, logging_config=None)
    app.asgi_handler = Traced(app.asgi_handler)
    return app


def _recorded(ledger: sqlite3.Connection, key: str) -> Operation | None:
    row = ledger.execute("SELECT id, status, code FROM operation WHERE key = ?", (key,)).fetchone()
    return Operation(*row) if row else None


def _record(ledger: sqlite3.Connection, key: str, kind: str, order_id: str, made: Operation) -> None:
    ledger.execute(
        "INSERT OR IGNORE INTO operation VALUES (?, ?, ?, ?, ?, ?)",
        (key, kind, order_id, made.id, made.status, made.code),
    )
