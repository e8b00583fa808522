"""`Prefer: respond-async`: accepted at once, handled when there is somebody, told at a place of its own.

In all else it is the same command as one that is waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from msgspec import Raw

from bus.commands import encode
from bus.queues.command_queue import Queued, publish_once, queue_subject
from bus.servers.connection import close, connect
from gateway.cli.main import tally as group
from tests.gateway.asserts import problem
from tests.system import Shop, System, descendants, order_of, unique, until

ASYNC = {"Prefer": "respond-async"}


def accepted(answer: httpx.Response) -> str:
    """Where to ask."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["status"] == "pending"
    assert answer.headers["Location"] == f"/v1/commands/{answer.json()['id']}"
    return answer.headers["Location"]


def settled(http: httpx.Client, where: str) -> httpx.Response:
    """The status once it is definite."""

    def definite() -> httpx.Response | None:
        answer = http.get(where)
        assert answer.status_code == 200, answer.text
        return answer if answer.json()["status"] != "pending" else None

    return until(definite, "the outcome")


def test_an_order_is_accepted_then_done_and_there(shop: Shop, staff: httpx.Client) -> None:
    body = order_of(shop.product(units=10))
    done = settled(staff, accepted(staff.post("/v1/orders", json=body, headers=ASYNC)))
    status = done.json()
    assert status["status"] == "done"
    assert done.headers["Location"] == status["location"]
    assert done.headers["ETag"] == f'"{status["version"]}"' == '"1"'
    order = staff.get(status["location"], headers={"Min-Position": done.headers["Position"]})
    assert order.status_code == 200
    assert shop.settled(order.json()["order_id"])["status"] == "shipped"


def test_a_key_is_one_command_however_it_is_sent(shop: Shop, staff: httpx.Client) -> None:
    body, key = order_of(shop.product(units=10)), {"Idempotency-Key": unique("key")}
    done = settled(staff, accepted(staff.post("/v1/orders", json=body, headers={**key, **ASYNC})))
    waited_for = staff.post("/v1/orders", json=body, headers=key)
    assert waited_for.status_code == 201
    assert waited_for.headers["Location"] == done.headers["Location"]
    assert waited_for.headers["Position"] == done.headers["Position"]
    again = settled(staff, accepted(staff.post("/v1/orders", json=body, headers={**key, **ASYNC})))
    assert again.headers["Position"] == done.headers["Position"]
    other = {**body, "customer_id": "customer-2"}
    reused = settled(staff, accepted(staff.post("/v1/orders", json=other, headers={**key, **ASYNC})))
    shop.caught_up()
    assert len(staff.get("/v1/orders", params={"customer_id": "customer-2"}).json()["items"]) == 0
    assert reused.json()["problem"]["code"] == "id_reused"


@pytest.mark.parametrize(
    ("method", "path", "body", "location"),
    [
        ("PUT", "/v1/products/{id}", {"name": "A", "category": "b", "price_cents": 5, "currency": "EUR"}, None),
        ("PUT", "/v1/customers/{id}", {"name": "Ann", "email": "ann@example.org"}, None),
        ("DELETE", "/v1/customers/{known}", None, None),
        ("POST", "/v1/stock/{sku}/receipts", {"receipt_id": "r-1", "quantity": 3}, "/v1/stock/{sku}"),
    ],
)
def test_any_write_may_be_queued(
    shop: Shop, staff: httpx.Client, method: str, path: str, body: dict[str, Any] | None, location: str | None
) -> None:
    names = {"id": unique("id"), "sku": shop.product(), "known": unique("known")}
    known = {"name": "Ann", "email": "ann@example.org"}
    assert staff.put(f"/v1/customers/{names['known']}", json=known).status_code == 201
    done = settled(staff, accepted(staff.request(method, path.format(**names), json=body, headers=ASYNC)))
    assert done.json()["status"] == "done", done.text
    assert done.json()["location"] == (location or path).format(**names)


def test_what_the_business_refuses_is_rejected_with_its_problem(staff: httpx.Client) -> None:
    path = f"/v1/orders/{unique('order')}/cancellation"
    told = settled(staff, accepted(staff.post(path, json={"reason": "none"}, headers=ASYNC))).json()
    assert told["status"] == "rejected"
    waited_for = staff.post(path, json={"reason": "none"}).json()
    del waited_for["trace_id"]
    assert told["problem"] == waited_for
    assert told["problem"]["code"] == "order_unknown"


