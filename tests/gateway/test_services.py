"""Services: who is there and who owns what, over HTTP and on the command line."""

from __future__ import annotations

import json

import httpx

from bus.presence import Owned, Worker
from gateway.compose import LOGS
from gateway.views.services import services_of
from tests.gateway.asserts import problem
from tests.system import System, tally, until


def worker(name: str, *owns: Owned) -> Worker:
    return Worker(name, "host", 1, "", ("commands",), 0.0, "1", owns)


def test_of_two_who_say_that_they_own_it_the_later_one_does() -> None:
    former, latter = Owned("orders", 0, 7, True, 0, 3), Owned("orders", 0, 12, False)
    for workers in ([worker("a", former), worker("b", latter)], [worker("a", latter), worker("b", former)]):
        (found, nobody) = services_of(workers, {"orders": 2}).partitions
        assert (found.token, found.state) == (12, "starting")
        assert found.owner == next(each.id for each in workers if latter in each.owns)
        assert (nobody.partition, nobody.state, nobody.owner, nobody.token) == (1, "unowned", None, None)


def test_staff_see_every_process_and_the_owner_of_every_partition(staff: httpx.Client, system: System) -> None:
    def complete() -> dict[str, list[dict[str, object]]] | None:
        answer = staff.get("/v1/services")
        assert answer.status_code == 200
        found: dict[str, list[dict[str, object]]] = answer.json()
        return found if len(found["services"]) == 7 and all(each["owner"] for each in found["partitions"]) else None

    found = until(complete, "every process")
    assert sorted(part for each in found["services"] for part in each["parts"]) == [  # type: ignore[attr-defined]
        "commands",
        "gateway",
        "grpc",
        "processes",
        "projections",
        "queue",
        "states",
    ]
    (commands,) = (each for each in found["services"] if each["parts"] == ["commands"])
    assert [(each["domain"], each["partition"], each["state"]) for each in found["partitions"]] == [
        (domain.name, 0, "serving") for domain in LOGS
    ]
    (customers,) = (each for each in found["services"] if each["services"] == ["customers"])
    owners = {each["domain"]: each["owner"] for each in found["partitions"]}
    assert owners.pop("customers") == customers["id"]
    assert set(owners.values()) == {commands["id"]}
    assert all(isinstance(each["token"], int) for each in found["partitions"])

    told = tally(system.folder, "services", "--json")
    assert told.returncode == 0, told.stderr
    same = json.loads(told.stdout)
    assert same["services"] == found["services"]
    assert [each["token"] for each in same["partitions"]] == [each["token"] for each in found["partitions"]]
    shown = tally(system.folder, "services")
    assert shown.returncode == 0, shown.stderr
    assert "orders/0" in shown.stdout
    assert str(commands["id"]) in shown.stdout


def test_who_is_there_is_for_staff(customer: httpx.Client, nobody: httpx.Client) -> None:
    problem(customer.get("/v1/services"), 403, "forbidden")
    problem(nobody.get("/v1/services"), 401, "unauthenticated")
