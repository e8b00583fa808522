"""What travels on the broker, as it is described: every log, and all that lies in them and is sent to them."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest

from bus.commands import Envelope, Refused, Stored, Unavailable, Unchanged, Unknown
from bus.queues.command_queue import Done, GivenUp, Queued, Rejected
from domains.inventory.messages import ReceiveStock
from gateway import compose
from gateway.contracts.docs import VERBS, messages
from tests.system import REPOSITORY, Shop, System

DOCUMENT = msgspec.json.decode(msgspec.json.encode(messages()))
GOLDEN = msgspec.json.decode((REPOSITORY / "tests/domains/golden/events.json").read_bytes())


def errors(name: str, value: object) -> list[str]:
    """What of this value the schema of this name does not say."""
    root = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return [str(error) for error in jsonschema_rs.Draft202012Validator(root).iter_errors(value)]


def references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if "$ref" in part else set()
        return own.union(*(references(each) for each in part.values()))
    return set[str]().union(*(references(each) for each in part)) if isinstance(part, list) else set()


def test_every_log_and_every_command_has_its_channel() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    for host in compose.LOGS:
        expected = {f"log.{host.name}.{{partition}}", f"log.{host.name}.epoch", f"cmd.{host.name}.{{partition}}"}
        expected |= {f"queue.{host.name}", f"parked.{host.name}", "outcome.{sequence}"}
        assert expected <= addresses
        envelope = DOCUMENT["components"]["schemas"][f"{host.name}.Envelope"]["properties"]["command"]
        assert references(envelope) == {f"#/components/schemas/{command.__name__}" for command in host.commands}
    assert {f"ctl.{verb}" for verb in VERBS} <= addresses


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


@pytest.mark.parametrize("domain", sorted(GOLDEN))
def test_every_event_that_was_ever_written_is_described(domain: str) -> None:
    for event in GOLDEN[domain]:
        commit = {"id": "1", "aggregate": "a", "version": 1, "events": [event]}
        assert not errors(f"{domain}.Commit", commit), event
        assert errors(f"{domain}.Commit", {**commit, "events": [{**event, "type": "Nothing"}]})


def test_what_lies_in_the_logs_is_what_is_described(system: System, shop: Shop) -> None:
    shop.settled(shop.place(shop.product(units=1))["order_id"])
    for name in ("orders", "inventory", "payments", "checkout", "catalogue"):
        commits = system.inside.commits(name)
        assert commits
        for commit in commits:
            assert not errors(f"{name}.Commit", msgspec.to_builtins(commit))


def test_frames_and_answers_are_what_is_described() -> None:
    command = msgspec.Raw(msgspec.json.encode(ReceiveStock("mug", "r-1", 10)))
    frame = json.loads(msgspec.json.encode([Envelope("id-1", 1.5, command, expect=3)]))
    assert not errors("inventory.Frame", frame)
    frame[0]["command"]["quantity"] = 0
    assert errors("inventory.Frame", frame)
    queued = json.loads(msgspec.json.encode([Queued("id-1", command, expect=3, location="/v1/stock/mug")]))
    assert not errors("inventory.QueuedFrame", queued)
    parked = {"queued": queued[0], "place": "7.0", "at": 1.5, "error": "a defect"}
    assert not errors("inventory.Parked", parked)
    queued[0]["command"]["quantity"] = 0
    assert errors("inventory.QueuedFrame", queued)
    assert errors("inventory.Parked", parked)
    outcomes = [Done(2, 1, "/v1/stock/mug"), Rejected("no"), GivenUp("a defect")]
    assert not errors("Outcomes", json.loads(msgspec.json.encode(outcomes)))
    answers = [Stored(2, 1, msgspec.Raw(b"[]")), Unchanged(2, 1), Refused("no"), Unavailable("later"), Unknown("who")]
    assert not errors("Answers", json.loads(msgspec.json.encode(answers)))
    assert errors("Answers", [{"outcome": "stored"}])


def test_it_is_served_and_has_a_page_from_here(nobody: httpx.Client) -> None:
    answer = nobody.get("/schema/asyncapi.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT
    page = nobody.get("/docs/messages")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "://" not in page.text
    assert "<script" not in page.text
    anchors = set(re.findall(r'id="([^"]+)"', page.text))
    linked = set(re.findall(r'href="#([^"]+)"', page.text))
    assert linked <= anchors
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= anchors
    assert {"log.orders", "cmd.orders"} <= anchors
