"""Notices over HTTP: one about each order that was paid, and what came of it."""

from __future__ import annotations

import httpx

from tests.gateway.asserts import problem
from tests.system import Json, Shop


def notices_of(staff: httpx.Client, order_id: str) -> list[Json]:
    answer = staff.get("/v1/notices", params={"order_id": order_id})
    assert answer.status_code == 200
    found: list[Json] = answer.json()["items"]
    return found


def settled(shop: Shop, *order_ids: str) -> None:
    """All that follows from the orders is done and shown."""
    for order_id in order_ids:
        shop.settled(order_id)
    shop.system.quiet()
    shop.caught_up()


def test_an_order_that_was_paid_is_confirmed_once(staff: httpx.Client, shop: Shop, customer_id: str) -> None:
    sku = shop.product(units=2)
    paid, declined = (
        shop.place(sku, customer_id=customer_id, payment_token=token)["order_id"]
        for token in ("tok_ok", "tok_declined")
    )
    settled(shop, paid, declined)
    (notice,) = notices_of(staff, paid)
    assert (notice["order_id"], notice["customer_id"]) == (paid, customer_id)
    assert notices_of(staff, declined) == []


def test_they_are_listed_by_page_for_staff(staff: httpx.Client, customer: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=2)
    orders = {shop.place(sku)["order_id"] for _ in range(2)}
    settled(shop, *orders)
    first = staff.get("/v1/notices", params={"limit": 1})
    assert len(first.json()["items"]) == 1
    rest = staff.get("/v1/notices", params={"limit": 200, "cursor": first.json()["next"]}).json()["items"]
    listed = [each["order_id"] for each in [*first.json()["items"], *rest]]
    assert listed == sorted(listed)
    assert orders <= set(listed)
    problem(customer.get("/v1/notices"), 403, "forbidden")
