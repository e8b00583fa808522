"""The invoices: what was billed for each order, and credited. A draft is here, too, without a number."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from domains.billing.messages import InvoiceCredited, InvoiceDrafted, InvoiceDropped, InvoiceIssued
from projections.projection import Fact, Projection, Statement, bound
from projections.reader import Query

_DRAFT = """
INSERT INTO invoice VALUES (
    :order_id, NULL, 'drafted', :customer_id, :currency, :items_cents, :freight_cents, :total_cents, 0, NULL, NULL,
    NULL, NULL, :version
)
"""
_LINE = "INSERT INTO invoice_line VALUES (:order_id, :line, :sku, :name, :quantity, :unit_price_cents, :freight_cents)"


def _drafted(fact: Fact) -> Iterable[Statement]:
    drafted = fact.event
    assert isinstance(drafted, InvoiceDrafted)
    yield bound(_DRAFT, fact)
    for number, line in enumerate(drafted.lines):
        yield (
            _LINE,
            {
                "order_id": drafted.order_id,
                "line": number,
                "sku": line.sku,
                "name": line.name,
                "quantity": line.quantity,
                "unit_price_cents": line.unit_price_cents,
                "freight_cents": line.freight_cents,
            },
        )


invoices = Projection(
    name="invoices",
    version=1,
    stream="billing",
    key="order_id",
    schema="""
    CREATE TABLE invoice (
        order_id TEXT PRIMARY KEY, number INTEGER, status TEXT NOT NULL, customer_id TEXT NOT NULL,
        currency TEXT NOT NULL, items_cents INTEGER NOT NULL, freight_cents INTEGER NOT NULL,
        total_cents INTEGER NOT NULL, paid_cents INTEGER NOT NULL, issued_at TEXT, credit_note INTEGER,
        credit_reason TEXT, credited_at TEXT, version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE invoice_line (
        order_id TEXT NOT NULL, line INTEGER NOT NULL, sku TEXT NOT NULL, name TEXT NOT NULL,
        quantity INTEGER NOT NULL, unit_price_cents INTEGER NOT NULL, freight_cents INTEGER NOT NULL,
        PRIMARY KEY (order_id, line)
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        InvoiceDrafted: _drafted,
        InvoiceDropped: "UPDATE invoice SET status = 'dropped', version = :version WHERE order_id = :order_id",
        InvoiceIssued: """
            UPDATE invoice SET status = 'issued', number = :number, paid_cents = :paid_cents, issued_at = :at,
                version = :version
            WHERE order_id = :order_id
        """,
        InvoiceCredited: """
            UPDATE invoice SET status = 'credited', credit_note = :number, credit_reason = :reason, credited_at = :at,
                version = :version
            WHERE order_id = :order_id
        """,
    },
)


class InvoiceRow(Struct, frozen=True):
    order_id: str
    number: int
    status: str
    customer_id: str
    currency: str
    items_cents: int
    freight_cents: int
    total_cents: int
    paid_cents: int
    issued_at: str
    credit_note: int | None
    credit_reason: str | None
    credited_at: str | None
    version: int


class InvoiceLineRow(Struct, frozen=True):
    sku: str
    name: str
    quantity: int
    unit_price_cents: int
    freight_cents: int


INVOICE = Query(
    invoices, "SELECT * FROM invoice WHERE order_id = :order_id AND number IS NOT NULL", InvoiceRow, by_key=True
)
"""What was issued: a draft is nobody's business."""
INVOICE_LINES = Query(
    invoices,
    "SELECT sku, name, quantity, unit_price_cents, freight_cents FROM invoice_line"
    " WHERE order_id = :order_id ORDER BY line",
    InvoiceLineRow,
    by_key=True,
)
