"""Products and their stock over HTTP: defined, revised and counted in by staff, seen by everybody with a token."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop, unique

PRODUCT = {"name": "A lamp", "category": "lighting", "price_cents": 4_900, "currency": "EUR"}


def test_a_new_product_is_201_and_the_same_again_200(staff: httpx.Client) -> None:
    sku = unique("sku")
    first = staff.put(f"/v1/products/{sku}", json=PRODUCT)
    assert first.status_code == 201
    assert first.json() == {"sku": sku, **PRODUCT, "version": 1}
    assert first.headers["Location"] == f"/v1/products/{sku}"
    assert first.headers["ETag"] == '"1"'
    assert first.headers["Position"].startswith("catalogue=")
    again = staff.put(f"/v1/products/{sku}", json=PRODUCT)
    assert again.status_code == 200
    assert again.headers["ETag"] == '"1"'


def test_a_revision_is_200_and_shown_at_its_position(staff: httpx.Client) -> None:
    sku = unique("sku")
    staff.put(f"/v1/products/{sku}", json=PRODUCT)
    revised = staff.put(f"/v1/products/{sku}", json={**PRODUCT, "price_cents": 5_900})
    assert (revised.status_code, revised.json()["version"]) == (200, 2)
    found = staff.get(f"/v1/products/{sku}", headers={"Min-Position": revised.headers["Position"]})
    assert found.status_code == 200
    assert found.json() == {
        "sku": sku,
        **PRODUCT,
        "price_cents": 5_900,
        "version": 2,
        "stock": {"on_hand": 0, "reserved": 0, "available": 0},
        "rating": None,
    }


def test_a_revision_of_another_version_than_if_match_says_is_refused(staff: httpx.Client) -> None:
    sku = unique("sku")
    position = staff.put(f"/v1/products/{sku}", json=PRODUCT).headers["Position"]
    seen = staff.get(f"/v1/products/{sku}", headers={"Min-Position": position}).headers["ETag"]
    revision = {**PRODUCT, "name": "A better lamp"}
    assert staff.put(f"/v1/products/{sku}", json=revision, headers={"If-Match": seen}).status_code == 200
    late = staff.put(f"/v1/products/{sku}", json={**PRODUCT, "name": "A late lamp"}, headers={"If-Match": seen})
    problem(late, 412, "version_conflict")


def test_a_revision_under_one_key_takes_effect_once(staff: httpx.Client) -> None:
    sku, key = unique("sku"), {"Idempotency-Key": unique("key")}
    first = staff.put(f"/v1/products/{sku}", json=PRODUCT, headers=key)
    staff.put(f"/v1/products/{sku}", json={**PRODUCT, "price_cents": 1})
    again = staff.put(f"/v1/products/{sku}", json=PRODUCT, headers=key)
    assert again.status_code == first.status_code == 201
    assert again.json() == first.json()
    assert staff.put(f"/v1/products/{sku}", json=PRODUCT).json()["version"] == 3
    problem(staff.put(f"/v1/products/{sku}", json={**PRODUCT, "name": "x"}, headers=key), 422, "id_reused")


def test_a_product_that_the_client_has_already_is_304_until_its_stock_changes(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=3)
    shop.caught_up()
    seen = staff.get(f"/v1/products/{sku}")
    same = staff.get(f"/v1/products/{sku}", headers={"If-None-Match": f'"other", W/{seen.headers["ETag"]}'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", seen.headers["ETag"])
    assert staff.get(f"/v1/products/{sku}", headers={"If-None-Match": "*"}).status_code == 304
    more = staff.post(f"/v1/stock/{sku}/receipts", json={"receipt_id": unique("r"), "quantity": 1})
    headers = {"If-None-Match": seen.headers["ETag"], "Min-Position": more.headers["Position"]}
    assert staff.get(f"/v1/products/{sku}", headers=headers).json()["stock"]["on_hand"] == 4


def test_products_of_a_category_are_paged_by_sku_each_once(staff: httpx.Client, shop: Shop) -> None:
    category = unique("a category & more")
    skus = sorted(shop.product(category=category) for _ in range(5))
    shop.caught_up()
    found: list[str] = []
    url: str | None = str(staff.build_request("GET", "/v1/products", params={"category": category, "limit": 2}).url)
    pages = 0
    while url:
        page = staff.get(url)
        assert page.status_code == 200
        assert (page.json()["next"] is None) == ("next" not in page.links)
        found += [product["sku"] for product in page.json()["items"]]
        url = page.links.get("next", {}).get("url")
        pages += 1
    assert found == skus
    assert pages == 3


def test_a_receipt_counts_once_however_often_it_is_reported(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product()
    receipt = {"receipt_id": unique("receipt"), "quantity": 7}
    answers = [staff.post(f"/v1/stock/{sku}/receipts", json=receipt) for _ in range(3)]
    answers.append(staff.post(f"/v1/stock/{sku}/receipts", json=receipt, headers={"Idempotency-Key": unique("key")}))
    for answer in answers:
        assert answer.status_code == 201
        assert answer.json() == {"sku": sku, **receipt}
    level = staff.get(f"/v1/stock/{sku}", headers={"Min-Position": answers[0].headers["Position"]})
    assert level.json() == {"sku": sku, "on_hand": 7, "reserved": 0, "available": 7}


def test_another_delivery_under_a_known_receipt_is_refused(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product()
    receipt = {"receipt_id": unique("receipt"), "quantity": 7}
    position = staff.post(f"/v1/stock/{sku}/receipts", json=receipt).headers["Position"]
    other = staff.post(f"/v1/stock/{sku}/receipts", json={**receipt, "quantity": 8})
    assert 400 <= other.status_code < 500, other.text
    level = staff.get(f"/v1/stock/{sku}", headers={"Min-Position": position})
    assert level.json()["on_hand"] == 7


def test_the_stock_of_a_product_without_receipts_is_nothing(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product()
    shop.caught_up()
    assert staff.get(f"/v1/stock/{sku}").json() == {"sku": sku, "on_hand": 0, "reserved": 0, "available": 0}


def test_what_nobody_defined_is_unknown(staff: httpx.Client) -> None:
    problem(staff.get("/v1/products/nothing"), 404, "product_unknown")
    problem(staff.get("/v1/stock/nothing"), 404, "product_unknown")
    receipt = {"receipt_id": "r", "quantity": 1}
    problem(staff.post("/v1/stock/nothing/receipts", json=receipt), 404, "product_unknown")


def test_a_receipt_for_a_product_defined_a_moment_ago_is_taken(staff: httpx.Client) -> None:
    for _ in range(5):
        sku = unique("sku")
        assert staff.put(f"/v1/products/{sku}", json=PRODUCT).status_code == 201
        receipt = {"receipt_id": "r1", "quantity": 1}
        assert staff.post(f"/v1/stock/{sku}/receipts", json=receipt).status_code == 201


def test_customers_see_products_and_stock_but_change_neither(customer: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=1)
    shop.caught_up()
    assert customer.get(f"/v1/products/{sku}").status_code == 200
    assert customer.get("/v1/products").status_code == 200
    assert customer.get(f"/v1/stock/{sku}").status_code == 200
    problem(customer.put(f"/v1/products/{sku}", json=PRODUCT), 403, "forbidden")
    receipt = {"receipt_id": "r", "quantity": 1}
    problem(customer.post(f"/v1/stock/{sku}/receipts", json=receipt), 403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/products/x"),
        ("GET", "/v1/products/x"),
        ("GET", "/v1/products"),
        ("POST", "/v1/stock/x/receipts"),
        ("GET", "/v1/stock/x"),
    ],
)
def test_without_a_token_there_is_nothing(nobody: httpx.Client, method: str, path: str) -> None:
    answer = nobody.request(method, path, json={})
    problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 201),
        ("name", 7),
        ("category", None),
        ("price_cents", -1),
        ("price_cents", 1.5),
        ("price_cents", 10**12 + 1),
        ("currency", "eur"),
        ("currency", "EURO"),
        ("currency", "EUR\n"),
    ],
)
def test_a_product_that_makes_no_sense_is_refused(staff: httpx.Client, field: str, value: Any) -> None:
    answer = staff.put(f"/v1/products/{unique('sku')}", json={**PRODUCT, field: value})
    problem(answer, 422, "malformed", f"/{field}")
