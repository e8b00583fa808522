"""What the payment provider says, in an answer or by a webhook, and what that means to the payments."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from domains.payments.messages import ConfirmCharge, ConfirmRefund, DeclineCharge

CHARGE: Final = "charge-"
REFUND: Final = "refund-"
"""What the idempotency keys at the provider begin with; the order's id follows."""


class Operation(Struct, frozen=True):
    """What became of something that was asked: `status` is captured, declined, refunded or, as yet, pending."""

    id: str
    status: str
    amount_cents: int
    code: str = ""


class Undecided(Exception):
    """The provider has yet to decide."""


class Nonsense(Exception):
    """What no provider says about what it was asked."""


def meaning(key: str, made: Operation) -> ConfirmCharge | DeclineCharge | ConfirmRefund:
    """The command that tells the payments what was decided about what was asked under this key.

    Raises `Undecided`, `Nonsense`.
    """
    if made.status == "pending":
        raise Undecided
    if key.startswith(CHARGE) and made.status == "captured":
        return ConfirmCharge(key.removeprefix(CHARGE), made.id, made.amount_cents)
    if key.startswith(CHARGE) and made.status == "declined":
        return DeclineCharge(key.removeprefix(CHARGE), made.code or "declined")
    if key.startswith(REFUND) and made.status == "refunded":
        return ConfirmRefund(key.removeprefix(REFUND), made.id, made.amount_cents)
    raise Nonsense(f"{key[:80]} is said to be {made.status[:40]}")
