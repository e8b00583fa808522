"""An order as the API shows it: now, from its read models, or at any moment, from the commits up to then."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from gateway.problems import Problem
from projections.history import History, folded
from projections.order_detail import LINES, ORDER, LineRow, OrderRow, order_detail
from projections.payments import PAYMENT, PaymentRow, payments
from projections.projection import Recorded

VERSION_PATTERN = re.compile(r"\d{1,18}")


class Order(Struct, frozen=True):
    """An order with its lines and its payment. `shipment` is null until shipping exists."""

    order_id: str
    customer_id: str
    status: str
    version: int
    currency: str
    items_cents: int
    freight_cents: int
    total_cents: int
    captured_cents: int
    workflow: str
    lines: list[LineRow]
    payment: PaymentRow | None
    shipment: None
    reason: str | None
    placed_at: str
    reserved_at: str | None
    paid_at: str | None
    shipped_at: str | None
    delivered_at: str | None
    cancelled_at: str | None

    @property
    def tag(self) -> str:
        """What changes with every commit of the order or its payment: `<version>.<version of the payment>`."""
        return f"{self.version}.{self.payment.version if self.payment else 0}"


def order_of(row: OrderRow, lines: list[LineRow], payment: PaymentRow | None) -> Order:
    return Order(lines=lines, payment=payment, shipment=None, **msgspec.structs.asdict(row))


async def order_commits(history: History, order_id: str) -> tuple[list[Recorded], list[Recorded]]:
    """All commits of an order and of its payment. Raises as `History` does."""
    orders, payments = await asyncio.gather(
        history.of_aggregate("orders", order_id), history.of_aggregate("payments", order_id)
    )
    return orders, payments


def order_after(commits: Sequence[Recorded], of_payment: Sequence[Recorded]) -> Order | None:
    """The order that these commits of it and of its payment lead to; None before it was placed."""
    if not commits:
        return None
    order_id = commits[0].commit.aggregate
    with folded(order_detail, commits) as details, folded(payments, of_payment) as paid:
        row = details.one(ORDER, order_id=order_id)
        if row is None:
            return None
        return order_of(row, details.all(LINES, order_id=order_id), paid.one(PAYMENT, order_id=order_id))


def order_as_of(moment: int | datetime, commits: Sequence[Recorded], of_payment: Sequence[Recorded]) -> Order:
    """The order at one of its versions, with its payment as it then was, or at a business time.

    Raises `Problem` 404 when there was no such version, or no order yet.
    """
    if isinstance(moment, int):
        if not 1 <= moment <= len(commits):
            raise Problem(404, "version_unknown", f"the order has versions 1 to {len(commits)}", field="query:as_of")
        shown, at = list(commits[:moment]), commits[moment - 1].at
    else:
        shown, at = up_to(commits, moment), moment
    order = order_after(shown, up_to(of_payment, at))
    if order is None:
        raise Problem(404, "order_unknown", f"the order was not placed yet at {at:%Y-%m-%dT%H:%M:%S.%fZ}")
    return order


def up_to(commits: Sequence[Recorded], at: datetime) -> list[Recorded]:
    """The commits until the first that occurred later: what is left out is never followed by what is in."""
    later = next((index for index, recorded in enumerate(commits) if recorded.at > at), len(commits))
    return list(commits[:later])


def moment_of(as_of: str) -> int | datetime:
    """A version, or a time in RFC 3339. Raises `Problem` 422 for anything else."""
    if VERSION_PATTERN.fullmatch(as_of):
        return int(as_of)
    with suppress(msgspec.ValidationError):
        at = msgspec.convert(as_of, datetime)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    detail = "a version such as 3, or a time such as 2026-11-21T09:30:00Z (a + is written %2B)"
    raise Problem(422, "malformed", detail, field="query:as_of")
