"""The books: balanced whatever became of each order, and every planted difference is found and named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import Struct

from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderLine,
    PlaceOrder,
    ShipOrder,
)
from domains.payments.messages import ConfirmCharge, ConfirmRefund, DeclineCharge, RefundPayment, RequestPayment
from domains.shipping.messages import (
    CancelPickup,
    ConfirmCancellation,
    ConfirmPickup,
    RecordDelivery,
    SchedulePickup,
    ShipmentItem,
)
from projections.books import discrepancies
from projections.files import ReadModelFiles
from projections.reader import ReadModelMissing
from tests.importing.shop import Shop

AT = datetime(2026, 11, 21, tzinfo=UTC)
LINES = (OrderLine("tea", "Tea", "drinks", quantity=1, unit_price_cents=100),)


def life(end: str) -> list[Struct]:
    """What happened to an order that is called as it ended, or as far as it came."""
    confirm, request = ConfirmReservation(end), RequestPayment(end, "EUR", 100, "tok_ok")
    charge, paid = ConfirmCharge(end, "ch", 100), ConfirmPayment(end, 100)
    schedule = SchedulePickup(end, (ShipmentItem("tea", 1),), "ship_ok")
    pick_up, ship = ConfirmPickup(end, "pu"), ShipOrder(end)
    cancel = CancelOrder(end, "r")
    back = [CancelPickup(end, "r"), ConfirmCancellation(end), RefundPayment(end, "r"), ConfirmRefund(end, "re", 100)]
    to_paid: list[Struct] = [PlaceOrder(end, "c1", "EUR", LINES), confirm, request, charge, paid, schedule]
    lives: dict[str, list[Struct]] = {
        "placed": to_paid[:1],
        "reserved": to_paid[:3],
        "declined": [*to_paid[:3], DeclineCharge(end, "no"), cancel],
        "paid": to_paid,
        "shipped": [*to_paid, pick_up, ship],
        "delivered": [*to_paid, pick_up, ship, RecordDelivery(end), DeliverOrder(end)],
        "cancelled": [*to_paid, cancel, *back],
        "late": [*to_paid[:3], cancel, charge, *back[2:]],
        "recorded": [PlaceOrder(end, "c1", "EUR", LINES, workflow="recorded"), confirm, paid],
    }
    return lives[end]


ENDS = ("placed", "reserved", "declined", "paid", "shipped", "delivered", "cancelled", "late", "recorded")


@pytest.fixture
def files(tmp_path: Path) -> ReadModelFiles:
    shop = Shop()
    for end in ENDS:
        for number, command in enumerate(life(end)):
            shop.handle(command, f"{end}-{number}", AT)
    return shop.write(tmp_path)


def test_whatever_becomes_of_orders_the_books_are_balanced(files: ReadModelFiles) -> None:
    assert discrepancies(files) == []


@pytest.mark.parametrize(
    ("model", "planted", "order_id", "wrong"),
    [
        ("payments", "UPDATE payment SET refunded_cents = 99", "cancelled", "its money was not given back"),
        ("payments", "UPDATE payment SET captured_cents = 100", "declined", "its money was not given back"),
        ("payments", "UPDATE payment SET refunded_cents = 100", "shipped", "its money was given back"),
        ("payments", "UPDATE payment SET captured_cents = 99", "delivered", "was paid otherwise"),
        ("payments", "DELETE FROM payment", "paid", "was paid otherwise"),
        ("payments", "UPDATE payment SET captured_cents = 100", "reserved", "does not know that it was paid"),
        ("shipments", "UPDATE shipment SET status = 'recalled'", "cancelled", "its goods are away"),
        ("shipments", "UPDATE shipment SET status = 'picked_up'", "paid", "does not know that its goods are away"),
        ("shipments", "UPDATE shipment SET status = 'delivered'", "shipped", "does not know that it was delivered"),
    ],
)
def test_each_that_is_not_is_named(files: ReadModelFiles, model: str, planted: str, order_id: str, wrong: str) -> None:
    path = files.live(model)
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute(f"{planted} WHERE order_id = ?", (order_id,)).rowcount == 1
    assert [(one.order_id, one.wrong) for one in discrepancies(files)] == [(order_id, wrong)]


def test_read_models_that_are_not_built_yet_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReadModelMissing, match="order_detail"):
        discrepancies(ReadModelFiles(tmp_path))
