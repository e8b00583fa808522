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
    assert second.json() == {**in_money(first.json()), "deliver_to": None}
    assert second.json()["total"] == {"amount": 2_000, "currency": "USD"}
    assert second.json()["lines"][0]["unit_price"] == {"amount": 1_000, "currency": "USD"}
    assert second.json()["payment"]["captured"] == {"amount": 2_000, "currency": "USD"}
    assert second.headers["ETag"] == f'{first.headers["ETag"][:-1]}.0"'  # Nobody is registered.
    known = staff.get(f"{V2}/{paid['order_id']}", headers={"If-None-Match": second.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    past = (staff.get(f"{where}/{paid['order_id']}", params={"as_of": "1"}).json() for where in (V1, V2))
    assert {**in_money(next(past)), "deliver_to": None} == next(past)
    timelines = [staff.get(f"{where}/{paid['order_id']}/timeline").json() for where in (V1, V2)]
    assert timelines[0] == timelines[1]


def person(street: str | None) -> dict[str, Any]:
    address = {"street": street, "postal_code": "10115", "city": "Berlin", "country": "DE"}
    return {"name": "Ada", "email": "ada@example.org", "address": address if street else None}


def test_the_second_says_to_whom_an_order_goes_as_that_is_now(
    shop: Shop, staff: httpx.Client, customer: httpx.Client, customer_id: str
) -> None:
    """A tag stands for what is shown: one of before an address changed is no tag of what is shown since."""
    about, where = (
        f"/v1/customers/{customer_id}",
        f"{V2}/{shop.held(shop.product(units=1), customer_id=customer_id)['order_id']}",
    )
    tags: list[str] = []

    def shown() -> Any:
        answer = customer.get(where, headers={"If-None-Match": ", ".join(tags)} if tags else {})
        assert answer.status_code == 200
        tags.append(answer.headers["ETag"])
        again = customer.get(where, headers={"If-None-Match": tags[-1]})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tags[-1])
        return answer.json()["deliver_to"]

    assert shown() is None
    for street in ("Here 1", "There 2", None):
        saved = customer.put(about, json=person(street))
        assert saved.status_code in (200, 201)
        expected = {"name": "Ada", "address": person(street)["address"]} if street else None
        assert shown() == expected
    customer.put(about, json=person("Here 1"))
    assert staff.get(where, headers={"Min-Position": saved.headers["Position"]}).json()["deliver_to"]["name"] == "Ada"
    assert customer.get(where, params={"as_of": "1"}).json()["deliver_to"] is None
    assert customer.delete(about).status_code == 204
    assert shown() is None
    assert len(set(tags)) == len(tags)


def test_a_tag_of_the_second_guards_a_change(shop: Shop, customer: httpx.Client, customer_id: str) -> None:
    assert customer.put(f"/v1/customers/{customer_id}", json=person("Here 1")).status_code == 201
    placed = shop.place(shop.product(units=1), customer_id=customer_id, **HELD)
    where = f"{V2}/{placed['order_id']}"
    shop.settled(placed["order_id"])
    late = customer.get(where).headers["ETag"]
    assert late.count(".") == 3
    stale = customer.post(f"{where}/cancellation", json={"reason": "none"}, headers={"If-Match": '"1.0.0.1"'})
    problem(stale, 412, "version_conflict")
    done = customer.post(f"{where}/cancellation", json={"reason": "none"}, headers={"If-Match": late})
    assert (done.status_code, done.json()["status"]) == (200, "cancelled")


def test_others_do_not_see_to_whom_an_order_goes(shop: Shop, customer: httpx.Client) -> None:
    somebody = unique("customer")
    assert shop.http.put(f"/v1/customers/{somebody}", json=person("Here 1")).status_code == 201
    order_id = shop.place(shop.product(units=1), customer_id=somebody)["order_id"]
    shop.caught_up()
    problem(customer.get(f"{V2}/{order_id}"), 404, "order_unknown")


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
        assert "deliver_to" not in event.data["order"]
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
