"""An order as the API shows it: now, from its read models, or at any moment, from the commits up to then."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateway.http.problems import Problem
from projections.history import History, folded
from projections.order_detail import LINES, ORDER, LineRow, OrderRow, order_detail
from projections.page import Page
from projections.payments import PAYMENT, PaymentRow, payments
from projections.projection import Recorded
from projections.shipments import SHIPMENT, ShipmentRow, shipments

VERSION_PATTERN = re.compile(r"\d{1,18}")


class Order(Struct, frozen=True):
    """An order with its lines, its payment and its shipment."""

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
    shipment: ShipmentRow | None
    reason: str | None
    placed_at: str
    reserved_at: str | None
    paid_at: str | None
    shipped_at: str | None
    delivered_at: str | None
    cancelled_at: str | None

    @property
    def tag(self) -> str:
        """What changes with every commit that the page shows: `<version>.<of the payment>.<of the shipment>`."""
        payment, shipment = (part.version if part else 0 for part in (self.payment, self.shipment))
        return f"{self.version}.{payment}.{shipment}"


class OrderCommits(NamedTuple):
    """All commits that an order's page shows, by their log."""

    orders: Sequence[Recorded]
    payments: Sequence[Recorded]
    shipping: Sequence[Recorded]


class PlacedOrder(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    version: int
    currency: str
    items_cents: int
    freight_cents: int
    total_cents: int


SHOWN_LOGS = OrderCommits._fields
ORDER_PAGE = Page("order_id", ORDER, LINES, PAYMENT, SHIPMENT)


def order_of(row: OrderRow, lines: list[LineRow], payment: PaymentRow | None, shipment: ShipmentRow | None) -> Order:
    return Order(lines=lines, payment=payment, shipment=shipment, **msgspec.structs.asdict(row))


async def order_commits(history: History, order_id: str) -> OrderCommits:
    """Of one order. Raises as `History` does."""
    return OrderCommits(*await asyncio.gather(*(history.of_aggregate(log, order_id) for log in SHOWN_LOGS)))


def order_after(commits: OrderCommits) -> Order | None:
    """The order that these commits lead to; None before it was placed."""
    if not commits.orders:
        return None
    order_id = commits.orders[0].commit.aggregate
    with (
        folded(order_detail, commits.orders) as details,
        folded(payments, commits.payments) as paid,
        folded(shipments, commits.shipping) as shipped,
    ):
        row = details.one(ORDER, order_id=order_id)
        if row is None:
            return None
        lines = details.all(LINES, order_id=order_id)
        return order_of(row, lines, paid.one(PAYMENT, order_id=order_id), shipped.one(SHIPMENT, order_id=order_id))


def order_as_of(moment: int | datetime, all_commits: OrderCommits) -> Order:
    """The order at one of its versions, with payment and shipment as they then were, or at a business time.

    Raises `Problem` 404 when there was no such version, or no order yet.
    """
    commits = all_commits.orders
    if isinstance(moment, int):
        if not 1 <= moment <= len(commits):
            raise Problem(404, "version_unknown", f"the order has versions 1 to {len(commits)}", field="query:as_of")
        shown, at = list(commits[:moment]), commits[moment - 1].at
    else:
        shown, at = up_to(commits, moment), moment
    order = order_after(OrderCommits(shown, up_to(all_commits.payments, at), up_to(all_commits.shipping, at)))
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
