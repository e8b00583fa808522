"""Points over HTTP: for what was paid, without what was cancelled."""

from __future__ import annotations

import httpx

from tests.gateway.asserts import problem
from tests.system import HELD, Shop, unique


def settled(shop: Shop, *order_ids: str) -> None:
    """All that follows from the orders is done and shown."""
    for order_id in order_ids:
        shop.settled(order_id)
    shop.system.quiet()
    shop.caught_up()


def test_a_customer_has_points_for_what_it_paid(customer: httpx.Client, shop: Shop, customer_id: str) -> None:
    path = f"/v1/loyalty/{customer_id}"
    none = {"customer_id": customer_id, "points": 0, "earned": 0, "returned": 0}
    assert customer.get(path).json() == none
    sku = shop.product(units=5, price_cents=1_250)
    tokens = ("tok_ok", "tok_ok", "tok_declined")
    orders = [shop.place(sku, 1, customer_id=customer_id, payment_token=token, **HELD)["order_id"] for token in tokens]
    settled(shop, *orders)
    paid = customer.get(path)
    assert paid.json() == {**none, "points": 24, "earned": 24}
    assert customer.get(path, headers={"If-None-Match": paid.headers["ETag"]}).status_code == 304

    assert customer.post(f"/v1/orders/{orders[0]}/cancellation", json={"reason": "no more"}).status_code == 200
    settled(shop, orders[0])
    after = customer.get(path, headers={"If-None-Match": paid.headers["ETag"]})
    assert after.json() == {**none, "points": 12, "earned": 24, "returned": 12}


def test_points_are_the_customers_own_and_the_staffs_business(
    customer: httpx.Client, staff: httpx.Client, nobody: httpx.Client
) -> None:
    path = f"/v1/loyalty/{unique('other')}"
    assert staff.get(path).json()["points"] == 0
    problem(customer.get(path), 403, "forbidden")
    problem(nobody.get(path), 401, "unauthenticated")
    problem(staff.get("/v1/loyalty/a.b"), 422, "malformed", "path:customer_id")
