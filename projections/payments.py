"""What was asked for, captured and given back for each order, and by which means."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from domains.payments.messages import (
    PaymentAbandoned,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRecorded,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from projections.projection import Fact, Projection, Statement, bound
from projections.reader import Query

_CAPTURED = """
INSERT INTO payment VALUES (:order_id, 'captured', :currency, :amount_cents, :amount_cents, 0, NULL, :version)
"""
_PART = "INSERT INTO payment_part VALUES (:order_id, :number, :method, :instalments, :amount_cents)"


def _recorded(fact: Fact) -> Iterable[Statement]:
    recorded = fact.event
    assert isinstance(recorded, PaymentRecorded)
    yield bound(_CAPTURED, fact)
    for number, part in enumerate(recorded.parts):
        yield (
            _PART,
            {
                "order_id": recorded.order_id,
                "number": number,
                "method": part.method,
                "instalments": part.instalments,
                "amount_cents": part.amount_cents,
            },
        )


payments = Projection(
    name="payments",
    version=1,
    stream="payments",
    key="order_id",
    schema="""
    CREATE TABLE payment (
        order_id TEXT PRIMARY KEY, status TEXT NOT NULL, currency TEXT NOT NULL, authorised_cents INTEGER NOT NULL,
        captured_cents INTEGER NOT NULL, refunded_cents INTEGER NOT NULL, decline_code TEXT, version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE payment_part (
        order_id TEXT NOT NULL, number INTEGER NOT NULL, method TEXT NOT NULL, instalments INTEGER NOT NULL,
        amount_cents INTEGER NOT NULL, PRIMARY KEY (order_id, number)
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        PaymentRequested: "INSERT INTO payment VALUES (:order_id, 'requested', :currency, 0, 0, 0, NULL, :version)",
        PaymentCaptured: (
            """
            UPDATE payment SET status = 'captured', authorised_cents = :amount_cents, captured_cents = :amount_cents,
                version = :version
            WHERE order_id = :order_id
            """,
            "INSERT INTO payment_part VALUES (:order_id, 0, 'card', 1, :amount_cents)",
        ),
        PaymentDeclined: """
            UPDATE payment SET status = 'declined', decline_code = :code, version = :version WHERE order_id = :order_id
        """,
        PaymentAbandoned: "UPDATE payment SET status = 'abandoned', version = :version WHERE order_id = :order_id",
        RefundRequested: "UPDATE payment SET status = 'refunding', version = :version WHERE order_id = :order_id",
        PaymentRefunded: """
            UPDATE payment SET status = 'refunded', refunded_cents = :amount_cents, version = :version
            WHERE order_id = :order_id
        """,
        PaymentRecorded: _recorded,
    },
    never={
        "more was given back than captured": "SELECT * FROM payment WHERE refunded_cents > captured_cents",
    },
)


class PaymentRow(Struct, frozen=True):
    order_id: str
    status: str
    currency: str
    authorised_cents: int
    captured_cents: int
    refunded_cents: int
    decline_code: str | None
    version: int


class MethodTotal(Struct, frozen=True):
    method: str
    payments: int
    amount_cents: int


PAYMENT = Query(payments, "SELECT * FROM payment WHERE order_id = :order_id", PaymentRow, by_key=True)
PAYMENTS_OF_ORDERS = Query(
    payments, "SELECT * FROM payment WHERE order_id IN (SELECT value FROM json_each(:order_ids))", PaymentRow
)
METHOD_TOTALS = Query(
    payments,
    "SELECT method, count(*) AS payments, sum(amount_cents) AS amount_cents FROM payment_part"
    " GROUP BY method ORDER BY method",
    MethodTotal,
)
