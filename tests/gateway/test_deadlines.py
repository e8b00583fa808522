"""A client's deadline: what is late is not begun, and nobody waits longer than it."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop, order_of, unique

LATE = {"Deadline-Ms": "0"}
IN_TIME = {"Deadline-Ms": "60000"}


def test_what_is_late_is_not_begun(shop: Shop, staff: httpx.Client) -> None:
    order_id = unique("order")
    order = order_of(shop.product(units=1), order_id=order_id)
    problem(staff.post("/v1/orders", json=order, headers=LATE), 504, "deadline_exceeded")
    problem(staff.get(f"/v1/orders/{order_id}"), 404, "order_unknown")
    assert staff.post("/v1/orders", json=order, headers=IN_TIME).status_code == 201


@pytest.mark.parametrize("path", ["orders", "orders/nothing", "products", "stock/nothing", "recommendations"])
def test_a_question_that_is_late_is_not_begun(staff: httpx.Client, path: str) -> None:
    problem(staff.get(f"/v1/{path}", headers=LATE), 504, "deadline_exceeded")
    assert staff.get(f"/v1/{path}", headers=IN_TIME).status_code in (200, 404)


def test_a_service_that_is_asked_is_told(staff: httpx.Client, customer_id: str) -> None:
    path = f"/v1/customers/{customer_id}"
    staff.put(path, json={"name": "Ada", "email": "ada@example.org"})
    problem(staff.get(path, headers=LATE), 504, "deadline_exceeded")
    assert staff.get(path, headers=IN_TIME).status_code == 200


def test_a_position_is_waited_for_no_longer(staff: httpx.Client) -> None:
    headers = {"Deadline-Ms": "1", "Min-Position": "orders=999999999", "Prefer": "wait=30"}
    answer = staff.get("/v1/orders", headers=headers)
    problem(answer, 503, "position_not_reached")
    assert "in 0.001 s" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["soon", "-1", "1.5", ""])
def test_one_that_makes_no_sense_is_refused(staff: httpx.Client, customer_id: str, text: str) -> None:
    answer = staff.get(f"/v1/customers/{customer_id}", headers={"Deadline-Ms": text})
    problem(answer, 422, "malformed", "header:Deadline-Ms")
