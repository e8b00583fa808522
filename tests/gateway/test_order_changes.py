"""An order's past and its changes: as of a moment, on its timeline, and as a stream that can be gone on with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.gateway.streams import Event, following, taken
from tests.system import HELD, Shop, order_of

LIFE = ["OrderPlaced", "OrderReserved", "OrderPaid", "OrderCancelled"]


@pytest.fixture(scope="module")
def cancelled(shop: Shop) -> str:
    """An order that was paid, then cancelled and refunded, and all is still again."""
    order_id = shop.held(shop.product(units=1, price_cents=900))["order_id"]
    assert shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}).status_code == 200
    shop.settled(order_id)
    shop.system.quiet()
    shop.caught_up()
    return str(order_id)


# -- as of ---------------------------------------------------------------------------------------------------------


def test_an_order_as_of_each_version(staff: httpx.Client, cancelled: str) -> None:
    def at(version: int) -> dict[str, Any]:
        answer = staff.get(f"/v1/orders/{cancelled}", params={"as_of": version})
        assert answer.status_code == 200, answer.text
        order: dict[str, Any] = answer.json()
        return order

    assert [(at(n)["version"], at(n)["status"]) for n in range(1, 5)] == [
        (1, "placed"),
        (2, "reserved"),
        (3, "paid"),
        (4, "cancelled"),
    ]
    assert (at(1)["paid_at"], at(1)["payment"], at(1)["captured_cents"]) == (None, None, 0)
    assert (at(3)["payment"]["status"], at(3)["captured_cents"]) == ("captured", 900)
    assert at(4)["payment"]["refunded_cents"] == 0  # The money went back a moment later.
    assert at(4)["lines"] == at(1)["lines"] == staff.get(f"/v1/orders/{cancelled}").json()["lines"]


def test_an_order_as_of_a_time(staff: httpx.Client, cancelled: str) -> None:
    now = staff.get(f"/v1/orders/{cancelled}").json()

    def status(at: datetime) -> str:
        answer = staff.get(f"/v1/orders/{cancelled}", params={"as_of": at.isoformat()})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["status"])

    times = [datetime.fromisoformat(now[f"{what}_at"]) for what in ("placed", "reserved", "paid", "cancelled")]
    assert [status(at) for at in times] == ["placed", "reserved", "paid", "cancelled"]
    assert status(times[2] - timedelta(microseconds=1)) == "reserved"
    assert status(times[3] - timedelta(microseconds=1)) == "paid"
    later = {"as_of": (times[3] + timedelta(days=1)).isoformat()}
    assert staff.get(f"/v1/orders/{cancelled}", params=later).json() == now
    before = {"as_of": (times[0] - timedelta(microseconds=1)).isoformat()}
    problem(staff.get(f"/v1/orders/{cancelled}", params=before), 404, "order_unknown")


@pytest.mark.parametrize("as_of", ["", "x", "-1", "1.5", "2026-11-21", "2026-11-21T09:30:00", "1" * 19, "9" * 65])
def test_a_moment_that_is_none_is_refused(staff: httpx.Client, cancelled: str, as_of: str) -> None:
    problem(staff.get(f"/v1/orders/{cancelled}", params={"as_of": as_of}), 422, "malformed", "query:as_of")


@pytest.mark.parametrize("version", [0, 5, 10**17])
def test_a_version_that_never_was_is_not_found(staff: httpx.Client, cancelled: str, version: int) -> None:
    answer = staff.get(f"/v1/orders/{cancelled}", params={"as_of": version})
    problem(answer, 404, "version_unknown", "query:as_of")
    assert "1 to 4" in answer.json()["detail"]


# -- the timeline --------------------------------------------------------------------------------------------------


def test_a_timeline_holds_every_commit_that_the_order_caused_anywhere(staff: httpx.Client, cancelled: str) -> None:
    timeline = staff.get(f"/v1/orders/{cancelled}/timeline").json()
    items = timeline["items"]
    assert timeline["order_id"] == cancelled
    assert {item["correlation"] for item in items} == {cancelled}
    assert {item["domain"] for item in items} >= {"orders", "checkout", "inventory", "payments", "shipping"}
    of_order = [item for item in items if item["domain"] == "orders"]
    assert [event["type"] for item in of_order for event in item["events"]] == LIFE
    assert [item["version"] for item in of_order] == [1, 2, 3, 4]
    events = {event["type"] for item in items for event in item["events"]}
    assert events >= {"StockReserved", "ItemReserved", "PaymentCaptured", "PaymentRefunded", "StockReleased"}
    assert [item["at"] for item in items] == sorted(item["at"] for item in items)


def test_every_commit_of_a_timeline_but_those_from_outside_names_its_cause(staff: httpx.Client, cancelled: str) -> None:
    items = staff.get(f"/v1/orders/{cancelled}/timeline").json()["items"]
    positions = {item["position"]: number for number, item in enumerate(items)}
    from_outside = [item["events"][0]["type"] for item in items if not item["cause"]]
    assert from_outside == ["OrderPlaced", "OrderCancelled"]
    for number, item in enumerate(items):
        if item["cause"]:
            assert positions[item["cause"]] < number  # A cause lies before its effect.
            cause = items[item["caused_by"]]
            assert (cause["position"], cause["depth"]) == (item["cause"], item["depth"] - 1)
            assert item["after_start_ms"] - cause["after_start_ms"] == pytest.approx(item["after_cause_ms"], abs=0.01)
        else:
            assert (item["caused_by"], item["depth"], item["after_cause_ms"]) == (None, 0, None)
    assert items[0]["after_start_ms"] == 0


# -- the stream ----------------------------------------------------------------------------------------------------


@contextmanager
def followed(http: httpx.Client, order_id: str, **headers: str) -> Iterator[Iterator[Event]]:
    """The events of a stream, as they come."""
    with following(http, f"/v1/orders/{order_id}/stream", headers) as events:
        yield events


PAID = [
    ("orders", "OrderReserved"),
    ("orders", "OrderPaid"),
    ("payments", "PaymentRequested"),
    ("payments", "PaymentCaptured"),
    ("shipping", "ShipmentScheduled"),
]


def test_a_stream_begins_with_the_order_and_goes_on_with_each_change(shop: Shop, staff: httpx.Client) -> None:
    order_id = shop.place(shop.product(units=1), **HELD)["order_id"]
    with followed(staff, order_id) as events:
        first = next(events)
        order = first.data["order"]
        assert (first.name, first.what, order["order_id"]) == ("order", ("", ""), order_id)
        behind = order["version"] - 1 + sum(order[part]["version"] for part in ("payment", "shipment") if order[part])
        changes = taken(events, len(PAID) - behind)
        assert {change.name for change in changes} <= {"change"}
        assert {change.what for change in changes} <= set(PAID)
        settled = changes[-1].data["order"]
        assert settled == shop.settled(order_id)
        assert changes[-1].id == "3.2.1"
        assert shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}).status_code == 200
        more = taken(events, 5)
        assert {change.what for change in more} == {
            ("orders", "OrderCancelled"),
            ("shipping", "ShipmentRecalled"),
            ("shipping", "ShipmentCancelled"),
            ("payments", "RefundRequested"),
            ("payments", "PaymentRefunded"),
        }
        assert more[-1].data["order"]["payment"]["refunded_cents"] == 1_000


def test_a_stream_goes_on_behind_the_last_event_without_a_gap_or_a_repeat(staff: httpx.Client, cancelled: str) -> None:
    with followed(staff, cancelled, **{"Last-Event-ID": "1.0"}) as events:  # As it was before there were shipments.
        whole = taken(events, 10)
    assert {event.name for event in whole} == {"change"}
    assert [event.what[1] for event in whole if event.what[0] == "orders"] == LIFE[1:]
    assert [event.what[1] for event in whole if event.what[0] == "payments"] == [
        "PaymentRequested",
        "PaymentCaptured",
        "RefundRequested",
        "PaymentRefunded",
    ]
    assert [event.what[1] for event in whole if event.what[0] == "shipping"] == [
        "ShipmentScheduled",
        "ShipmentRecalled",
        "ShipmentCancelled",
    ]
    for number, event in enumerate(whole[:-1]):  # Cut anywhere, and gone on with: what is left, and only that.
        with followed(staff, cancelled, **{"Last-Event-ID": event.id}) as events:
            assert taken(events, 9 - number) == whole[number + 1 :]


def test_each_change_of_a_stream_is_the_order_as_of_then(staff: httpx.Client, cancelled: str) -> None:
    with followed(staff, cancelled, **{"Last-Event-ID": "1.0.0"}) as events:
        for event in taken(events, 10):
            order = event.data["order"]
            as_of = staff.get(f"/v1/orders/{cancelled}", params={"as_of": order["version"]}).json()
            assert {**order, "payment": None, "shipment": None} == {**as_of, "payment": None, "shipment": None}


@pytest.mark.parametrize("last", ["x", "1", "1.", "-1.0", "1.0.", "1.0.0.0", "1" * 19 + ".0"])
def test_an_event_id_that_is_none_is_refused(staff: httpx.Client, cancelled: str, last: str) -> None:
    answer = staff.get(f"/v1/orders/{cancelled}/stream", headers={"Last-Event-ID": last})
    problem(answer, 422, "malformed", "header:Last-Event-ID")


def test_a_hundred_who_follow_one_order_all_see_it_change(shop: Shop) -> None:
    """And the gateway answers others meanwhile."""
    order_id = shop.held(shop.product(units=1))["order_id"]

    async def follow(http: httpx.AsyncClient, ready: asyncio.Semaphore) -> list[str]:
        seen: list[str] = []
        async with http.stream("GET", f"/v1/orders/{order_id}/stream") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    seen += json.loads(line[6:])["events"]
                    ready.release()
                if {"PaymentRefunded", "ShipmentCancelled"} <= set(seen):
                    return seen
        raise AssertionError(f"the stream ended after {seen}")

    async def all_of_them() -> list[list[str]]:
        ready = asyncio.Semaphore(0)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(**shop.system.options("staff", "s"), limits=limits) as http:
            following = [asyncio.create_task(follow(http, ready)) for _ in range(100)]
            for _ in following:
                await ready.acquire()
            answer = await http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"})
            assert answer.status_code == 200
            return await asyncio.gather(*following)

    life = ["OrderCancelled", "PaymentRefunded", "RefundRequested", "ShipmentCancelled", "ShipmentRecalled"]
    assert [sorted(seen) for seen in asyncio.run(all_of_them())] == [life] * 100  # Logs are not shown at one pace.


# -- who may ------------------------------------------------------------------------------------------------------

PATHS = ["{}?as_of=1", "{}/timeline", "{}/stream"]


@pytest.mark.parametrize("path", PATHS)
def test_the_past_of_an_order_is_its_customers_and_the_staffs(
    customer: httpx.Client, customer_id: str, nobody: httpx.Client, shop: Shop, cancelled: str, path: str
) -> None:
    problem(nobody.get(f"/v1/orders/{path.format(cancelled)}"), 401, "unauthenticated")
    problem(customer.get(f"/v1/orders/{path.format(cancelled)}"), 404, "order_unknown")
    body = order_of(shop.product(units=1), customer_id=customer_id)
    own = customer.post("/v1/orders", json=body)
    headers = {"Min-Position": own.headers["Position"], "Prefer": "wait=30"}
    with customer.stream("GET", f"/v1/orders/{path.format(own.json()['order_id'])}", headers=headers) as answer:
        assert answer.status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_an_order_that_is_not_there_has_no_past(staff: httpx.Client, path: str) -> None:
    problem(staff.get(f"/v1/orders/{path.format('nothing')}"), 404, "order_unknown")
    problem(staff.get(f"/v1/orders/{path.format('a.b')}"), 422, "malformed", "path:order_id")
