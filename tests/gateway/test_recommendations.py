"""Recommendations over HTTP: what goes with what a customer bought, the most frequent first."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Json, Shop, unique


def together(http: httpx.Client, **query: str | int) -> list[tuple[str, int]]:
    answer = http.get("/v1/recommendations", params=query)
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    assert len({item["sku"] for item in items}) == len(items)
    return [(item["sku"], item["orders"]) for item in items if item["because"] == "bought_together"]


def basket(shop: Shop, customer_id: str, *skus: str) -> None:
    lines = [{"sku": sku, "quantity": 1} for sku in skus]
    shop.place(skus[0], lines=lines, customer_id=customer_id)


def test_what_others_bought_with_it_is_recommended_most_frequent_first(
    customer: httpx.Client, staff: httpx.Client, shop: Shop, customer_id: str
) -> None:
    tea, cup, pot, hat = (shop.product(units=50) for _ in range(4))
    for basketful in ((tea, cup), (tea, pot), (pot, tea), (hat,), (tea, tea, tea)):
        basket(shop, unique("other"), *basketful)
    basket(shop, customer_id, tea)
    shop.caught_up()
    assert together(customer) == [(pot, 2), (cup, 1)]
    assert together(staff, customer_id=customer_id) == [(pot, 2), (cup, 1)]
    assert together(customer, limit=1) == [(pot, 2)]

    basket(shop, customer_id, pot)  # What one has is recommended no more.
    shop.caught_up()
    assert together(customer) == [(cup, 1)]


def test_who_bought_nothing_sees_what_is_bought_most(customer: httpx.Client, staff: httpx.Client, shop: Shop) -> None:
    """Others' tests buy things, too, but no fifty others of them so often."""
    sku = shop.product(units=100, price_cents=700, category="best")
    for _ in range(20):
        basket(shop, unique("other"), sku)
    shop.caught_up()
    for http in (customer, staff):
        items = http.get("/v1/recommendations", params={"limit": 50}).json()["items"]
        assert {item["because"] for item in items} == {"most_bought"}
        assert [item["orders"] for item in items] == sorted((item["orders"] for item in items), reverse=True)
        (found,) = (item for item in items if item["sku"] == sku)
        product = {"sku": sku, "name": f"Product {sku}", "category": "best", "price_cents": 700, "currency": "EUR"}
        assert found == {**product, "because": "most_bought", "orders": 20}


def test_recommendations_are_the_customers_own(customer: httpx.Client, nobody: httpx.Client) -> None:
    problem(customer.get("/v1/recommendations", params={"customer_id": unique("other")}), 403, "forbidden")
    problem(nobody.get("/v1/recommendations"), 401, "unauthenticated")


@pytest.mark.parametrize(("name", "value"), [("limit", "0"), ("limit", "51"), ("customer_id", "a.b")])
def test_a_question_that_makes_no_sense_is_refused(staff: httpx.Client, name: str, value: str) -> None:
    problem(staff.get("/v1/recommendations", params={name: value}), 422, "malformed", f"query:{name}")
