"""Invoices over HTTP: one a paid order, credited when it is cancelled, none for what came to nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import HELD, Shop, order_of, unique


def settled(shop: Shop, order_id: str) -> None:
    """All that follows from the order is done and shown."""
    shop.settled(order_id)
    shop.system.quiet()
    shop.caught_up()


@pytest.fixture
def paid(shop: Shop, customer_id: str) -> str:
    """A paid order of this test's customer."""
    sku = shop.product(units=3, price_cents=1_250)
    order_id: str = shop.place(sku, 2, customer_id=customer_id, **HELD)["order_id"]
    settled(shop, order_id)
    return order_id


def test_a_paid_order_has_an_invoice_with_its_lines(staff: httpx.Client, shop: Shop, customer_id: str) -> None:
    tea, cup = shop.product(units=2, price_cents=1_250), shop.product(units=1, price_cents=800)
    lines = [{"sku": tea, "quantity": 2}, {"sku": cup, "quantity": 1}]
    order_id = shop.place(tea, lines=lines, customer_id=customer_id)["order_id"]
    settled(shop, order_id)
    invoice: dict[str, Any] = staff.get(f"/v1/invoices/{order_id}").json()
    assert invoice.pop("number") >= 1
    assert invoice.pop("issued_at") >= shop.order(order_id)["paid_at"]
    assert invoice == {
        "order_id": order_id,
        "status": "issued",
        "customer_id": customer_id,
        "currency": "EUR",
        "lines": [
            {"sku": tea, "name": f"Product {tea}", "quantity": 2, "unit_price_cents": 1_250, "freight_cents": 0},
            {"sku": cup, "name": f"Product {cup}", "quantity": 1, "unit_price_cents": 800, "freight_cents": 0},
        ],
        "items_cents": 3_300,
        "freight_cents": 0,
        "total_cents": 3_300,
        "paid_cents": 3_300,
        "credit_note": None,
        "credit_reason": None,
        "credited_at": None,
        "version": 2,
    }


def test_a_cancelled_order_is_credited_under_a_number_of_its_own(staff: httpx.Client, shop: Shop, paid: str) -> None:
    before = staff.get(f"/v1/invoices/{paid}").json()
    assert staff.post(f"/v1/orders/{paid}/cancellation", json={"reason": "no more"}).status_code == 200
    settled(shop, paid)
    after = staff.get(f"/v1/invoices/{paid}").json()
    assert after["credit_note"] > before["number"]
    assert after["credited_at"] > before["issued_at"]
    credited = {"credit_note": after["credit_note"], "credited_at": after["credited_at"]}
    assert after == {**before, "status": "credited", "credit_reason": "no more", "version": 3, **credited}


def test_what_was_never_paid_is_not_billed(staff: httpx.Client, shop: Shop) -> None:
    order_id = shop.place(shop.product(units=1), payment_token="tok_declined")["order_id"]
    settled(shop, order_id)
    problem(staff.get(f"/v1/invoices/{order_id}"), 404, "invoice_unknown")
    problem(staff.get("/v1/invoices/nothing"), 404, "invoice_unknown")
    problem(staff.get("/v1/invoices/a.b"), 422, "malformed", "path:order_id")


def test_documents_of_orders_that_race_are_numbered_without_a_gap(shop: Shop) -> None:
    sku = shop.product(units=50)
    order_ids = [shop.place(sku, **HELD)["order_id"] for _ in range(20)]
    for order_id in order_ids[::2]:
        assert shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}).status_code == 200
    for order_id in order_ids:
        shop.settled(order_id)
    shop.system.quiet()
    numbers = [
        event["number"]
        for commit in shop.system.inside.commits("billing")
        for event in commit.events
        if event["type"] in ("InvoiceIssued", "InvoiceCredited")
    ]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= len(order_ids) // 2


def test_an_invoice_that_the_client_has_already_is_304_until_it_is_credited(
    staff: httpx.Client, shop: Shop, paid: str
) -> None:
    seen = {"If-None-Match": staff.get(f"/v1/invoices/{paid}").headers["ETag"]}
    assert staff.get(f"/v1/invoices/{paid}", headers=seen).status_code == 304
    staff.post(f"/v1/orders/{paid}/cancellation", json={"reason": "r"})
    settled(shop, paid)
    assert staff.get(f"/v1/invoices/{paid}", headers=seen).status_code == 200


def test_a_customer_sees_its_own_invoice_and_nobody_elses(
    customer: httpx.Client, nobody: httpx.Client, shop: Shop, paid: str
) -> None:
    assert customer.get(f"/v1/invoices/{paid}").json()["order_id"] == paid
    others = shop.http.post("/v1/orders", json=order_of(shop.product(units=1), customer_id=unique("other"))).json()
    settled(shop, others["order_id"])
    problem(customer.get(f"/v1/invoices/{others['order_id']}"), 404, "invoice_unknown")
    problem(nobody.get(f"/v1/invoices/{paid}"), 401, "unauthenticated")
