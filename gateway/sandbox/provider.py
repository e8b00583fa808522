"""A simulated payment provider: an HTTP service of its own with idempotency keys and a ledger that survives restarts.

The payment token chooses what happens: `tok_ok` captures, `tok_declined` declines, `tok_slow` takes 3 s, `tok_flaky`
answers 503 the first time, `tok_lost_answer` captures and then answers 504 the first time. Others are declined.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Annotated

from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import Parameter
from msgspec import Struct

from bus.lifetime import die_with_parent
from gateway.settings import from_environment

SLOW_S = 3.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL, code TEXT NOT NULL,
    amount_cents INTEGER NOT NULL, currency TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""


class ChargeBody(Struct, frozen=True):
    amount_cents: int
    currency: str
    token: str


class RefundBody(Struct, frozen=True):
    charge_id: str
    amount_cents: int
    currency: str = ""


class Operation(Struct, frozen=True):
    """`status`: captured, declined or refunded."""

    id: str
    status: str
    amount_cents: int
    code: str = ""


class Ledger(Struct, frozen=True):
    captured_cents: int
    refunded_cents: int
    charges: int
    refunds: int
    declined: int


IdempotencyKey = Annotated[str, Parameter(header="Idempotency-Key", min_length=1, max_length=128)]


@post("/charges")
async def charge(request: Request[None, None, State], data: ChargeBody, key: IdempotencyKey) -> Response[Operation]:
    ledger: sqlite3.Connection = request.app.state.ledger
    known = _recorded(ledger, key)
    if known is not None:
        return Response(known, status_code=200)
    if data.token == "tok_slow":  # noqa: S105  # A test case's name.
        await asyncio.sleep(SLOW_S)
    if data.token == "tok_flaky" and _first_try(request, key):  # noqa: S105
        return Response(Operation("", "unavailable", 0), status_code=503, headers={"Retry-After": "0"})
    captured = data.token in ("tok_ok", "tok_slow", "tok_flaky", "tok_lost_answer")
    made = Operation(
        id=f"ch_{key}"[:64],
        status="captured" if captured else "declined",
        amount_cents=data.amount_cents if captured else 0,
        code="" if captured else "card_declined",
    )
    _record(ledger, key, "charge", made, data.currency)
    if data.token == "tok_lost_answer":  # noqa: S105
        return Response(Operation("", "unknown", 0), status_code=504)
    return Response(made, status_code=201)


@post("/refunds")
async def refund(request: Request[None, None, State], data: RefundBody, key: IdempotencyKey) -> Response[Operation]:
    ledger: sqlite3.Connection = request.app.state.ledger
    known = _recorded(ledger, key)
    if known is not None:
        return Response(known, status_code=200)
    made = Operation(id=f"re_{key}"[:64], status="refunded", amount_cents=data.amount_cents)
    _record(ledger, key, "refund", made, data.currency)
    return Response(made, status_code=201)


@get("/ledger")
async def show_ledger(request: Request[None, None, State]) -> Ledger:
    """What the provider believes, to be compared with what we do."""
    row = request.app.state.ledger.execute(
        "SELECT coalesce(sum(CASE status WHEN 'captured' THEN amount_cents END), 0),"
        " coalesce(sum(CASE status WHEN 'refunded' THEN amount_cents END), 0),"
        " count(CASE status WHEN 'captured' THEN 1 END), count(CASE status WHEN 'refunded' THEN 1 END),"
        " count(CASE status WHEN 'declined' THEN 1 END) FROM operation"
    ).fetchone()
    return Ledger(*row)


@get("/livez")
async def livez() -> str:
    return "alive"


def served() -> Litestar:
    """What granian's worker runs: the ledger is in the data folder."""
    die_with_parent()
    return create_provider(from_environment().data_dir / "provider.db")


def create_provider(path: Path) -> Litestar:
    """The provider's application, its ledger in this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ledger.execute("PRAGMA journal_mode = WAL")
    ledger.execute(_SCHEMA)
    state = State({"ledger": ledger, "tried": set()})
    return Litestar([charge, refund, show_ledger, livez], state=state, openapi_config=None, logging_config=None)


def _recorded(ledger: sqlite3.Connection, key: str) -> Operation | None:
    row = ledger.execute("SELECT id, status, amount_cents, code FROM operation WHERE key = ?", (key,)).fetchone()
    return Operation(*row) if row else None


def _record(ledger: sqlite3.Connection, key: str, kind: str, made: Operation, currency: str) -> None:
    ledger.execute(
        "INSERT OR IGNORE INTO operation VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key, kind, made.id, made.status, made.code, made.amount_cents, currency),
    )


def _first_try(request: Request[None, None, State], key: str) -> bool:
    tried: set[str] = request.app.state.tried
    if key in tried:
        tried.discard(key)
        return False
    tried.add(key)
    return True
