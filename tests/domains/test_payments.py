"""What the payment of an order decides: every command in every state."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.kernel import CENTS_MAX
from domains.payments.messages import (
    CancelPayment,
    ConfirmCharge,
    ConfirmRefund,
    DeclineCharge,
    PaymentAbandoned,
    PaymentCaptured,
    PaymentDeclined,
    PaymentEvent,
    PaymentPart,
    PaymentRecorded,
    PaymentRefunded,
    PaymentRequested,
    RecordPayment,
    RefundPayment,
    RefundRequested,
    RequestPayment,
)
from domains.payments.payment import payments
from tests.specification import given

request = RequestPayment("o1", "EUR", 3_650, "tok_ok")
confirm = ConfirmCharge("o1", "ch_1", 3_650)
decline = DeclineCharge("o1", "card_declined")
refund = RefundPayment("o1", "order_cancelled")
confirm_refund = ConfirmRefund("o1", "re_1", 3_650)
parts = (PaymentPart("voucher", 0, 650), PaymentPart("credit_card", 3, 3_000))
record = RecordPayment("o1", "EUR", parts)

requested = PaymentRequested("o1", "EUR", 3_650, "tok_ok")
captured = PaymentCaptured("o1", "ch_1", 3_650)
declined = PaymentDeclined("o1", "card_declined")
refunding = RefundRequested("o1", "ch_1", 3_650, "order_cancelled")
refunded = PaymentRefunded("o1", "re_1", 3_650)
recorded = PaymentRecorded("o1", "EUR", 3_650, parts)

History = tuple[PaymentEvent, ...]
REQUESTED: History = (requested,)
CAPTURED: History = (*REQUESTED, captured)
DECLINED: History = (*REQUESTED, declined)
REFUNDING: History = (*CAPTURED, refunding)
REFUNDED: History = (*REFUNDING, refunded)
RECORDED: History = (recorded,)


def after(*histories: History) -> pytest.MarkDecorator:
    """In each of the states that these lead to."""
    return pytest.mark.parametrize(
        "history", histories, ids=lambda history: type(given(payments, *history).state("o1")).__name__
    )


# -- asking, and recording what was paid elsewhere ---------------------------------------------------------------------


def test_a_payment_is_requested() -> None:
    given(payments).when(request).then(requested)


def test_the_payment_of_another_order_does_not_count() -> None:
    given(payments, replace(requested, order_id="o2")).when(request).then(requested)


@after(REQUESTED, CAPTURED, DECLINED, REFUNDING, REFUNDED)
def test_a_payment_is_requested_once(history: History) -> None:
    given(payments, *history).when(request).then()


@pytest.mark.parametrize(
    "other",
    [replace(request, amount_cents=1), replace(request, currency="USD"), replace(request, token="tok_other")],
    ids=["amount", "currency", "token"],
)
def test_something_else_cannot_be_requested_for_the_same_order(other: RequestPayment) -> None:
    given(payments, *REQUESTED).when(other).then_rejected("payment_differs")


def test_what_was_paid_elsewhere_is_not_requested_here() -> None:
    given(payments, *RECORDED).when(request).then_rejected("payment_recorded_elsewhere")


def test_a_payment_made_elsewhere_is_recorded_with_its_sum() -> None:
    given(payments).when(record).then(recorded)


def test_a_record_may_have_lost_its_parts() -> None:
    given(payments).when(replace(record, parts=())).then(replace(recorded, amount_cents=0, parts=()))


def test_a_record_may_be_of_the_most_that_money_counts() -> None:
    most = (PaymentPart("voucher", 0, CENTS_MAX - 1), PaymentPart("voucher", 0, 1))
    given(payments).when(replace(record, parts=most)).then(replace(recorded, amount_cents=CENTS_MAX, parts=most))


def test_a_record_beyond_that_is_too_large() -> None:
    too_much = (PaymentPart("voucher", 0, CENTS_MAX), PaymentPart("voucher", 0, 1))
    given(payments).when(replace(record, parts=too_much)).then_rejected("payment_too_large", "/parts")


def test_a_payment_is_recorded_once() -> None:
    given(payments, *RECORDED).when(record).then()
    given(payments, *RECORDED).when(replace(record, parts=parts[:1])).then_rejected("payment_differs")


@after(REQUESTED, CAPTURED, DECLINED, REFUNDING, REFUNDED)
def test_what_is_paid_here_is_not_recorded_as_paid_elsewhere(history: History) -> None:
    given(payments, *history).when(record).then_rejected("payment_requested_here")


@pytest.mark.parametrize("command", [confirm, decline, refund, confirm_refund], ids=lambda told: type(told).__name__)
def test_nothing_can_be_done_about_what_was_not_asked_for(
    command: ConfirmCharge | DeclineCharge | RefundPayment | ConfirmRefund,
) -> None:
    given(payments, replace(requested, order_id="o2")).when(command).then_rejected("payment_unknown")


@pytest.mark.parametrize("command", [confirm, decline, refund, confirm_refund], ids=lambda told: type(told).__name__)
def test_nothing_can_be_done_here_about_what_was_paid_elsewhere(
    command: ConfirmCharge | DeclineCharge | RefundPayment | ConfirmRefund,
) -> None:
    given(payments, *RECORDED).when(command).then_rejected("payment_recorded_elsewhere")


# -- charging ----------------------------------------------------------------------------------------------------------


def test_what_was_asked_is_captured() -> None:
    given(payments, *REQUESTED).when(confirm).then(captured)


@pytest.mark.parametrize("amount_cents", [0, 3_649, 3_651])
def test_neither_more_nor_less_than_was_asked_is_captured(amount_cents: int) -> None:
    other = replace(confirm, amount_cents=amount_cents)
    given(payments, *REQUESTED).when(other).then_rejected("charge_differs", "/amount_cents")


def test_a_second_charge_is_not_taken_for_the_first() -> None:
    second = replace(confirm, charge_id="ch_2")
    given(payments, *CAPTURED).when(second).then_rejected("charge_differs", "/charge_id")


@after(CAPTURED, REFUNDING, REFUNDED)
def test_capturing_again_changes_nothing(history: History) -> None:
    given(payments, *history).when(confirm).then()


def test_what_was_declined_is_not_captured() -> None:
    given(payments, *DECLINED).when(confirm).then_rejected("payment_declined")


def test_a_charge_is_declined() -> None:
    given(payments, *REQUESTED).when(decline).then(declined)


def test_declining_again_changes_nothing() -> None:
    given(payments, *DECLINED).when(decline).then()


@after(CAPTURED, REFUNDING, REFUNDED)
def test_what_was_captured_is_not_declined(history: History) -> None:
    given(payments, *history).when(decline).then_rejected("payment_captured")


# -- when nothing is to be paid any more -------------------------------------------------------------------------------


cancel = CancelPayment("o1", "order_cancelled")
abandoned = PaymentAbandoned("o1", "order_cancelled")
ABANDONED: History = (*REQUESTED, abandoned)


def test_what_was_captured_for_nothing_is_given_back() -> None:
    given(payments, *CAPTURED).when(cancel).then(refunding)


def test_of_what_was_asked_for_the_answer_is_waited_for_and_given_back() -> None:
    given(payments, *REQUESTED).when(cancel).then(abandoned)
    given(payments, *ABANDONED).when(confirm).then(captured, refunding)
    given(payments, *ABANDONED).when(decline).then(declined)
    other = replace(confirm, amount_cents=1)
    given(payments, *ABANDONED).when(other).then_rejected("charge_differs", "/amount_cents")


@after((), ABANDONED, DECLINED, REFUNDING, REFUNDED)
def test_else_there_is_nothing_to_be_done(history: History) -> None:
    given(payments, *history).when(cancel).then()


def test_what_was_paid_elsewhere_is_not_given_back_here() -> None:
    given(payments, *RECORDED).when(cancel).then_rejected("payment_recorded_elsewhere")


# -- refunding ---------------------------------------------------------------------------------------------------------


def test_a_refund_is_of_all_that_was_captured() -> None:
    given(payments, *CAPTURED).when(refund).then(refunding)
    less = replace(captured, amount_cents=3_000)
    given(payments, *REQUESTED, less).when(refund).then(replace(refunding, amount_cents=3_000))


@after(REFUNDING, REFUNDED)
def test_asking_for_the_refund_again_changes_nothing(history: History) -> None:
    given(payments, *history).when(refund).then()


@after(REQUESTED, DECLINED)
def test_what_was_not_captured_is_not_refunded(history: History) -> None:
    given(payments, *history).when(refund).then_rejected("nothing_to_refund")


def test_a_second_refund_is_not_taken_for_the_first() -> None:
    second = replace(confirm_refund, refund_id="re_2")
    given(payments, *REFUNDED).when(second).then_rejected("refund_differs", "/refund_id")


def test_a_refund_is_confirmed() -> None:
    given(payments, *REFUNDING).when(confirm_refund).then(refunded)


@pytest.mark.parametrize("amount_cents", [3_649, 3_651])
def test_a_refund_of_another_amount_is_not(amount_cents: int) -> None:
    other = replace(confirm_refund, amount_cents=amount_cents)
    given(payments, *REFUNDING).when(other).then_rejected("refund_differs", "/amount_cents")


def test_confirming_the_refund_again_changes_nothing() -> None:
    given(payments, *REFUNDED).when(confirm_refund).then()


@after(REQUESTED, CAPTURED, DECLINED)
def test_a_refund_that_nobody_asked_for_is_not_confirmed(history: History) -> None:
    given(payments, *history).when(confirm_refund).then_rejected("nothing_to_refund")
