"""Customers over HTTP: each sees and changes its own, staff everybody's; what is known of them can be forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import System, unique, until

ADDRESS = {"street": "Rua Augusta 1", "postal_code": "01305-000", "city": "São Paulo", "country": "BR"}
ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "phone": "+44 20 7946 0000", "address": ADDRESS}


def test_a_new_customer_is_201_and_the_same_again_200(staff: httpx.Client, customer_id: str) -> None:
    path = f"/v1/customers/{customer_id}"
    first = staff.put(path, json=ADA)
    assert first.status_code == 201
    assert first.json() == {"customer_id": customer_id, **ADA, "version": 1}
    assert first.headers["Location"] == path
    assert first.headers["ETag"] == '"1"'
    assert first.headers["Position"].startswith("customers=")
    again = staff.put(path, json=ADA)
    assert (again.status_code, again.headers["ETag"]) == (200, '"1"')
    assert again.headers["Position"] == first.headers["Position"]
    assert staff.get(path).json() == first.json()


def test_a_change_is_shown_at_once_and_what_is_left_out_is_forgotten(staff: httpx.Client, customer_id: str) -> None:
    path = f"/v1/customers/{customer_id}"
    staff.put(path, json=ADA)
    less = {"name": "Ada King", "email": "ada@example.org"}
    changed = staff.put(path, json=less)
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    found = staff.get(path, headers={"Min-Position": changed.headers["Position"]})
    assert found.json() == {"customer_id": customer_id, **less, "phone": None, "address": None, "version": 2}
    assert staff.get(path, headers={"If-None-Match": found.headers["ETag"]}).status_code == 304


def test_a_change_of_another_version_than_if_match_says_is_refused(staff: httpx.Client, customer_id: str) -> None:
    path = f"/v1/customers/{customer_id}"
    seen = staff.put(path, json=ADA).headers["ETag"]
    assert staff.put(path, json={**ADA, "name": "Ada King"}, headers={"If-Match": seen}).status_code == 200
    late = staff.put(path, json={**ADA, "name": "Augusta"}, headers={"If-Match": seen})
    problem(late, 412, "version_conflict")
    assert staff.get(path).json()["name"] == "Ada King"


def test_a_change_under_one_key_takes_effect_once(staff: httpx.Client, customer_id: str) -> None:
    path, key = f"/v1/customers/{customer_id}", {"Idempotency-Key": unique("key")}
    first = staff.put(path, json=ADA, headers=key)
    staff.put(path, json={**ADA, "name": "Ada King"})
    again = staff.put(path, json=ADA, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Position"] == first.headers["Position"]
    assert staff.get(path).json()["name"] == "Ada King"
    problem(staff.put(path, json={**ADA, "name": "x"}, headers=key), 422, "id_reused")


def test_a_customer_sees_and_changes_its_own_and_nobody_elses(
    customer: httpx.Client, staff: httpx.Client, nobody: httpx.Client, customer_id: str
) -> None:
    own, others = f"/v1/customers/{customer_id}", f"/v1/customers/{unique('customer')}"
    assert customer.put(own, json=ADA).status_code == 201
    assert customer.get(own).json()["email"] == ADA["email"]
    assert staff.put(others, json=ADA).status_code == 201
    for answer in (
        customer.get(others),
        customer.put(others, json=ADA),
        customer.delete(others),
        customer.get("/v1/customers"),
    ):
        problem(answer, 403, "forbidden")
    problem(nobody.get(own), 401, "unauthenticated")
    assert customer.delete(own).status_code == 204


def test_an_unknown_customer_is_404(staff: httpx.Client, customer_id: str) -> None:
    problem(staff.get(f"/v1/customers/{customer_id}"), 404, "customer_unknown")
    problem(staff.delete(f"/v1/customers/{customer_id}"), 404, "customer_unknown")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"email": "nobody"}, "/email"),
        ({"email": "a@b\n"}, "/email"),
        ({"email": "a@" + "b" * 300}, "/email"),
        ({"phone": "call me"}, "/phone"),
        ({"address": {**ADDRESS, "country": "Brazil"}}, "/address/country"),
        ({"address": {**ADDRESS, "city": None}}, "/address/city"),
        ({"address": {"city": "x"}}, "/address"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(
    staff: httpx.Client, customer_id: str, wrong: dict[str, object], field: str
) -> None:
    problem(staff.put(f"/v1/customers/{customer_id}", json={**ADA, **wrong}), 422, "malformed", field)
    problem(staff.get(f"/v1/customers/{customer_id}"), 404, "customer_unknown")


def test_who_is_erased_is_gone_from_every_file_and_its_orders_go_on(
    staff: httpx.Client, system: System, customer_id: str
) -> None:
    path, email = f"/v1/customers/{customer_id}", f"{unique('secret')}@example.org"
    key = {"Idempotency-Key": unique("key")}
    registered = staff.put(path, json={**ADA, "email": email}, headers=key)
    assert holding(system.folder, email), "or this test proves nothing"
    erased = staff.delete(path)
    assert (erased.status_code, erased.content) == (204, b"")
    assert erased.headers["ETag"] == '"2"'
    assert staff.delete(path).headers["Position"] == erased.headers["Position"] != registered.headers["Position"]
    problem(staff.get(path), 410, "customer_erased")
    problem(staff.put(path, json=ADA), 410, "customer_erased")
    problem(staff.put(path, json={**ADA, "email": email}, headers=key), 410, "erased_since")
    assert not holding(system.folder, email)
    events = [event for commit in system.inside.commits("customers") for event in commit.events]
    assert [event["type"] for event in events if event["customer_id"] == customer_id] == [
        "CustomerRegistered",
        "CustomerErased",
    ]


def holding(folder: Path, text: str) -> list[str]:
    """The files that hold a text anywhere: the database with its log, the broker's store, the read models, the logs."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_each_change_is_an_event_that_says_what_changed_and_not_what_it_is(
    staff: httpx.Client, system: System, customer_id: str
) -> None:
    path = f"/v1/customers/{customer_id}"
    staff.put(path, json=ADA)
    staff.put(path, json={**ADA, "name": "Ada King", "address": None})
    commits = [commit for commit in system.inside.commits("customers") if commit.aggregate == customer_id]
    assert [(commit.version, commit.events) for commit in commits] == [
        (1, [{"type": "CustomerRegistered", "customer_id": customer_id}]),
        (2, [{"type": "CustomerChanged", "customer_id": customer_id, "changed": ["name", "address"]}]),
    ]
    assert {(commit.actor, commit.correlation, commit.digest) for commit in commits} == {
        ("staff:staff-1", customer_id, "")
    }


