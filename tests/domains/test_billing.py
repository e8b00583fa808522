"""What billing decides over invoices and their numbers, and what it does about orders."""

from __future__ import annotations

from itertools import count

import hypothesis
import pytest
from msgspec.structs import replace

from domains.billing.invoice import NUMBERS, billing
from domains.billing.messages import (
    BillingCommand,
    BillingEvent,
    CancelInvoice,
    DraftInvoice,
    InvoiceCredited,
    InvoiceDrafted,
    InvoiceDropped,
    InvoiceIssued,
    InvoiceLine,
    IssueInvoice,
    NumberTaken,
)
from domains.billing.policy import react
from domains.orders.messages import OrderCancelled, OrderLine, OrderPaid, OrderPlaced
from tests.domains.lives import LIVES, lived
from tests.specification import Hosted, given

lines = (InvoiceLine("tea", "Tea", 2, 1_250, 300), InvoiceLine("cup", "Cup", 1, 800, 0))
draft = DraftInvoice("o1", "c1", "EUR", lines, 3_300, 300, 3_600)
issue = IssueInvoice("o1", 3_600)
cancel = CancelInvoice("o1", "no more")

drafted = InvoiceDrafted("o1", "c1", "EUR", lines, 3_300, 300, 3_600)

History = tuple[BillingEvent, ...]
DRAFTED: History = (drafted,)
DROPPED: History = (*DRAFTED, InvoiceDropped("o1"))
ISSUED: History = (*DRAFTED, InvoiceIssued("o1", 1, 3_600), NumberTaken(1, "o1"))
CREDITED: History = (*ISSUED, InvoiceCredited("o1", 2, "no more"), NumberTaken(2, "o1"))
OTHERS: History = (replace(drafted, order_id="o2"), InvoiceIssued("o2", 1, 3_600), NumberTaken(1, "o2"))


def after(*histories: History) -> pytest.MarkDecorator:
    """In each of the states that these lead to."""
    return pytest.mark.parametrize(
        "history", histories, ids=lambda history: type(given(billing, *history).state("o1")).__name__
    )


# -- the invoice -------------------------------------------------------------------------------------------------------


def test_a_placed_order_has_a_draft() -> None:
    given(billing).when(draft).then(drafted)


@after(DRAFTED, DROPPED, ISSUED, CREDITED)
def test_an_order_has_one_draft(history: History) -> None:
    given(billing, *history).when(draft).then()


def test_an_issued_invoice_has_the_first_number_and_takes_it() -> None:
    given(billing, *DRAFTED).when(issue).then(InvoiceIssued("o1", 1, 3_600), NumberTaken(1, "o1"))


def test_the_next_document_has_the_next_number_whatever_it_is() -> None:
    given(billing, *DRAFTED, *OTHERS).when(issue).then(InvoiceIssued("o1", 2, 3_600), NumberTaken(2, "o1"))
    given(billing, *ISSUED).when(cancel).then(InvoiceCredited("o1", 2, "no more"), NumberTaken(2, "o1"))


@after(ISSUED, CREDITED)
def test_issuing_again_takes_no_number(history: History) -> None:
    given(billing, *history).when(issue).then()


def test_a_draft_is_dropped_without_a_number() -> None:
    given(billing, *DRAFTED).when(cancel).then(InvoiceDropped("o1"))


@after(DROPPED, CREDITED)
def test_cancelling_again_takes_no_number(history: History) -> None:
    given(billing, *history).when(cancel).then()


def test_what_was_dropped_is_not_issued() -> None:
    given(billing, *DROPPED).when(issue).then_rejected("invoice_dropped")


@pytest.mark.parametrize("command", [issue, cancel], ids=["issue", "cancel"])
def test_without_a_draft_there_is_nothing_to_issue_or_cancel(command: BillingCommand) -> None:
    given(billing, *OTHERS).when(command).then_rejected("invoice_unknown")


@hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
@hypothesis.given(LIVES[billing])
def test_documents_are_numbered_without_a_gap_each_with_its_own(commands: list[BillingCommand]) -> None:
    expected = count(1)
    for _, events in lived(Hosted(billing), commands):
        documents = [event for event in events if isinstance(event, InvoiceIssued | InvoiceCredited)]
        taken = [event for event in events if isinstance(event, NumberTaken)]
        assert [(each.number, each.order_id) for each in documents] == [(each.number, each.order_id) for each in taken]
        for each in documents:
            assert each.number == next(expected)


def test_no_order_can_be_taken_for_the_numbers() -> None:
    assert ":" in NUMBERS  # Which no id may hold.


# -- the policy --------------------------------------------------------------------------------------------------------


def test_a_placed_order_is_drafted_with_what_it_says() -> None:
    of_order = (
        OrderLine("tea", "Tea", "drinks", quantity=2, unit_price_cents=1_250, freight_cents=300),
        OrderLine("cup", "Cup", "kitchen", quantity=1, unit_price_cents=800),
    )
    placed = OrderPlaced("o1", "c1", "EUR", of_order, 3, 3_300, 300, 3_600, "tok_ok", "orchestrated")
    assert react(placed) == [draft]


def test_a_paid_order_is_issued_with_what_was_captured() -> None:
    assert react(OrderPaid("o1", 3_500)) == [IssueInvoice("o1", 3_500)]


def test_a_cancelled_order_is_cancelled_for_its_reason() -> None:
    assert react(OrderCancelled("o1", "no more")) == [cancel]
