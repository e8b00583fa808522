"""The list of processes over HTTP and on the command line."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Shop, System, tally, unique


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
    assert (done["process"], done["state"], done["event"]) == ("checkout", "completed", "OrderShipped")
    assert done["commands"] == ["SendOrderConfirmation"]
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


# -- an admin's hand ---------------------------------------------------------------------------------------------------


def advanced(shop: Shop, order_id: str) -> list[tuple[str, str, str]]:
    """What a checkout was told by people: what, by whom, why."""
    shop.system.quiet()
    return [
        (event["input"]["type"], commit.actor, event["input"]["reason"])
        for commit in shop.system.inside.commits("checkout")
        for event in commit.events
        if commit.aggregate == order_id and event["input"]["type"] in ("RetryStep", "SkipStep", "Compensate")
    ]


def test_a_checkout_is_tried_again_then_given_up_and_who_and_why_is_kept(admin: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=1)
    order_id = shop.held(sku)["order_id"]
    parcels = shop.system.parcels()
    key = {"Idempotency-Key": unique("key")}
    for _ in range(2):
        retried = admin.post(f"/v1/processes/{order_id}/retry", json={"reason": "ask the carrier"}, headers=key)
        assert (retried.status_code, retried.json()) == (200, {"process_id": order_id, "version": 4})
        assert retried.headers["Position"].startswith("checkout=")
    shop.system.quiet()
    assert shop.system.parcels() == parcels  # It was asked before, and asked for no second pickup.
    assert admin.post(f"/v1/processes/{order_id}/compensate", json={"reason": "lost"}).status_code == 200
    shop.system.quiet()  # It was settled before as well: as one that is held.
    order = shop.settled(order_id)
    assert (order["status"], order["reason"], order["payment"]["status"]) == ("cancelled", "lost", "refunded")
    assert shop.stock(sku) == (1, 0, 1)
    assert advanced(shop, order_id) == [
        ("RetryStep", "admin:admin-1", "ask the carrier"),
        ("Compensate", "admin:admin-1", "lost"),
    ]
    ended = admin.post(f"/v1/processes/{order_id}/retry", json={"reason": "r"})
    problem(ended, 409, "process_ended")


def test_a_step_that_was_seen_to_otherwise_is_skipped(shop: Shop, system: System) -> None:
    sku = shop.product(units=1)
    order_id = shop.held(sku)["order_id"]
    done = tally(system.folder, "processes", "skip", order_id, "--reason", "brought by hand", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["process_id"] == order_id
    shop.system.quiet()
    shop.caught_up()
    assert shop.order(order_id)["status"] == "shipped"
    assert shop.stock(sku) == (0, 0, 0)
    ((what, who, why),) = advanced(shop, order_id)
    assert (what, who.partition(":")[0], why) == ("SkipStep", "tally", "brought by hand")
    again = tally(system.folder, "processes", "skip", order_id, "--reason", "r")
    assert (again.returncode, "process_ended" in again.stderr) == (1, True)
    assert tally(system.folder, "processes", "retry", order_id).returncode == 2


@pytest.mark.parametrize("verb", ["retry", "skip", "compensate"])
def test_a_hand_is_an_admins_and_says_why(
    admin: httpx.Client, staff: httpx.Client, nobody: httpx.Client, verb: str
) -> None:
    path = f"/v1/processes/nothing/{verb}"
    problem(nobody.post(path, json={"reason": "r"}), 401, "unauthenticated")
    problem(staff.post(path, json={"reason": "r"}), 403, "forbidden")
    problem(admin.post(path, json={"reason": "r"}), 404, "process_unknown")
    problem(admin.post(path, json={"reason": ""}), 422, "malformed", "/reason")
