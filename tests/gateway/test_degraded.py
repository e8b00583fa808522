"""Answers that do without something while whoever has it is away: they say so, and are counted."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Json, Shop, System, descendants, running_system, unique, until

QUERY = """
query Mine($id: ID!) { order(id: $id) { id lines { sku } payment { status } customer { name } } }
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One of its own: parts of it are taken away."""
    with running_system(tmp_path_factory.mktemp("degraded") / "data") as system:
        yield system


@pytest.fixture(scope="module")
def shop(system: System) -> Iterator[Shop]:
    shop = Shop(system)
    yield shop
    shop.close()


@contextmanager
def frozen(system: System, part: str) -> Iterator[None]:
    """A part of the system that stands still, and is not gone."""
    assert system.process is not None
    pid = next(pid for pid, command in descendants(system.process.pid).items() if f"--part {part}" in command)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def not_built_yet(system: System, name: str) -> Iterator[None]:
    """A read model as it is before its first build is done."""
    pointer = system.settings.read_models / f"{name}.live"
    aside = pointer.with_suffix(".aside")
    pointer.rename(aside)
    try:
        yield
    finally:
        aside.rename(pointer)


def counted(http: httpx.Client, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def ask(http: httpx.Client, order_id: str) -> httpx.Response:
    return http.post("/v1/graphql", json={"query": QUERY, "variables": {"id": order_id}}).raise_for_status()


def test_an_order_is_shown_without_its_customer_while_the_customers_service_stands_still(
    system: System, shop: Shop
) -> None:
    customer_id, sku = unique("customer"), shop.product(units=5)
    person = {"name": "Ann", "email": "ann@example.org"}
    assert shop.http.put(f"/v1/customers/{customer_id}", json=person).status_code == 201
    order_id = shop.place(sku, customer_id=customer_id)["order_id"]
    shop.settled(order_id)
    shop.caught_up()
    whole = ask(shop.http, order_id)
    assert whole.json()["data"]["order"]["customer"] == {"name": "Ann"}
    assert "Degraded" not in whole.headers
    assert "extensions" not in whole.json()
    with frozen(system, "states"):
        degraded = ask(shop.http, order_id)
        problem(shop.http.get(f"/v1/customers/{customer_id}"), 503, "unavailable")  # Which is nothing without.
    body: Json = degraded.json()
    assert body == {
        "data": {"order": {**whole.json()["data"]["order"], "customer": None}},
        "extensions": {"degraded": ["customers"]},
    }
    assert degraded.headers["Degraded"] == "customers"
    assert counted(shop.http, 'tally_degraded_answers_total{lacks="customers"}') >= 1
    assert counted(shop.http, 'tally_call_fallbacks_total{destination="customers"}') >= 1
    until(lambda: ask(shop.http, order_id).json() == whole.json(), "the customer's name")


def test_an_order_is_shown_without_whom_it_goes_to_and_never_called_unchanged(system: System, shop: Shop) -> None:
    customer_id = unique("customer")
    address = {"street": "Here 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
    person = {"name": "Ann", "email": "ann@example.org", "address": address}
    assert shop.http.put(f"/v1/customers/{customer_id}", json=person).status_code == 201
    where = (
        f"/v2/orders/{shop.settled(shop.place(shop.product(units=5), customer_id=customer_id)['order_id'])['order_id']}"
    )
    whole = shop.http.get(where)
    assert whole.json()["deliver_to"] == {"name": "Ann", "address": address}
    assert "Degraded" not in whole.headers
    with frozen(system, "states"):
        lacking = shop.http.get(where, headers={"If-None-Match": whole.headers["ETag"]})
        again = shop.http.get(where, headers={"If-None-Match": lacking.headers["ETag"]})
        assert shop.http.get(where.replace("v2", "v1")).headers["ETag"] == lacking.headers["ETag"]
    for answer in (lacking, again):
        assert (answer.status_code, answer.headers["Degraded"]) == (200, "customers")
        assert answer.json() == {**whole.json(), "deliver_to": None}

    def known() -> bool:
        return shop.http.get(where, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304

    until(known, "the customer")
    assert shop.http.get(where, headers={"If-None-Match": lacking.headers["ETag"]}).json() == whole.json()


def test_a_homepage_has_no_recommendations_until_there_are_some(system: System, shop: Shop) -> None:
    shop.place(shop.product(units=5))
    shop.caught_up()
    with not_built_yet(system, "bought_together"):
        answer = shop.http.get("/v1/recommendations")
    assert (answer.status_code, answer.json()) == (200, {"items": []})
    assert answer.headers["Degraded"] == "recommendations"
    again = shop.http.get("/v1/recommendations")
    assert again.json()["items"]
    assert "Degraded" not in again.headers


def test_products_are_shown_without_what_reviews_say(system: System, shop: Shop) -> None:
    sku = shop.product(units=5)
    shop.caught_up()
    with not_built_yet(system, "reviews"):
        one, several = shop.http.get(f"/v1/products/{sku}"), shop.http.get("/v1/products")
    for answer in (one, several):
        assert (answer.status_code, answer.headers["Degraded"]) == (200, "reviews")
    assert (one.json()["rating"], one.json()["stock"]["available"]) == (None, 5)
    assert "Degraded" not in shop.http.get(f"/v1/products/{sku}").headers


def test_an_order_is_priced_while_nobody_tells_of_prices(system: System, shop: Shop) -> None:
    """The price is that of the gateway's own read model: who asks nobody needs no fallback."""
    sku = shop.product(units=5, price_cents=1_250)
    shop.caught_up()
    with frozen(system, "projections"):
        placed = shop.place(sku, 2)
    assert placed["total_cents"] == 2_500
