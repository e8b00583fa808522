"""Services: who is there and who owns what, over HTTP and on the command line."""

from __future__ import annotations

import asyncio
import json

import httpx
from nats.aio.msg import Msg
from nats.micro.service import ServiceInfo

from bus.commands import command_subject
from bus.presence import Owned, Worker
from bus.servers.connection import close, connect
from gateway.compose import DOMAINS, LOGS
from gateway.views.services import services_of
from tests.gateway.asserts import problem
from tests.system import PATIENCE_S, System, tally, until


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

    addresses = {
        each["parts"][0]: [at["address"] for at in each["offers"]]
        for each in staff.get("/v1/services").json()["services"]
    }
    assert addresses.pop("gateway") == [system.running.http_url]
    assert addresses.pop("states") == [f"state.customers.{customers['id']}"]
    assert addresses.pop("grpc") == [system.running.grpc_address]
    assert not any(addresses.values())

    told = tally(system.folder, "services", "--json")
    assert told.returncode == 0, told.stderr
    same = json.loads(told.stdout)
    assert same["services"] == found["services"]
    assert [each["token"] for each in same["partitions"]] == [each["token"] for each in found["partitions"]]
    shown = tally(system.folder, "services")
    assert shown.returncode == 0, shown.stderr
    assert "orders/0" in shown.stdout
    assert str(commands["id"]) in shown.stdout


def test_every_process_answers_the_micro_protocol(staff: httpx.Client, system: System) -> None:
    there = {each["id"]: each["parts"][0] for each in staff.get("/v1/services").json()["services"]}
    found = asyncio.run(_asked(system.running.nats_url, len(there)))
    assert {each.id: each.name for each in found} == {name: f"tally-{part}" for name, part in there.items()}
    (commands,) = (each for each in found if each.name == "tally-commands")
    subjects = {endpoint.subject for endpoint in commands.endpoints}
    assert subjects == {command_subject(domain.name, 0) for domain in DOMAINS}


async def _asked(url: str, wanted: int) -> list[ServiceInfo]:
    """What those who are there say of themselves, as `nats micro info` asks."""
    client = await connect(url, "tests")
    told: asyncio.Queue[ServiceInfo] = asyncio.Queue()

    async def arrived(message: Msg) -> None:
        told.put_nowait(ServiceInfo.from_dict(json.loads(message.data)))

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=arrived)
    await client.publish("$SRV.INFO", reply=inbox)
    async with asyncio.timeout(PATIENCE_S):
        found = [await told.get() for _ in range(wanted)]
    await close(client)
    return found


def test_who_is_there_is_for_staff(customer: httpx.Client, nobody: httpx.Client) -> None:
    problem(customer.get("/v1/services"), 403, "forbidden")
    problem(nobody.get("/v1/services"), 401, "unauthenticated")
