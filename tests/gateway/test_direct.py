"""Routes ahead of the framework: what is not asked in the plain way is answered by it, and no otherwise."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop, order_of


@pytest.fixture(scope="module")
def order_id(shop: Shop) -> str:
    placed: str = shop.place(shop.product(units=1))["order_id"]
    shop.settled(placed)
    shop.caught_up()
    return placed


@pytest.mark.parametrize("path", ["/v1/orders/{}/", "/v1//orders/{}", "/v1/orders/{}?", "/v1/orders/{}?of=nobody"])
def test_a_page_is_the_same_however_its_path_is_written(staff: httpx.Client, order_id: str, path: str) -> None:
    plain, other = staff.get(f"/v1/orders/{order_id}"), staff.get(path.format(order_id))
    assert (other.status_code, other.content) == (plain.status_code, plain.content)
    for header in ("ETag", "Content-Type", "Content-Length", "Deprecation", "Sunset"):
        assert other.headers[header] == plain.headers[header]


def test_a_name_in_the_place_of_an_id_is_the_route_of_that_name(staff: httpx.Client) -> None:
    with staff.stream("GET", "/v1/orders/stream") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize("host", ["a/b", "a b", "a@b/", '"'])
def test_a_host_that_is_none_is_refused(staff: httpx.Client, order_id: str, host: str) -> None:
    for path in (f"/v1/orders/{order_id}", "/v1/orders"):
        problem(staff.get(path, headers={"Host": host}), 400, "bad_request")
    problem(staff.post("/v1/orders", json=order_of("sku"), headers={"Host": host}), 400, "bad_request")


@pytest.mark.parametrize("host", ["shop.example", "shop.example:8000", "[::1]:8000", "under_score", "user@shop"])
def test_any_other_host_is_not(staff: httpx.Client, order_id: str, host: str) -> None:
    assert staff.get(f"/v1/orders/{order_id}", headers={"Host": host}).status_code == 200


def test_a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has(
    staff: httpx.Client, order_id: str
) -> None:
    answer = staff.delete(f"/v1/orders/{order_id}")
    problem(answer, 405, "method_not_allowed")
    assert {each.strip() for each in answer.headers["Allow"].split(",")} >= {"GET", "HEAD"}