def test_staff_list_who_there_is_by_id_with_each_change_counted_once(staff: httpx.Client) -> None:
    ids = [f"{unique('zz')}-{number}" for number in range(3)]
    position = ""
    for number, customer_id in enumerate(ids):
        for change in range(number + 1):
            position = staff.put(f"/v1/customers/{customer_id}", json={**ADA, "name": f"Ada {change}"}).headers[
                "Position"
            ]
    position = staff.delete(f"/v1/customers/{ids[1]}").headers["Position"]
    found: dict[str, dict[str, object]] = {}
    url: str | None = "/v1/customers?limit=2"
    while url:
        page = staff.get(url, headers={"Min-Position": position})
        assert page.status_code == 200, page.text
        found |= {row["customer_id"]: row for row in page.json()["items"]}
        url = page.links["next"]["url"] if "next" in page.links else None
    assert [(found[each]["status"], found[each]["version"], found[each]["changes"]) for each in ids] == [
        ("registered", 1, 0),
        ("erased", 3, 1),
        ("registered", 3, 2),
    ]
    erased = staff.get("/v1/customers?status=erased&limit=200").json()["items"]
    assert ids[1] in {row["customer_id"] for row in erased}
    assert {row["status"] for row in erased} == {"erased"}


def test_the_outbox_is_empty_when_all_is_quiet_and_measured(staff: httpx.Client, system: System) -> None:
    staff.put(f"/v1/customers/{unique('customer')}", json=ADA)

    def told() -> str:
        text = staff.get("/metrics").text
        return text if 'tally_outbox_backlog{service="customers"} 0.0' in text else ""

    text = until(told, "an empty outbox")
    assert 'tally_outbox_lag_seconds{service="customers"} 0.0' in text
    assert 'tally_outbox_published_total{service="customers"}' in text
    database = sqlite3.connect(f"{(system.folder / 'customers.db').as_uri()}?mode=ro", uri=True)
    rows = database.execute("SELECT command_id, sequence FROM outbox ORDER BY number").fetchall()
    database.close()
    assert all(sequence for _, sequence in rows)
    assert [command_id for command_id, _ in rows] == [commit.id for commit in system.inside.commits("customers")]
