"""The payment of one order: requested, captured or declined, perhaps refunded. What is captured is what was asked."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.kernel import CENTS_MAX, Decider, Rejected, hosted
from domains.payments.messages import (
    CancelPayment,
    ConfirmCharge,
    ConfirmRefund,
    DeclineCharge,
    PaymentAbandoned,
    PaymentCaptured,
    PaymentCommand,
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


class Unasked(Struct, frozen=True, tag=True): ...


class Requested(Struct, frozen=True, tag=True):
    currency: str
    amount_cents: int
    token: str


class Captured(Struct, frozen=True, tag=True):
    charge_id: str
    amount_cents: int


class Declined(Struct, frozen=True, tag=True): ...


class Abandoned(Struct, frozen=True, tag=True):
    """The provider has still to answer, and what it took is given back then."""

    amount_cents: int
    reason: str


class Refunding(Struct, frozen=True, tag=True):
    amount_cents: int


class Refunded(Struct, frozen=True, tag=True):
    refund_id: str


class Recorded(Struct, frozen=True, tag=True):
    currency: str
    parts: tuple[PaymentPart, ...]


Payment = Unasked | Requested | Captured | Declined | Abandoned | Refunding | Refunded | Recorded


def decide(payment: Payment, command: PaymentCommand) -> list[PaymentEvent]:
    match command, payment:
        case RequestPayment(order_id, currency, amount_cents, token), Unasked():
            return [PaymentRequested(order_id, currency, amount_cents, token)]
        case RecordPayment(order_id, currency, parts), Unasked():
            amount_cents = sum(part.amount_cents for part in parts)
            if amount_cents > CENTS_MAX:
                raise Rejected("payment_too_large", f"a payment is at most {CENTS_MAX} cents", "/parts")
            return [PaymentRecorded(order_id, currency, amount_cents, parts)]
        case RequestPayment(_, currency, amount_cents, token), Requested():
            if payment != Requested(currency, amount_cents, token):
                raise Rejected("payment_differs", f"something else was asked for order {command.order_id} before")
            return []
        case RecordPayment(_, currency, parts), Recorded():
            if payment != Recorded(currency, parts):
                raise Rejected("payment_differs", f"another payment of order {command.order_id} was recorded before")
            return []
        case CancelPayment(), Unasked() | Declined() | Abandoned() | Refunding() | Refunded():
            return []
        case _, Recorded():
            raise Rejected("payment_recorded_elsewhere", f"order {command.order_id} was paid elsewhere")
        case _, Unasked():
            raise Rejected("payment_unknown", f"nothing was asked for order {command.order_id}")
        case RecordPayment(), _:
            raise Rejected("payment_requested_here", f"order {command.order_id} is paid here")
        case RequestPayment(), _:
            return []  # Asked, and answered since.
        case ConfirmCharge(order_id, charge_id, amount_cents), Requested(_, asked_cents):
            if amount_cents != asked_cents:
                raise Rejected("charge_differs", f"{amount_cents} captured, {asked_cents} asked", "/amount_cents")
            return [PaymentCaptured(order_id, charge_id, amount_cents)]
        case ConfirmCharge(order_id, charge_id, amount_cents), Abandoned(asked_cents, reason):
            if amount_cents != asked_cents:
                raise Rejected("charge_differs", f"{amount_cents} captured, {asked_cents} asked", "/amount_cents")
            refund = RefundRequested(order_id, charge_id, amount_cents, reason)
            return [PaymentCaptured(order_id, charge_id, amount_cents), refund]
        case ConfirmCharge(_, charge_id), Captured(captured_id):
            if charge_id != captured_id:
                raise Rejected("charge_differs", f"charge {captured_id} was captured before", "/charge_id")
            return []
        case ConfirmCharge(), Declined():
            raise Rejected("payment_declined", f"the charge for order {command.order_id} was declined before")
        case ConfirmCharge(), _:
            return []
        case DeclineCharge(order_id, code), Requested() | Abandoned():
            return [PaymentDeclined(order_id, code)]
        case DeclineCharge(), Declined():
            return []
        case DeclineCharge(), _:
            raise Rejected("payment_captured", f"the charge for order {command.order_id} was captured before")
        case CancelPayment(order_id, reason), Requested():
            return [PaymentAbandoned(order_id, reason)]
        case ((RefundPayment() | CancelPayment()), Captured(charge_id, amount_cents)):
            return [RefundRequested(command.order_id, charge_id, amount_cents, command.reason)]
        case RefundPayment(), Refunding() | Refunded():
            return []
        case ConfirmRefund(order_id, refund_id, amount_cents), Refunding(due_cents):
            if amount_cents != due_cents:
                raise Rejected("refund_differs", f"{amount_cents} refunded, {due_cents} due", "/amount_cents")
            return [PaymentRefunded(order_id, refund_id, amount_cents)]
        case ConfirmRefund(_, refund_id), Refunded(refunded_id):
            if refund_id != refunded_id:
                raise Rejected("refund_differs", f"refund {refunded_id} was made before", "/refund_id")
            return []
        case ((RefundPayment() | CancelPayment() | ConfirmRefund()), _):
            raise Rejected("nothing_to_refund", f"nothing was captured for order {command.order_id}")
        case _:
            assert_never(command)


def evolve(payment: Payment, event: PaymentEvent) -> Payment:
    match event:
        case PaymentRequested(currency=currency, amount_cents=amount_cents, token=token):
            return Requested(currency, amount_cents, token)
        case PaymentCaptured(charge_id=charge_id, amount_cents=amount_cents):
            return Captured(charge_id, amount_cents)
        case PaymentDeclined():
            return Declined()
        case PaymentAbandoned(reason=reason):
            return Abandoned(payment.amount_cents if isinstance(payment, Requested) else 0, reason)
        case RefundRequested(amount_cents=amount_cents):
            return Refunding(amount_cents)
        case PaymentRefunded(refund_id=refund_id):
            return Refunded(refund_id)
        case PaymentRecorded(currency=currency, parts=parts):
            return Recorded(currency, parts)
        case _:
            assert_never(event)


payment: Decider[Payment, PaymentCommand, PaymentEvent] = Decider("payments", Unasked(), decide, evolve)

payments = hosted(
    payment,
    commands=(RequestPayment, ConfirmCharge, DeclineCharge, RefundPayment, CancelPayment, ConfirmRefund, RecordPayment),
    events=(
        PaymentRequested,
        PaymentCaptured,
        PaymentDeclined,
        PaymentAbandoned,
        RefundRequested,
        PaymentRefunded,
        PaymentRecorded,
    ),
    states=(Unasked, Requested, Captured, Declined, Abandoned, Refunding, Refunded, Recorded),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
)
