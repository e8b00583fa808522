"""Reviews over HTTP: by who received the product, once; read by everybody, with the mean on the product's page."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from domains.reviews.messages import TEXT_MAX
from tests.gateway.asserts import problem
from tests.system import Shop, unique


def deliver(shop: Shop, *order_ids: str) -> None:
    """The carrier's part, and all that follows from it."""
    for order_id in order_ids:
        shop.settled(order_id)
        assert shop.http.post(f"/v1/shipments/{order_id}/delivery").status_code == 200
    shop.system.quiet()
    shop.caught_up()


def received(shop: Shop, sku: str, customer_id: str) -> str:
    """An order with which the product came to the customer."""
    order_id: str = shop.place(sku, customer_id=customer_id)["order_id"]
    deliver(shop, order_id)
    return order_id


@pytest.fixture
def sku(shop: Shop) -> str:
    return shop.product(units=50)


def test_who_received_a_product_reviews_it_once(customer: httpx.Client, shop: Shop, sku: str, customer_id: str) -> None:
    path, body = f"/v1/products/{sku}/reviews", {"order_id": received(shop, sku, customer_id), "score": 4, "text": "é"}
    first = customer.post(path, json=body)
    assert first.status_code == 201
    assert first.json() == {"sku": sku, **body}
    assert first.headers["Position"].startswith("reviews=")
    again = customer.post(path, json=body)
    assert (again.status_code, again.json()) == (201, first.json())
    problem(customer.post(path, json={**body, "score": 1}), 409, "reviewed_before")
    page = customer.get(path, headers={"Min-Position": first.headers["Position"]}).json()
    assert [(each["score"], each["text"]) for each in page["items"]] == [(4, "é")]


def test_before_it_arrived_nobody_reviews_it(customer: httpx.Client, shop: Shop, sku: str, customer_id: str) -> None:
    order_id = shop.place(sku, customer_id=customer_id)["order_id"]
    body = {"order_id": order_id, "score": 5}
    problem(customer.post(f"/v1/products/{sku}/reviews", json=body), 409, "not_received", "/order_id")
    deliver(shop, order_id)
    assert customer.post(f"/v1/products/{sku}/reviews", json=body).status_code == 201


def test_an_order_gives_no_right_to_what_did_not_come_with_it(
    customer: httpx.Client, shop: Shop, sku: str, customer_id: str
) -> None:
    body = {"order_id": received(shop, sku, customer_id), "score": 5}
    problem(customer.post(f"/v1/products/{shop.product()}/reviews", json=body), 409, "not_received")


def test_an_order_gives_no_right_to_others(customer: httpx.Client, nobody: httpx.Client, shop: Shop, sku: str) -> None:
    body = {"order_id": received(shop, sku, unique("other")), "score": 5}
    problem(customer.post(f"/v1/products/{sku}/reviews", json=body), 404, "order_unknown")
    problem(nobody.post(f"/v1/products/{sku}/reviews", json=body), 401, "unauthenticated")
    problem(nobody.get(f"/v1/products/{sku}/reviews"), 401, "unauthenticated")


def test_staff_write_in_the_customers_name(
    staff: httpx.Client, customer: httpx.Client, shop: Shop, sku: str, customer_id: str
) -> None:
    body = {"order_id": received(shop, sku, customer_id), "score": 5}
    assert staff.post(f"/v1/products/{sku}/reviews", json=body).status_code == 201
    problem(customer.post(f"/v1/products/{sku}/reviews", json={**body, "score": 4}), 409, "reviewed_before")


def test_a_review_under_one_key_takes_effect_once(
    customer: httpx.Client, shop: Shop, sku: str, customer_id: str
) -> None:
    path, key = f"/v1/products/{sku}/reviews", {"Idempotency-Key": unique("key")}
    body = {"order_id": received(shop, sku, customer_id), "score": 5, "text": "x"}
    answers = [customer.post(path, json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    problem(customer.post(path, json={**body, "score": 1}, headers=key), 422, "id_reused")


def test_the_products_page_shows_the_mean_and_the_newest_review_first(staff: httpx.Client, shop: Shop) -> None:
    scores, category = [5, 4, 4], unique("category")
    sku, other = shop.product(units=3, category=category), shop.product(category=category)
    orders = [shop.place(sku, customer_id=unique("customer"))["order_id"] for _ in scores]
    deliver(shop, *orders)
    before = staff.get(f"/v1/products/{sku}")
    assert before.json()["rating"] is None
    for order_id, score in zip(orders, scores, strict=True):
        body = {"order_id": order_id, "score": score, "text": order_id}
        position = staff.post(f"/v1/products/{sku}/reviews", json=body).headers["Position"]
    after = staff.get(f"/v1/products/{sku}", headers={"Min-Position": position})
    assert after.json()["rating"] == 4.33
    assert after.headers["ETag"] != before.headers["ETag"]
    listed = staff.get("/v1/products", params={"category": category}).json()["items"]
    assert {each["sku"]: each["rating"] for each in listed} == {sku: 4.33, other: None}

    found: list[str] = []
    url: str | None = f"/v1/products/{sku}/reviews?limit=2"
    pages = 0
    while url:
        page = staff.get(url)
        assert page.status_code == 200
        found += [each["text"] for each in page.json()["items"]]
        url = page.links.get("next", {}).get("url")
        pages += 1
    assert found == orders[::-1]
    assert pages == 2


def test_a_product_without_reviews_has_an_empty_page_and_none_has_no_page(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product()
    shop.caught_up()
    assert staff.get(f"/v1/products/{sku}/reviews").json() == {"items": [], "next": None}
    problem(staff.get("/v1/products/nothing/reviews"), 404, "product_unknown")


@pytest.mark.parametrize("cursor", ["x", "YQ==", "LTE=", "OTk5OTk5OTk5OTk5OTk5OTk5OQ=="], ids=str)
def test_a_cursor_that_is_none_is_refused(staff: httpx.Client, sku: str, cursor: str) -> None:
    problem(staff.get(f"/v1/products/{sku}/reviews", params={"cursor": cursor}), 422, "malformed", "query:cursor")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score", 0),
        ("score", 6),
        ("score", 4.5),
        ("score", "5"),
        ("score", None),
        ("text", "x" * (TEXT_MAX + 1)),
        ("text", None),
        ("order_id", "a.b"),
        ("order_id", ""),
    ],
)
def test_a_review_that_makes_no_sense_is_refused(staff: httpx.Client, sku: str, field: str, value: Any) -> None:
    body = {"order_id": "o-1", "score": 5, "text": "", field: value}
    problem(staff.post(f"/v1/products/{sku}/reviews", json=body), 422, "malformed", f"/{field}")
