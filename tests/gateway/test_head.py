"""HEAD: what GET would say, without its body."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/docs",
        "/docs/files/swagger-ui.css",
        "/schema/openapi.json",
        "/v1/orders?customer_id=no-such-customer",
        "/v2/orders?customer_id=no-such-customer",
    ],
)
def test_it_answers_as_get_does_without_the_body(staff: httpx.Client, path: str) -> None:
    whole, head = staff.get(path), staff.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["Content-Length"] == str(len(whole.content))
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]
    assert staff.get(path).content == whole.content  # The connection is in order.


def test_it_tells_the_version_and_the_problems(shop: Shop, staff: httpx.Client, nobody: httpx.Client) -> None:
    order_id = shop.place(shop.product(units=1))["order_id"]
    shop.settled(order_id)
    path = f"/v1/orders/{order_id}"
    whole, head = staff.get(path), staff.head(path)
    assert head.headers["ETag"] == whole.headers["ETag"]
    known = staff.head(path, headers={"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.headers["ETag"]) == (304, whole.headers["ETag"])
    for http, where, status in ((staff, "/v1/orders/nothing", 404), (nobody, path, 401), (nobody, "/nowhere", 404)):
        answer = http.head(where)
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_it_is_allowed_where_get_is(staff: httpx.Client) -> None:
    refused = staff.delete("/v1/orders")
    problem(refused, 405, "method_not_allowed")
    assert {"GET", "HEAD", "POST"} <= {each.strip() for each in refused.headers["Allow"].split(",")}
    only_posted = staff.head("/v1/stock/mug/receipts")
    assert only_posted.status_code == 405
    assert "HEAD" not in only_posted.headers["Allow"]


def test_of_a_stream_it_tells_that_there_is_one(staff: httpx.Client) -> None:
    head = staff.head("/v1/orders/stream")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"].startswith("text/event-stream")
    assert staff.get("/livez").status_code == 200
