"""Positions where a log has several partitions: an answer names its own, and either form is waited for."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Json, Shop, System, order_of, running_system, tally, unique, until

PARTITIONS = 4


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    wanted = f"orders={PARTITIONS},checkout={PARTITIONS}"
    with running_system(tmp_path_factory.mktemp("partitions") / "data", TALLY_PARTITIONS=wanted) as system:
        yield system


@pytest.fixture(scope="module")
def shop(system: System) -> Iterator[Shop]:
    shop = Shop(system)
    yield shop
    shop.close()


def place(http: httpx.Client, body: Json, **headers: str) -> httpx.Response:
    return http.post("/v1/orders", json=body, headers=headers)


def test_a_writes_answer_names_the_partition_that_it_went_to(shop: Shop) -> None:
    sku = shop.product(units=100)
    told = [place(shop.http, order_of(sku)).headers["Position"] for _ in range(24)]
    found = [re.fullmatch(r"orders\.(\d)=(\d+)", position) for position in told]
    assert all(found), told
    assert {int(each[1]) for each in found if each} == set(range(PARTITIONS))
    receipt = {"receipt_id": unique("receipt"), "quantity": 1}
    received = shop.http.post(f"/v1/stock/{sku}/receipts", json=receipt)
    assert re.fullmatch(r"inventory=\d+", received.headers["Position"])


def test_it_is_waited_for_with_the_partition_and_without(shop: Shop) -> None:
    placed = place(shop.http, order_of(shop.product(units=10)))
    position = placed.headers["Position"]
    without = re.sub(r"\.\d", "", position)
    for wanted in (position, without, f"{position}, {without}"):
        headers = {"Min-Position": wanted, "Prefer": "wait=30"}
        assert shop.http.get(placed.headers["Location"], headers=headers).status_code == 200
    ahead = re.sub(r"=.*", "=999999", position)
    headers = {"Min-Position": ahead, "Prefer": "wait=0"}
    problem(shop.http.get(placed.headers["Location"], headers=headers), 503, "position_not_reached")


def test_what_was_queued_says_the_same(shop: Shop) -> None:
    body, key = order_of(shop.product(units=10), order_id=unique("order")), unique("key")
    queued = place(shop.http, body, **{"Idempotency-Key": key, "Prefer": "respond-async"})
    assert queued.status_code == 202

    def done() -> httpx.Response | None:
        status = shop.http.get(queued.headers["Location"])
        return status if status.json()["status"] == "done" else None

    position = until(done, "the queued order").headers["Position"]
    assert re.fullmatch(r"orders\.\d=\d+", position)
    again = place(shop.http, body, **{"Idempotency-Key": key})
    assert (again.status_code, again.headers["Position"]) == (201, position)


def test_the_command_line_names_it_too(system: System, shop: Shop) -> None:
    order_id = shop.held(shop.product(units=1))["order_id"]
    told = tally(system.folder, "processes", "retry", order_id, "--reason", "a test")
    assert re.search(r"at checkout\.\d=\d+", told.stdout), told.stdout + told.stderr
