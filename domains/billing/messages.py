"""The billing's public face: commands and events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.kernel import LINES_MAX, Cents, Currency, Id, Name, Quantity, Reason


class InvoiceLine(Struct, frozen=True):
    """Some units of one product at one price. `freight_cents` is for the whole line."""

    sku: Id
    name: Name
    quantity: Quantity
    unit_price_cents: Cents
    freight_cents: Cents


class DraftInvoice(Struct, frozen=True, tag=True):
    """Write down what an order will be billed, should it be paid."""

    order_id: Id
    customer_id: Id
    currency: Currency
    lines: Annotated[tuple[InvoiceLine, ...], Meta(max_length=LINES_MAX)]
    items_cents: Cents
    freight_cents: Cents
    total_cents: Cents


class IssueInvoice(Struct, frozen=True, tag=True):
    """The order was paid."""

    order_id: Id
    paid_cents: Cents


class CancelInvoice(Struct, frozen=True, tag=True):
    """The order came to nothing: drop the draft of its invoice, or credit the invoice in full."""

    order_id: Id
    reason: Reason


class InvoiceDrafted(Struct, frozen=True, tag=True):
    order_id: str
    customer_id: str
    currency: str
    lines: tuple[InvoiceLine, ...]
    items_cents: int
    freight_cents: int
    total_cents: int


class InvoiceDropped(Struct, frozen=True, tag=True):
    order_id: str


class InvoiceIssued(Struct, frozen=True, tag=True):
    order_id: str
    number: int
    paid_cents: int


class InvoiceCredited(Struct, frozen=True, tag=True):
    """`number` is the credit note's own."""

    order_id: str
    number: int
    reason: str


class NumberTaken(Struct, frozen=True, tag=True):
    """A document got the next number."""

    number: int
    order_id: str


BillingCommand = DraftInvoice | IssueInvoice | CancelInvoice
BillingEvent = InvoiceDrafted | InvoiceDropped | InvoiceIssued | InvoiceCredited | NumberTaken