def test_what_can_be_known_at_once_is_refused_at_once(shop: Shop, staff: httpx.Client, customer: httpx.Client) -> None:
    problem(staff.post("/v1/orders", json=order_of("nothing"), headers=ASYNC), 422, "product_unknown", "/lines/0/sku")
    problem(staff.post("/v1/orders", json={}, headers=ASYNC), 422, "malformed")
    body = order_of(shop.product(units=1))
    problem(customer.post("/v1/orders", json=body, headers=ASYNC), 403, "forbidden")
    stale = {**ASYNC, "If-Match": '"7"'}
    sku = shop.product()
    revised = {"name": "A", "category": "b", "price_cents": 5, "currency": "EUR"}
    told = settled(staff, accepted(staff.put(f"/v1/products/{sku}", json=revised, headers=stale))).json()
    assert told["problem"]["code"] == "version_conflict"


def test_only_who_asked_may_ask_what_became_of_it(shop: Shop, staff: httpx.Client, admin: httpx.Client) -> None:
    where = accepted(staff.post("/v1/orders", json=order_of(shop.product(units=1)), headers=ASYNC))
    problem(admin.get(where), 404, "command_unknown")
    sequence = where.split(".")[1]
    problem(staff.get(where.replace(f".{sequence}.", ".1.", 1)), 404, "command_unknown")


@pytest.fixture
def frozen_worker(system: System) -> Iterator[Callable[[], None]]:
    """Nobody takes anything off the queue until it is called."""
    assert system.process is not None
    pid = next(pid for pid, command in descendants(system.process.pid).items() if "--part queue" in command)
    os.kill(pid, signal.SIGSTOP)
    yield lambda: os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)


def test_a_burst_waits_while_nobody_works_and_all_else_goes_on(
    system: System, shop: Shop, staff: httpx.Client, request: pytest.FixtureRequest
) -> None:
    sku = shop.product(units=1)
    shop.caught_up()
    go_on = request.getfixturevalue("frozen_worker")
    bodies = [{"receipt_id": unique("receipt"), "quantity": 1} for _ in range(60)]
    places = asyncio.run(_all_accepted(system, f"/v1/stock/{sku}/receipts", bodies))
    assert shop.stock(sku) == (1, 0, 1)
    assert staff.get(places[0]).json()["detail"] == "it waits in the queue"
    waited_for = staff.post(f"/v1/stock/{sku}/receipts", json={"receipt_id": unique("receipt"), "quantity": 1})
    assert waited_for.status_code == 201  # Whoever waits is not held up by those who do not.
    go_on()
    until(lambda: shop.stock(sku)[0] == len(bodies) + 2, "the burst")
    assert {settled(staff, where).json()["status"] for where in places[:: len(places) // 5]} == {"done"}


async def _all_accepted(system: System, path: str, bodies: list[dict[str, Any]]) -> list[str]:
    options = {**system.options("staff", "staff-1"), "limits": httpx.Limits(max_connections=20)}
    async with httpx.AsyncClient(**options) as http:
        return [
            accepted(one)
            for one in await asyncio.gather(*(http.post(path, json=body, headers=ASYNC) for body in bodies))
        ]


def test_a_command_that_cannot_be_dealt_with_is_parked_and_mended_where_keys_are(
    system: System, admin: httpx.Client
) -> None:
    key = unique("key")
    asyncio.run(_queue_nonsense(system, key))
    first = until(lambda: _parked(admin, key), "the parked command")
    assert (first["read_model"], first["stream"], first["commits"], first["offset"]) == ("commands", "orders", 1, 0)
    assert "no command of orders" in first["error"]
    listed = CliRunner().invoke(group, ["parked"], env=system.environment)
    assert key in listed.output, listed.output
    redrive, discard = (f"/v1/parked/{first['id']}/{verb}" for verb in ("redrive", "discard"))
    problem(admin.post(redrive, params={"dry_run": True}), 422, "malformed")
    assert admin.post(redrive).json() == {"redriven": 1, "left": 0, "error": ""}
    again = until(lambda: _parked(admin, key, but=first["id"]), "the command, parked again")
    problem(admin.post(redrive), 404, "parked_unknown")
    reason = {"sequence": again["sequence"], "offset": 0, "reason": "a test"}
    problem(admin.post(discard, json=reason), 409, "not_parked")
    gone = CliRunner().invoke(group, ["discard", key, "--reason", "a test", "--json"], env=system.environment)
    assert (gone.exit_code, json.loads(gone.output)) == (0, {"commands": {"redriven": 0, "left": 0, "error": ""}})
    assert _parked(admin, key) is None


async def _queue_nonsense(system: System, key: str) -> None:
    client = await connect(system.running.nats_url, "test")
    nonsense = Queued(unique("command"), Raw(b'{"type":"Nothing"}'), correlation=key)
    await publish_once(client, queue_subject("orders"), encode([nonsense]))
    await close(client)


def _parked(http: httpx.Client, key: str, but: str = "") -> dict[str, Any] | None:
    items = http.get("/v1/parked").raise_for_status().json()["items"]
    return next((item for item in items if item["key"] == key and item["id"] != but), None)
