"""Parked keys over HTTP and on the command line: an order that its summary cannot take, because its place is taken."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import tally as group
from projections.files import ReadModelFiles
from tests.gateway.asserts import problem
from tests.system import HELD, Shop, System, unique, until

MODEL = "order_summary"


@contextmanager
def by_hand(system: System) -> Iterator[sqlite3.Connection]:
    live = ReadModelFiles(system.settings.read_models).live(MODEL)
    assert live is not None
    with closing(sqlite3.connect(live, timeout=10)) as connection, connection:
        yield connection


def take_its_place(system: System, order_id: str) -> None:
    with by_hand(system) as connection:
        columns = connection.execute("SELECT name, type FROM pragma_table_info('order_summary')").fetchall()
        row = [order_id if name == "order_id" else "" if kind == "TEXT" else 0 for name, kind in columns]
        connection.execute(f"INSERT INTO order_summary VALUES ({', '.join('?' * len(row))})", row)


def make_room(system: System, order_id: str) -> None:
    with by_hand(system) as connection:
        connection.execute("DELETE FROM order_summary WHERE order_id = ?", (order_id,))


def run(system: System, *arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments), env=system.environment)


def parked(staff: httpx.Client, order_id: str) -> dict[str, Any] | None:
    items = staff.get("/v1/parked").raise_for_status().json()["items"]
    return next((item for item in items if item["key"] == order_id), None)


@pytest.fixture
def stuck(system: System, shop: Shop, staff: httpx.Client) -> Iterator[dict[str, Any]]:
    """A settled order that its summary cannot show: three commits wait."""
    order_id = unique("order")
    take_its_place(system, order_id)
    shop.place(shop.product(units=1), order_id=order_id, customer_id=unique("customer"), **HELD)
    assert shop.settled(order_id)["status"] == "paid"  # Its other read models go on.

    def all_of_it() -> dict[str, Any] | None:
        found = parked(staff, order_id)
        return found if found is not None and found["commits"] == 3 else None

    yield until(all_of_it, "the parked order")
    if parked(staff, order_id) is not None:
        make_room(system, order_id)
        assert run(system, "redrive", order_id).exit_code == 0


def test_a_parked_key_is_told_wherever_health_is_told(
    system: System, staff: httpx.Client, nobody: httpx.Client, stuck: dict[str, Any]
) -> None:
    assert (stuck["read_model"], stuck["stream"]) == (MODEL, "orders")
    assert stuck["error"] == "IntegrityError: UNIQUE constraint failed: order_summary.order_id"

    def warned() -> dict[str, Any] | None:
        ready = nobody.get("/readyz")
        assert ready.status_code == 200  # All else is served.
        return ready.json() if "warnings" in ready.json() else None

    assert until(warned, "the warning")["warnings"] == [
        "the read model order_summary has 1 keys parked: `tally parked` shows them"
    ]
    text = nobody.get("/metrics").text
    assert f'tally_projection_parked_keys{{name="{MODEL}"}} 1.0' in text
    assert f'tally_projection_parked_commits{{name="{MODEL}"}} 3.0' in text
    shown = staff.get(f"/v1/projections/{MODEL}").json()
    assert (shown["state"], shown["parked_keys"], shown["parked_commits"]) == ("live", 1, 3)
    assert "1 keys, 3 commits" in run(system, "projections").output
    listed = run(system, "parked")
    assert listed.exit_code == 0
    for words in (stuck["key"], f"orders={stuck['sequence']}.{stuck['offset']}", "UNIQUE constraint failed"):
        assert words in listed.output
    assert stuck in json.loads(run(system, "parked", "--json").output)["items"]


def test_a_parked_key_is_redriven_once_it_can_be_handled(
    system: System, shop: Shop, admin: httpx.Client, stuck: dict[str, Any]
) -> None:
    order_id, path = stuck["key"], f"/v1/parked/{stuck['id']}/redrive"
    failing = {"redriven": 0, "left": 3, "error": stuck["error"]}
    answer = admin.post(path)
    assert (answer.status_code, answer.json()) == (200, failing)
    again = run(system, "redrive", order_id)
    assert again.exit_code == 1
    assert f"0 commits of {order_id} redriven, 3 left; the first of them fails: IntegrityError" in again.output
    make_room(system, order_id)
    assert admin.post(path, params={"dry_run": "true"}).json() == {"redriven": 3, "left": 0, "error": ""}
    dry = run(system, "redrive", order_id, "--dry-run", "--in", MODEL)
    assert (dry.exit_code, "3 commits" in dry.output) == (0, True)
    assert json.loads(run(system, "redrive", order_id, "--json").output) == {
        MODEL: {"redriven": 3, "left": 0, "error": ""}
    }
    of_customer = {"customer_id": shop.order(order_id)["customer_id"]}
    (shown,) = admin.get("/v1/orders", params=of_customer).json()["items"]
    assert (shown["order_id"], shown["status"], shown["version"]) == (order_id, "paid", 3)
    problem(admin.post(path), 404, "parked_unknown")
    gone = run(system, "redrive", order_id)
    assert (gone.exit_code, f"nothing of {order_id} is parked" in gone.output) == (1, True)


@pytest.mark.parametrize("how", ["http", "command line"])
def test_what_cannot_be_handled_is_discarded_with_a_reason(
    system: System, admin: httpx.Client, stuck: dict[str, Any], how: str
) -> None:
    order_id, path = stuck["key"], f"/v1/parked/{stuck['id']}/discard"
    make_room(system, order_id)
    if how == "http":
        body = {"sequence": stuck["sequence"], "offset": stuck["offset"], "reason": "a test"}
        problem(admin.post(path, json={**body, "sequence": stuck["sequence"] + 1}), 409, "not_parked")
        problem(admin.post(path, json={**body, "reason": ""}), 422, "malformed")
        assert admin.post(path, json=body).json() == {"redriven": 2, "left": 0, "error": ""}
        problem(admin.post(path, json=body), 404, "parked_unknown")
    else:
        assert run(system, "discard", order_id).exit_code == 2
        assert run(system, "discard", order_id, "--in", "stock", "--reason", "a test").exit_code == 1
        done = run(system, "discard", order_id, "--reason", "a test")
        assert (done.exit_code, "2 commits" in done.output) == (0, True), done.output
    assert parked(admin, order_id) is None
    rebuilt = run(system, "rebuild", MODEL)  # Which leaves it out as well.
    assert (rebuilt.exit_code, "equal to the live one" in rebuilt.output) == (0, True), rebuilt.output


def test_parked_keys_are_staffs_and_what_becomes_of_them_admins(
    customer: httpx.Client, staff: httpx.Client, nobody: httpx.Client
) -> None:
    body = {"sequence": 2, "offset": 0, "reason": "a test"}
    problem(nobody.get("/v1/parked"), 401, "unauthenticated")
    problem(customer.get("/v1/parked"), 403, "forbidden")
    problem(staff.post("/v1/parked/nothing/redrive"), 403, "forbidden")
    problem(staff.post("/v1/parked/nothing/discard", json=body), 403, "forbidden")


def test_what_is_not_parked_is_404(admin: httpx.Client) -> None:
    problem(admin.post("/v1/parked/nothing/redrive"), 404, "parked_unknown")
    body = {"sequence": 2, "offset": 0, "reason": "a test"}
    problem(admin.post("/v1/parked/nothing/discard", json=body), 404, "parked_unknown")
