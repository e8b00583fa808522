"""Read models over HTTP: where they stand, and their rebuilds."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bus.logs.log import EPOCH_SEQUENCE
from gateway.compose import PROJECTIONS
from tests.gateway.asserts import problem
from tests.system import Shop, until

NAMES = [projection.name for projection in PROJECTIONS]


def test_every_read_model_says_where_it_stands(staff: httpx.Client, shop: Shop) -> None:
    shop.settled(shop.place(shop.product(units=1))["order_id"])
    shop.system.quiet()
    written = {log: head if head > EPOCH_SEQUENCE else 0 for log, head in shop.system.inside.heads().items()}

    def caught_up() -> list[dict[str, Any]] | None:
        items = staff.get("/v1/projections").json()["items"]
        return items if all(item["position"] == written[item["stream"]] for item in items) else None

    items = until(caught_up, "standings at the logs' heads")
    assert [item["name"] for item in items] == NAMES
    for item in items:
        assert (item["state"], item["lag"], item["error"]) == ("live", 0, "")
        assert item["head"] == item["position"]
        assert (item["lag_events"], item["lag_s"], item["parked_keys"], item["parked_commits"]) == (0, 0.0, 0, 0)
        assert item["head_age_s"] < 10
        assert staff.get(f"/v1/projections/{item['name']}").json()["position"] == item["position"]


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuild_is_begun_shown_and_done(admin: httpx.Client, name: str) -> None:
    begun = admin.post(f"/v1/projections/{name}/rebuilds")
    assert begun.status_code == 202
    location = begun.headers["Location"]
    assert location == f"/v1/projections/{name}"

    def over() -> dict[str, Any] | None:
        rebuild: dict[str, Any] | None = admin.get(location).json()["rebuild"]
        return rebuild if rebuild and rebuild["state"] in ("done", "failed") else None

    rebuilt = until(over, "the rebuild's end")
    assert (rebuilt["state"], rebuilt["percent"]) == ("done", 100.0)
    assert rebuilt["detail"].startswith("equal to the live one")


def test_all_of_them_are_rebuilt_at_once(admin: httpx.Client) -> None:
    begun = admin.post("/v1/projections/all/rebuilds")
    assert (begun.status_code, begun.headers["Location"]) == (202, "/v1/projections")

    def over() -> list[dict[str, Any]] | None:
        rebuilds = [item["rebuild"] for item in admin.get("/v1/projections").json()["items"]]
        begun_together = len({one and one["id"] for one in rebuilds}) == 1
        over = all(one and one["state"] in ("done", "failed") for one in rebuilds)
        return rebuilds if begun_together and over else None

    rebuilds = until(over, "the rebuilds' end")
    assert {rebuild["state"] for rebuild in rebuilds} == {"done"}


def test_orders_are_placed_and_shown_while_their_read_models_are_rebuilt(admin: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=50)
    for _ in range(5):
        for name in ("order_detail", "order_summary", "stock"):
            assert admin.post(f"/v1/projections/{name}/rebuilds").status_code in (202, 409)
        placed = admin.post("/v1/orders", json={**_order(sku)})
        headers = {"Min-Position": placed.headers["Position"], "Prefer": "wait=30"}
        assert admin.get(placed.headers["Location"], headers=headers).status_code == 200
        shop.settled(placed.json()["order_id"])
    shop.caught_up()
    assert shop.stock(sku) == (45, 0, 45)


def test_an_unknown_read_model_is_404(admin: httpx.Client) -> None:
    problem(admin.get("/v1/projections/nothing"), 404, "projection_unknown")
    problem(admin.post("/v1/projections/nothing/rebuilds"), 404, "projection_unknown")


def test_read_models_are_staffs_and_their_rebuilds_admins(
    customer: httpx.Client, staff: httpx.Client, nobody: httpx.Client
) -> None:
    problem(customer.get("/v1/projections"), 403, "forbidden")
    problem(customer.get("/v1/projections/stock"), 403, "forbidden")
    problem(customer.post("/v1/projections/stock/rebuilds"), 403, "forbidden")
    problem(staff.post("/v1/projections/stock/rebuilds"), 403, "forbidden")
    problem(nobody.get("/v1/projections"), 401, "unauthenticated")
    problem(nobody.post("/v1/projections/stock/rebuilds"), 401, "unauthenticated")


def _order(sku: str) -> dict[str, Any]:
    return {"customer_id": "customer-1", "currency": "EUR", "lines": [{"sku": sku, "quantity": 1}]}
