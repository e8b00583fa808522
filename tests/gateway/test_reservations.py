"""Reservations over HTTP: as the checkout makes them, by the staff's hand, and the same as over gRPC."""

from __future__ import annotations

import httpx

from tests.gateway.asserts import problem
from tests.system import PATIENCE_S, Json, Shop, unique, until


def wanted(sku: str, quantity: int, order_id: str = "") -> Json:
    body: Json = {"items": [{"sku": sku, "quantity": quantity}]}
    return {**body, "order_id": order_id} if order_id else body


def status_of(http: httpx.Client, order_id: str) -> str:
    return str(http.get(f"/v1/reservations/{order_id}").json().get("status", ""))


def test_stock_is_reserved_once_and_released(shop: Shop, staff: httpx.Client, admin: httpx.Client) -> None:
    sku, order_id = shop.product(units=5), unique("order")
    problem(staff.get(f"/v1/reservations/{order_id}"), 404, "reservation_unknown")
    first = staff.post("/v1/reservations", json=wanted(sku, 3, order_id))
    assert (first.status_code, first.json()) == (201, {"order_id": order_id, "status": "reserved"})
    again = staff.post("/v1/reservations", json=wanted(sku, 3, order_id))
    assert again.headers["Position"] == first.headers["Position"]
    problem(staff.post("/v1/reservations", json=wanted(sku, 2, order_id)), 409, "reservation_differs")
    assert admin.post("/v1/reservations", json=wanted(sku, 3, order_id)).status_code == 201  # It is so already.
    level = staff.get(f"/v1/stock/{sku}", headers={"Min-Position": first.headers["Position"]}).json()
    assert (level["reserved"], level["available"]) == (3, 2)
    assert status_of(staff, order_id) == "reserved"
    released = staff.post(f"/v1/reservations/{order_id}/release", json=wanted(sku, 3))
    assert (released.status_code, released.json()["status"]) == (200, "released")
    until(lambda: status_of(staff, order_id) == "released", "the release", PATIENCE_S)
    problem(
        admin.post("/v1/reservations", json=wanted(sku, 3, order_id), headers={"Idempotency-Key": "again"}),
        409,
        "reservation_over",
    )


def test_too_little_stock_is_the_orders_answer_for_good(shop: Shop, staff: httpx.Client) -> None:
    sku, order_id = shop.product(units=1), unique("order")
    for _ in range(2):
        problem(staff.post("/v1/reservations", json=wanted(sku, 2, order_id)), 409, "out_of_stock", "/items")
    problem(staff.post(f"/v1/reservations/{unique('order')}/release", json=wanted(sku, 2)), 409, "nothing_reserved")
    problem(staff.post("/v1/reservations", json={"order_id": order_id, "items": []}), 422, "malformed", "/items")


def test_one_that_nobody_waits_for_says_where_it_is_to_be_seen(shop: Shop, staff: httpx.Client) -> None:
    sku, order_id = shop.product(units=1), unique("order")
    answer = staff.post("/v1/reservations", json=wanted(sku, 1, order_id), headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    done = until(lambda: _done(staff, answer.headers["Location"]), "the reservation")
    assert done["location"] == f"/v1/reservations/{order_id}"
    until(lambda: status_of(staff, order_id) == "reserved", "the reservation", PATIENCE_S)


def test_it_is_for_the_staff(customer: httpx.Client) -> None:
    problem(customer.post("/v1/reservations", json=wanted("s", 1, "o")), 403, "forbidden")
    problem(customer.get("/v1/reservations/o"), 403, "forbidden")


def _done(http: httpx.Client, location: str) -> Json | None:
    status: Json = http.get(location).json()
    return status if status["status"] == "done" else None
