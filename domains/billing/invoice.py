"""An invoice an order, and the one sequence that numbers invoices and credit notes alike, without a gap.

Issuing is one unit of work over the invoice and the sequence: the number is taken and used in the same commit group, or
neither. What is refused, repeated or lost with a crash takes none. So billing has one partition, and the sequence is
touched by every document of it, which an engine decides as fast as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct

from domains.billing.messages import (
    BillingCommand,
    BillingEvent,
    CancelInvoice,
    DraftInvoice,
    InvoiceCredited,
    InvoiceDrafted,
    InvoiceDropped,
    InvoiceIssued,
    IssueInvoice,
    NumberTaken,
)
from domains.kernel import Domain, Rejected

NUMBERS = "numbers:documents"
"""The sequence's name, which no order's id can be."""


class Numbers(Struct, frozen=True, tag=True):
    """How far the documents are numbered."""

    last: int = 0


class Absent(Struct, frozen=True, tag=True): ...


class Drafted(Struct, frozen=True, tag=True): ...


class Dropped(Struct, frozen=True, tag=True): ...


class Issued(Struct, frozen=True, tag=True): ...


class Credited(Struct, frozen=True, tag=True): ...


Invoice = Absent | Drafted | Dropped | Issued | Credited
Billing = Numbers | Invoice


def targets(command: BillingCommand) -> tuple[str, ...]:
    match command:
        case DraftInvoice():
            return (command.order_id,)
        case IssueInvoice() | CancelInvoice():
            return command.order_id, NUMBERS
        case _:
            assert_never(command)


def owner(event: BillingEvent) -> str:
    return NUMBERS if isinstance(event, NumberTaken) else event.order_id


def initial(aggregate: str) -> Billing:
    return Numbers() if aggregate == NUMBERS else Absent()


def decide(states: Mapping[str, Billing], command: BillingCommand) -> list[BillingEvent]:
    match command, states[command.order_id]:
        case DraftInvoice(), Absent():
            return [
                InvoiceDrafted(
                    order_id=command.order_id,
                    customer_id=command.customer_id,
                    currency=command.currency,
                    lines=command.lines,
                    items_cents=command.items_cents,
                    freight_cents=command.freight_cents,
                    total_cents=command.total_cents,
                )
            ]
        case DraftInvoice(), _:
            return []
        case IssueInvoice(order_id, paid_cents), Drafted():
            number = _next(states)
            return [InvoiceIssued(order_id, number, paid_cents), NumberTaken(number, order_id)]
        case IssueInvoice(), Issued() | Credited():
            return []
        case IssueInvoice(order_id), Dropped():
            raise Rejected("invoice_dropped", f"order {order_id} was cancelled before it was paid")
        case CancelInvoice(order_id), Drafted():
            return [InvoiceDropped(order_id)]
        case CancelInvoice(order_id, reason), Issued():
            number = _next(states)
            return [InvoiceCredited(order_id, number, reason), NumberTaken(number, order_id)]
        case CancelInvoice(), Dropped() | Credited():
            return []
        case ((IssueInvoice() | CancelInvoice()), _):
            raise Rejected("invoice_unknown", f"no invoice of order {command.order_id} was drafted")
        case _:
            assert_never(command)


def evolve(state: Billing, event: BillingEvent) -> Billing:
    match event:
        case InvoiceDrafted():
            return Drafted()
        case InvoiceDropped():
            return Dropped()
        case InvoiceIssued():
            return Issued()
        case InvoiceCredited():
            return Credited()
        case NumberTaken(number):
            return Numbers(number)
        case _:
            assert_never(event)


def _next(states: Mapping[str, Billing]) -> int:
    numbers = states[NUMBERS]
    return numbers.last + 1 if isinstance(numbers, Numbers) else 1


billing: Domain[Billing, BillingCommand, BillingEvent] = Domain(
    name="billing",
    commands=(DraftInvoice, IssueInvoice, CancelInvoice),
    events=(InvoiceDrafted, InvoiceDropped, InvoiceIssued, InvoiceCredited, NumberTaken),
    states=(Numbers, Absent, Drafted, Dropped, Issued, Credited),
    targets=targets,
    owner=owner,
    initial=initial,
    decide=decide,
    evolve=evolve,
)
