"""Notices over HTTP: one about each order that was shipped, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Json, Shop, tally


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


@pytest.mark.parametrize("workflow", ["orchestrated", "choreographed"])
def test_an_order_that_was_shipped_is_confirmed_once(
    staff: httpx.Client, shop: Shop, customer_id: str, workflow: str
) -> None:
    sku = shop.product(units=3)
    shipped, declined, refused = (
        shop.place(sku, customer_id=customer_id, workflow=workflow, payment_token=card, shipping_token=parcel)[
            "order_id"
        ]
        for card, parcel in (("tok_ok", "ship_ok"), ("tok_declined", "ship_ok"), ("tok_ok", "ship_refused"))
    )
    settled(shop, shipped, declined, refused)
    (notice,) = notices_of(staff, shipped)
    assert (notice["order_id"], notice["customer_id"], notice["status"]) == (shipped, customer_id, "failed")
    assert notice["reason"] == "customer_unknown"
    assert notices_of(staff, declined) == notices_of(staff, refused) == []


def test_a_customer_that_is_known_gets_a_mail(
    staff: httpx.Client, customer: httpx.Client, shop: Shop, customer_id: str
) -> None:
    address = f"{customer_id}@x.example"
    assert customer.put(f"/v1/customers/{customer_id}", json={"name": "Ada", "email": address}).status_code == 201
    order_id = shop.place(shop.product(units=1), customer_id=customer_id)["order_id"]
    settled(shop, order_id)
    (notice,) = notices_of(staff, order_id)
    assert (notice["status"], notice["reason"]) == ("sent", None)
    told = tally(shop.system.folder, "mail", "list", "--json")
    assert told.returncode == 0, told.stderr
    (mail,) = (each for each in json.loads(told.stdout) if each["recipient"] == address)
    assert mail["message_id"] == notice["message_id"]
    assert order_id in tally(shop.system.folder, "mail", "list", "--limit", "10000").stdout
    shown = json.loads(tally(shop.system.folder, "mail", "show", str(mail["number"]), "--json").stdout)
    assert "EUR 10.00" in shown["text"]
    assert "EUR 10.00" in tally(shop.system.folder, "mail", "show", str(mail["number"])).stdout


def test_mail_that_is_not_there_is_told(shop: Shop, tmp_path: Path) -> None:
    for folder, arguments, told in (
        (shop.system.folder, ("show", "999999"), "there is no mail 999999"),
        (tmp_path, ("list",), "no mailbox"),
        (tmp_path, ("show", "1"), "no mailbox"),
    ):
        asked = tally(folder, "mail", *arguments)
        assert (asked.returncode, told in asked.stderr) == (1, True), asked.stderr


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
