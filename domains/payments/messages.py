"""The payments' public face: commands and events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.kernel import Cents, Currency, Id, Name, Reason

PARTS_MAX = 100


class PaymentPart(Struct, frozen=True):
    """One of the ways in which an order was paid."""

    method: Name
    instalments: Annotated[int, Meta(ge=0, le=1_000)]
    amount_cents: Cents


PaymentParts = Annotated[tuple[PaymentPart, ...], Meta(max_length=PARTS_MAX)]


class RequestPayment(Struct, frozen=True, tag=True):
    order_id: Id
    currency: Currency
    amount_cents: Cents
    token: Id


class ConfirmCharge(Struct, frozen=True, tag=True):
    """The provider took the money."""

    order_id: Id
    charge_id: Id
    amount_cents: Cents


class DeclineCharge(Struct, frozen=True, tag=True):
    """The provider refused, for good."""

    order_id: Id
    code: Id


class RefundPayment(Struct, frozen=True, tag=True):
    order_id: Id
    reason: Reason


class CancelPayment(Struct, frozen=True, tag=True):
    """Nothing is to be paid any more: what was captured is given back, and what is captured yet as soon as it is."""

    order_id: Id
    reason: Reason


class ConfirmRefund(Struct, frozen=True, tag=True):
    order_id: Id
    refund_id: Id
    amount_cents: Cents


class RecordPayment(Struct, frozen=True, tag=True):
    """A payment that was made elsewhere, as it was: nobody is charged."""

    order_id: Id
    currency: Currency
    parts: PaymentParts


class PaymentRequested(Struct, frozen=True, tag=True):
    order_id: str
    currency: str
    amount_cents: int
    token: str


class PaymentCaptured(Struct, frozen=True, tag=True):
    order_id: str
    charge_id: str
    amount_cents: int


class PaymentDeclined(Struct, frozen=True, tag=True):
    order_id: str
    code: str


class PaymentAbandoned(Struct, frozen=True, tag=True):
    """Nobody wants the money any more for which the provider was asked."""

    order_id: str
    reason: str


class RefundRequested(Struct, frozen=True, tag=True):
    order_id: str
    charge_id: str
    amount_cents: int
    reason: str


class PaymentRefunded(Struct, frozen=True, tag=True):
    order_id: str
    refund_id: str
    amount_cents: int


class PaymentRecorded(Struct, frozen=True, tag=True):
    order_id: str
    currency: str
    amount_cents: int
    parts: tuple[PaymentPart, ...]


PaymentCommand = (
    RequestPayment | ConfirmCharge | DeclineCharge | RefundPayment | CancelPayment | ConfirmRefund | RecordPayment
)
PaymentEvent = (
    PaymentRequested
    | PaymentCaptured
    | PaymentDeclined
    | PaymentAbandoned
    | RefundRequested
    | PaymentRefunded
    | PaymentRecorded
)
