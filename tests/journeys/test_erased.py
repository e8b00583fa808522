"""A customer is erased while orders of both workflows run: they run on and end well, nobody is mailed, and nothing that
was known of the customer is found anywhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import msgspec

from gateway.sandbox.mailbox import LETTERS_MAX, letters
from tests.journeys.books import balanced
from tests.journeys.test_crashes import pid_of
from tests.system import Json, Shop, System, unique, until


def test_orders_of_a_customer_who_is_erased_meanwhile_run_on(system: System, shop: Shop) -> None:
    sku, customer_id, secret = shop.product(units=10), unique("customer"), unique("secret").replace("-", "")
    person = {
        "name": f"Ada {secret}",
        "email": f"{secret}@shop.example",
        "phone": "+49 30 1234567",
        "address": {"street": f"{secret} Street 1", "postal_code": "10115", "city": "Berlin", "country": "DE"},
    }
    assert shop.http.put(f"/v1/customers/{customer_id}", json=person).status_code == 201
    confirmed = shop.settled(shop.place(sku, customer_id=customer_id)["order_id"])
    assert _notice(shop, confirmed["order_id"])["status"] == "sent"
    assert secret in _mailed(system)

    provider = pid_of(system, "provider worker")
    os.kill(provider, signal.SIGSTOP)
    try:
        running = [
            shop.place(sku, 2, workflow=workflow, customer_id=customer_id)["order_id"]
            for workflow in ("orchestrated", "choreographed")
        ]
        until(lambda: all(_status(shop, each) == "reserved" for each in running), "both reservations")
        assert shop.http.delete(f"/v1/customers/{customer_id}").status_code == 204
    finally:
        os.kill(provider, signal.SIGCONT)
    assert [shop.settled(each)["status"] for each in running] == ["shipped", "shipped"]
    for order_id in running:
        notice = _notice(shop, order_id)
        assert (notice["status"], notice["reason"], notice["message_id"]) == ("failed", "customer_erased", None)
        assert order_id not in _mailed(system)
    orders = balanced(shop, customer_id)
    assert len(orders) == 3
    assert shop.stock(sku) == (5, 0, 5)
    _is_forgotten(system, shop, customer_id, secret, [order["order_id"] for order in orders])


def _status(shop: Shop, order_id: str) -> object:
    """404 as long as nobody shows it."""
    return shop.http.get(f"/v1/orders/{order_id}").json()["status"]


def _notice(shop: Shop, order_id: str) -> Json:
    def settled() -> Json | None:
        items: list[Json] = shop.http.get("/v1/notices", params={"order_id": order_id}).json()["items"]
        return next((item for item in items if item["status"] != "requested"), None)

    return until(settled, f"what became of the notice of {order_id}")


def _mailed(system: System) -> str:
    """Every letter's recipient and subject."""
    kept = letters(system.settings.mailbox, LETTERS_MAX)
    return "\n".join(f"{letter.recipient} {letter.subject}" for letter in kept)


def _is_forgotten(system: System, shop: Shop, customer_id: str, secret: str, orders: list[str]) -> None:
    """In what is asked, in the logs, and in every file of ours. The mailbox is the world's, to whom we wrote before."""
    assert shop.http.get(f"/v1/customers/{customer_id}").status_code == 410
    pages = [f"/v1/orders/{order_id}{part}" for order_id in orders for part in ("", "/timeline")]
    pages += ["/v1/customers?limit=200", f"/v1/orders?customer_id={customer_id}", f"/v1/loyalty/{customer_id}"]
    for page in pages:
        answer: httpx.Response = shop.http.get(page)
        assert (answer.status_code, secret in answer.text) == (200, False), page
    for log in system.inside.heads():
        assert secret.encode() not in msgspec.json.encode(system.inside.commits(log)), log
    found = [path for path in _files(system.folder) if secret.encode() in path.read_bytes()]
    assert found == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("mail.db")]
