"""Payments and the sales report over HTTP: every order counts, in its month, its categories and its status."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop, order_of, unique


def rows(http: httpx.Client, by: str, currency: str) -> dict[str, dict[str, Any]]:
    """The report's rows of one currency, by key."""
    answer = http.get("/v1/reports/sales", params={"by": by})
    assert answer.status_code == 200
    assert answer.json()["by"] == by
    return {row["key"]: row for row in answer.json()["rows"] if row["currency"] == currency}


def test_the_report_counts_each_order_with_its_money(staff: httpx.Client, shop: Shop) -> None:
    """A currency of this test's own keeps other tests' orders out of the rows."""
    garden, kitchen = unique("garden"), unique("kitchen")
    spade = shop.product(units=10, price_cents=2_000, category=garden, currency="SEK")
    pan = shop.product(units=10, price_cents=300, category=kitchen, currency="SEK")
    pot = shop.product(units=1, price_cents=50, category=kitchen, currency="SEK")
    both = [{"sku": spade, "quantity": 1}, {"sku": pan, "quantity": 2}, {"sku": pan, "quantity": 1}]
    placed = [
        shop.place(spade, 2, currency="SEK"),  # Paid: 4000.
        shop.place(spade, currency="SEK", lines=both),  # Paid: 2900.
        shop.place(pan, currency="SEK", payment_token="tok_declined"),  # Cancelled: 300, nothing captured.
        shop.place(pot, 2, currency="SEK"),  # Cancelled, out of stock: 100.
    ]
    settled = [shop.settled(order["order_id"]) for order in placed]
    assert [order["status"] for order in settled] == ["shipped", "shipped", "cancelled", "cancelled"]
    shop.caught_up()

    month = settled[0]["placed_at"][:7]
    assert rows(staff, "month", "SEK") == {
        month: {
            "key": month,
            "currency": "SEK",
            "orders": 4,
            "items_cents": 7_300,
            "freight_cents": 0,
            "captured_cents": 6_900,
        }
    }
    assert rows(staff, "category", "SEK") == {
        garden: {
            "key": garden,
            "currency": "SEK",
            "orders": 2,
            "items_cents": 6_000,
            "freight_cents": 0,
            "captured_cents": None,
        },
        kitchen: {
            "key": kitchen,
            "currency": "SEK",
            "orders": 3,
            "items_cents": 1_300,
            "freight_cents": 0,
            "captured_cents": None,
        },
    }
    by_status = rows(staff, "status", "SEK")
    assert {key: (row["orders"], row["items_cents"], row["captured_cents"]) for key, row in by_status.items()} == {
        "shipped": (2, 6_900, 6_900),
        "cancelled": (2, 400, 0),
    }


def test_a_refunded_order_stays_in_the_report_with_what_was_captured(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=1, price_cents=800, currency="NOK")
    order_id = shop.held(sku, currency="NOK")["order_id"]
    assert staff.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}).status_code == 200
    shop.settled(order_id)
    shop.caught_up()
    assert rows(staff, "status", "NOK")["cancelled"]["captured_cents"] == 800


@pytest.mark.parametrize("by", ["month", "category", "status"])
def test_the_report_is_for_staff(customer: httpx.Client, nobody: httpx.Client, by: str) -> None:
    problem(customer.get("/v1/reports/sales", params={"by": by}), 403, "forbidden")
    problem(nobody.get("/v1/reports/sales", params={"by": by}), 401, "unauthenticated")


def test_a_report_by_something_else_is_refused(staff: httpx.Client) -> None:
    problem(staff.get("/v1/reports/sales", params={"by": "moon"}), 422, "malformed", "query:by")
    assert staff.get("/v1/reports/sales").json()["by"] == "month"


def test_a_payment_tells_what_was_captured_and_given_back(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=1, price_cents=1_234)
    order_id = shop.held(sku)["order_id"]
    expected = {
        "order_id": order_id,
        "status": "captured",
        "currency": "EUR",
        "authorised_cents": 1_234,
        "captured_cents": 1_234,
        "refunded_cents": 0,
        "decline_code": None,
        "version": 2,
    }
    assert staff.get(f"/v1/payments/{order_id}").json() == expected
    staff.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"})
    shop.settled(order_id)
    given_back = {**expected, "status": "refunded", "refunded_cents": 1_234, "version": 4}
    assert staff.get(f"/v1/payments/{order_id}").json() == given_back


def test_a_declined_payment_captured_nothing(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=1)
    order_id = shop.settled(shop.place(sku, payment_token="tok_declined")["order_id"])["order_id"]
    payment = staff.get(f"/v1/payments/{order_id}").json()
    assert (payment["status"], payment["decline_code"]) == ("declined", "card_declined")
    assert (payment["authorised_cents"], payment["captured_cents"], payment["refunded_cents"]) == (0, 0, 0)


def test_an_order_in_a_currency_that_the_product_is_not_sold_in_is_refused(staff: httpx.Client, shop: Shop) -> None:
    euros, crowns = shop.product(), shop.product(currency="CZK")
    body = order_of(euros, lines=[{"sku": euros, "quantity": 1}, {"sku": crowns, "quantity": 1}])
    problem(staff.post("/v1/orders", json=body), 422, "currency_differs", "/lines/1/sku")
