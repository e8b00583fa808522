"""The books: what must be true of orders, their stock and their money once nothing is under way any more."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

from projections.books import discrepancies
from projections.files import ReadModelFiles
from tests.system import Json, Shop

KEPT = {"paid": "scheduled", "shipped": "picked_up", "delivered": "delivered"}
"""In which orders the money is ours, and where the goods are then."""


def orders_of(shop: Shop, customer_id: str) -> list[Json]:
    """Every order of a customer, with lines and payment."""
    found: list[Json] = []
    query = {"customer_id": customer_id, "limit": "200"}
    url: str | None = str(shop.http.build_request("GET", "/v1/orders", params=query).url)
    while url:
        page = shop.http.get(url)
        assert page.status_code == 200, page.text
        found += [shop.order(summary["order_id"]) for summary in page.json()["items"]]
        url = page.links.get("next", {}).get("url")
    return found


def balanced(shop: Shop, *customers: str) -> list[Json]:
    """The orders of these customers, or of `customer-1`, once all is quiet. Each is settled or waits for the carrier,
    the shelves of its products (nobody else's) hold what came in and was not shipped, and the ledgers of provider and
    carrier equal the payments and shipments of everybody."""
    shop.system.quiet()
    shop.caught_up()
    customers = customers or ("customer-1",)
    orders = [order for customer_id in customers for order in orders_of(shop, customer_id)]
    owed: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for order in orders:
        payment: dict[str, Any] = order["payment"] or {"status": "", "captured_cents": 0, "refunded_cents": 0}
        shipment: str = (order["shipment"] or {"status": ""})["status"]
        if order["status"] in KEPT:
            assert (payment["status"], payment["captured_cents"]) == ("captured", order["total_cents"]), order
            assert order["captured_cents"] == order["total_cents"], order
            assert shipment == KEPT[order["status"]], order
            for line in order["lines"]:
                (owed if order["status"] == "paid" else gone)[line["sku"]] += line["quantity"]
        else:
            assert order["status"] == "cancelled", order
            assert payment["status"] in ("", "declined", "refunded"), order
            assert payment["captured_cents"] == payment["refunded_cents"], order
            assert shipment in ("", "refused", "cancelled"), order
    received = _received(shop)
    for sku in {line["sku"] for order in orders for line in order["lines"]}:
        on_hand, reserved, available = shop.stock(sku)
        assert (on_hand, reserved) == (received[sku] - gone[sku], owed[sku]), sku
        assert available == on_hand - reserved >= 0, sku
    ledger = shop.system.ledger()
    assert (ledger["captured_cents"], ledger["refunded_cents"], ledger["charges"]) == _payments(shop)
    parcels = shop.system.parcels()
    assert (parcels["picked_up"] + parcels["scheduled"], parcels["refused"], parcels["cancelled"]) == _shipments(shop)
    assert discrepancies(ReadModelFiles(shop.system.settings.read_models)) == []
    _billed(shop, orders)
    points: Counter[str] = Counter()
    for order in orders:
        if order["status"] in KEPT:
            points[order["customer_id"]] += order["captured_cents"] // 100
    for customer_id in customers:
        assert shop.http.get(f"/v1/loyalty/{customer_id}").json()["points"] == points[customer_id], customer_id
    return orders


def _received(shop: Shop) -> Counter[str]:
    """Units that ever came in, by SKU."""
    received: Counter[str] = Counter()
    for commit in shop.system.inside.commits("inventory"):
        for event in commit.events:
            if event["type"] == "StockReceived":
                received[event["sku"]] += event["quantity"]
    return received


def _billed(shop: Shop, orders: list[Json]) -> None:
    """Each order that was ever paid has an invoice, credited where it was cancelled; nothing else has. All documents
    there are have the numbers from 1 on."""
    events = [event for commit in shop.system.inside.commits("billing") for event in commit.events]
    issued = {event["order_id"]: event["number"] for event in events if event["type"] == "InvoiceIssued"}
    credited = {event["order_id"]: event["number"] for event in events if event["type"] == "InvoiceCredited"}
    numbers = sorted([*issued.values(), *credited.values()])
    assert numbers == list(range(1, len(numbers) + 1))
    for order in orders:
        was_paid, is_cancelled = order["paid_at"] is not None, order["status"] == "cancelled"
        assert (order["order_id"] in issued, order["order_id"] in credited) == (was_paid, was_paid and is_cancelled)


def _payments(shop: Shop) -> tuple[int, int, int]:
    """Captured, refunded and how many charges, of the whole read model."""
    sums = "SELECT sum(captured_cents), sum(refunded_cents), sum(captured_cents > 0) FROM payment"
    captured, refunded, charges = _asked(shop, "payments", sums)
    return captured or 0, refunded or 0, charges or 0


def _shipments(shop: Shop) -> tuple[int, ...]:
    """Taken by the carrier, refused by it, called off, of the whole read model."""
    counts = """
        SELECT count(CASE WHEN status IN ('scheduled', 'picked_up', 'delivered') THEN 1 END),
            count(CASE WHEN status = 'refused' THEN 1 END), count(CASE WHEN status = 'cancelled' THEN 1 END)
        FROM shipment
    """
    return _asked(shop, "shipments", counts)


def _asked(shop: Shop, model: str, sql: str) -> tuple[int, ...]:
    live = ReadModelFiles(shop.system.settings.read_models).live(model)
    assert live is not None
    with closing(sqlite3.connect(f"{live.as_uri()}?mode=ro", uri=True)) as database:
        row: tuple[int, ...] = database.execute(sql).fetchone()
    return row
