"""Several gateway processes behind one port: any of them answers, and one that is killed comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.system import HELD, Shop, System, descendants, order_of, running_system, unique, until

GATEWAYS = 2


def workers_of(system: System) -> list[int]:
    """The gateway processes, without the one that keeps them."""
    assert system.process is not None
    serving = [pid for pid, command in descendants(system.process.pid).items() if "main serve" in command]
    return sorted(serving)[1:]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("gateways") / "data", TALLY_GATEWAYS=str(GATEWAYS)) as system:
        until(lambda: len(workers_of(system)) == GATEWAYS, "the gateways")
        yield system


def test_a_position_from_one_gateway_is_waited_for_at_another(system: System) -> None:
    """Each write and each read on a connection of its own, so that either process answers it; what an order reserves
    is waited for by the order's position."""
    shop = Shop(system)
    sku = shop.product(units=40)
    for number in range(1, 21):
        with httpx.Client(**system.options("staff", "staff-1")) as http:
            placed = http.post("/v1/orders", json=order_of(sku, 2, **HELD))
            assert placed.status_code == 201
        headers = {"Min-Position": placed.headers["Position"], "Prefer": "wait=30"}
        for path in (placed.headers["Location"], f"/v1/stock/{sku}"):
            with httpx.Client(**system.options("staff", "staff-1")) as http:
                answer = http.get(path, headers=headers)
            assert answer.status_code == 200, answer.text
        assert answer.json()["reserved"] == 2 * number
    shop.close()


def test_two_gateways_serve_together_and_one_that_is_killed_comes_back(system: System) -> None:
    shop = Shop(system)
    sku, customer_id = shop.product(units=1_000), unique("customer")
    workers = until(lambda: found if len(found := workers_of(system)) == GATEWAYS else None, "both gateways")
    placed = 0
    killed = False
    while placed < 40:
        body, key = order_of(sku, customer_id=customer_id), {"Idempotency-Key": f"{customer_id}-{placed}"}
        try:  # A connection for each, so that the kernel may hand it to either process.
            with httpx.Client(**system.options("staff", "staff-1")) as http:
                answer = http.post("/v1/orders", json=body, headers=key)
        except httpx.TransportError:
            assert killed, "nobody was killed yet"
            continue
        assert answer.status_code in (201, 409)
        placed += answer.status_code == 201
        if placed == 20 and not killed:
            os.kill(workers[0], signal.SIGKILL)
            killed = True
    until(lambda: len(workers_of(system)) == GATEWAYS and workers_of(system) != workers, "the killed one's successor")
    shop.caught_up()
    assert len(shop.http.get("/v1/orders", params={"customer_id": customer_id}).json()["items"]) == 40
    shop.close()
