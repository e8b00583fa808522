"""The list of processes over HTTP and on the command line."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop, System, tally


def test_an_admin_sees_how_each_checkout_ended(admin: httpx.Client, shop: Shop, system: System) -> None:
    sku = shop.product(units=5)
    paid = shop.settled(shop.place(sku)["order_id"])["order_id"]
    declined = shop.settled(shop.place(sku, payment_token="tok_declined")["order_id"])["order_id"]
    shop.system.quiet()
    headers = {"Min-Position": f"checkout={system.inside.heads()['checkout']}", "Prefer": "wait=30"}

    def of_status(status: str) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = {}
        params = {"status": status, "limit": "2"}
        while True:
            answer = admin.get("/v1/processes", params=params, headers=headers)
            assert answer.status_code == 200, answer.text
            found |= {each["process_id"]: each for each in answer.json()["items"]}
            if answer.json()["next"] is None:
                return found
            params["cursor"] = answer.json()["next"]

    done = of_status("done")[paid]
    assert (done["process"], done["state"], done["event"]) == ("checkout", "completed", "ShipmentPickedUp")
    assert done["commands"] == ["ShipOrder"]
    failed = of_status("failed")[declined]
    assert (failed["state"], failed["event"]) == ("failed", "PaymentDeclined")
    assert paid not in of_status("failed")

    told = tally(system.folder, "processes", "--status", "failed", "--limit", "10000", "--json")
    assert told.returncode == 0, told.stderr
    assert failed in json.loads(told.stdout)
    shown = tally(system.folder, "processes", "--limit", "10000")
    assert shown.returncode == 0, shown.stderr
    assert paid in shown.stdout


@pytest.mark.parametrize("query", ["status=nonsense", "status=", "limit=0", "limit=1000", "cursor=%21"])
def test_a_query_that_makes_no_sense_is_refused(admin: httpx.Client, query: str) -> None:
    answer = admin.get(f"/v1/processes?{query}")
    assert answer.status_code == 422, answer.text
    problem(answer, 422, "malformed", f"query:{query.partition('=')[0]}")


def test_it_is_for_admins(staff: httpx.Client, nobody: httpx.Client) -> None:
    problem(staff.get("/v1/processes"), 403, "forbidden")
    problem(nobody.get("/v1/processes"), 401, "unauthenticated")
