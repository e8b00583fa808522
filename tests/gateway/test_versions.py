"""Two versions of orders side by side: the same orders, money shown in two ways, and the first says that it will go."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from gateway.http.versions import DEPRECATED_SINCE
from tests.gateway.asserts import problem
from tests.gateway.streams import following
from tests.gateway.test_async_commands import ASYNC, accepted, settled
from tests.system import HELD, Shop, order_of, unique, until

V1, V2 = "/v1/orders", "/v2/orders"


def in_money(first: Any, currency: str = "") -> Any:
    """What the first version shows, with its money as an object."""
    if isinstance(first, list):
        return [in_money(each, currency) for each in first]
    if not isinstance(first, dict):
        return first
    currency = first.get("currency", currency)
    shown: dict[str, Any] = {}
    for name, value in first.items():
        if name.endswith("_cents"):
            shown[name.removesuffix("_cents")] = {"amount": value, "currency": currency}
        elif name != "currency":
            shown[name] = in_money(value, currency)
    return shown


@pytest.fixture
def paid(shop: Shop) -> dict[str, Any]:
    placed = shop.place(shop.product(units=5, currency="USD"), 2, currency="USD", customer_id=unique("customer"))
    return shop.settled(placed["order_id"])


def test_both_show_the_same_order(staff: httpx.Client, paid: dict[str, Any]) -> None:
    first, second = (staff.get(f"{where}/{paid['order_id']}") for where in (V1, V2))
    assert second.json() == in_money(first.json())
    assert second.json()["total"] == {"amount": 2_000, "currency": "USD"}
    assert second.json()["lines"][0]["unit_price"] == {"amount": 1_000, "currency": "USD"}
    assert second.json()["payment"]["captured"] == {"amount": 2_000, "currency": "USD"}
    assert second.headers["ETag"] == first.headers["ETag"]
    known = staff.get(f"{V2}/{paid['order_id']}", headers={"If-None-Match": second.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    past = (staff.get(f"{where}/{paid['order_id']}", params={"as_of": "1"}).json() for where in (V1, V2))
    assert in_money(next(past)) == next(past)
    timelines = [staff.get(f"{where}/{paid['order_id']}/timeline").json() for where in (V1, V2)]
    assert timelines[0] == timelines[1]


def test_both_list_the_same_orders(shop: Shop, staff: httpx.Client, paid: dict[str, Any]) -> None:
    shop.caught_up()
    of_customer = {"customer_id": paid["customer_id"], "limit": 1}
    first, second = (staff.get(where, params=of_customer).json() for where in (V1, V2))
    assert len(second["items"]) == 1
    assert second == in_money(first)


def test_an_order_is_placed_followed_and_cancelled_in_the_second(shop: Shop, staff: httpx.Client) -> None:
    body = order_of(shop.product(units=3), customer_id=unique("customer"), **HELD)
    placed = staff.post(V2, json=body)
    assert placed.status_code == 201
    assert placed.json()["total"] == {"amount": 1_000, "currency": "EUR"}
    where = placed.headers["Location"]
    assert where == f"{V2}/{placed.json()['order_id']}"
    until(lambda: staff.get(where).json().get("status") == "paid", "the payment")
    with following(staff, f"{where}/stream", {}) as events:
        event = next(events)
        assert event.data["order"]["total"] == {"amount": 1_000, "currency": "EUR"}
    shop.caught_up()
    with following(staff, f"{V2}/stream", {}, {"customer_id": str(body["customer_id"])}) as events:
        (listed,) = next(events).data["items"]
        assert (listed["order_id"], listed["total"]["amount"]) == (placed.json()["order_id"], 1_000)
        cancelled = staff.post(f"{where}/cancellation", json={"reason": "none"})
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert next(events).data["order"]["total"]["amount"] == 1_000


def test_a_repeat_is_one_in_whichever_version_it_comes(shop: Shop, staff: httpx.Client) -> None:
    body, key = order_of(shop.product(units=3)), {"Idempotency-Key": unique("key")}
    first, second = (staff.post(where, json=body, headers=key) for where in (V1, V2))
    assert second.status_code == 201
    assert second.json() == in_money(first.json())
    assert second.headers["Position"] == first.headers["Position"]
    queued = settled(staff, accepted(staff.post(V2, json=body, headers={**key, **ASYNC})))
    assert queued.headers["Location"] == second.headers["Location"]


def test_the_first_says_since_when_and_until_when_it_is_there(staff: httpx.Client, paid: dict[str, Any]) -> None:
    paths = ["", f"/{paid['order_id']}", f"/{paid['order_id']}/timeline", "/nothing"]
    for path in paths:
        first, second = (staff.get(f"{where}{path}") for where in (V1, V2))
        assert first.status_code == second.status_code
        assert first.headers["Deprecation"] == f"@{DEPRECATED_SINCE}"
        assert parsedate_to_datetime(first.headers["Sunset"]).timestamp() > DEPRECATED_SINCE
        assert not {"deprecation", "sunset"} & second.headers.keys()
    assert "Deprecation" in staff.post(V1, json={}).headers
    assert "Deprecation" not in staff.get("/v1/products").headers
    problem(staff.get("/v2/products"), 404, "not_found")


def test_the_description_shows_both(nobody: httpx.Client) -> None:
    paths = nobody.get("/schema/openapi.json").json()["paths"]
    of_first = {path.removeprefix(V1) for path in paths if path.startswith(V1)}
    assert of_first == {path.removeprefix(V2) for path in paths if path.startswith(V2)}
    for path in of_first:
        for method, operation in paths[f"{V1}{path}"].items():
            assert operation["deprecated"]
            assert not paths[f"{V2}{path}"][method]["deprecated"]
            well = operation["responses"]["201" if (method, path) == ("post", "") else "200"]
            assert {"Deprecation", "Sunset"} <= well["headers"].keys()
