"""Invoices: what an order was billed, once it was paid, and whether that was credited since."""

from __future__ import annotations

import asyncio

import msgspec
from litestar import Response, get
from msgspec import Struct

from gateway.http.gate import AnyRequest, PathId, gate_of, is_known
from gateway.http.problems import Problem
from projections.invoices import INVOICE, INVOICE_LINES, InvoiceLineRow, invoices


class Invoice(Struct, frozen=True):
    """`number` counts invoices and credit notes without a gap; `credit_note` is the number of the one that took this
    invoice back in full."""

    order_id: str
    number: int
    status: str
    customer_id: str
    currency: str
    lines: list[InvoiceLineRow]
    items_cents: int
    freight_cents: int
    total_cents: int
    paid_cents: int
    issued_at: str
    credit_note: int | None
    credit_reason: str | None
    credited_at: str | None
    version: int


@get("/v1/invoices/{order_id:str}", tags=["invoices"])
async def get_invoice(request: AnyRequest, order_id: PathId) -> Response[Invoice | None]:
    """The invoice of an order that was paid."""
    gate = gate_of(request)
    headers = await gate.fresh(request, invoices)
    row, lines = await asyncio.gather(
        gate.reader.one(INVOICE, order_id=order_id), gate.reader.all(INVOICE_LINES, order_id=order_id)
    )
    if row is None or not (request.user.may("staff") or row.customer_id == request.user.subject):
        raise Problem(404, "invoice_unknown", f"order {order_id} was not billed")
    headers["ETag"] = f'"{row.version}"'
    if is_known(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    return Response(Invoice(lines=lines, **msgspec.structs.asdict(row)), headers=headers)


routes = [get_invoice]
