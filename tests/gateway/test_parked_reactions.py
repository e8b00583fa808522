"""Reactions that were given up, over HTTP and on the command line: charges that a defective provider refuses."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import Json, Shop, System, descendants, running_system, tally, until

EFFECTS = "payment-effects"


class Provider(ThreadingHTTPServer):
    """Takes every charge, unless it is defective: then it says what no provider should, and nobody knows what it
    means."""

    defective = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Charging)


class Charging(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Provider)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        made = {"id": "ch_1", "status": "captured", "amount_cents": asked["amount_cents"]}
        self.send_response(418 if self.server.defective else 201)
        body = json.dumps(made).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        yield provider
        provider.shutdown()


@pytest.fixture(scope="module")
def system(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder: Path = tmp_path_factory.mktemp("parked") / "data"
    with running_system(folder, TALLY_PROVIDER_URL=f"http://127.0.0.1:{provider.server_port}") as system:
        yield system


@pytest.fixture(scope="module")
def shop(system: System) -> Iterator[Shop]:
    shop = Shop(system)
    yield shop
    shop.close()


@pytest.fixture
def stuck(provider: Provider, shop: Shop) -> Json:
    """What is listed of an order whose charge was given up."""
    provider.defective = True
    order_id = shop.place(shop.product(units=1))["order_id"]
    return until(lambda: parked(shop.http, order_id), "a charge that is given up")


def parked(http: httpx.Client, key: str) -> Json | None:
    items = http.get("/v1/parked").raise_for_status().json()["items"]
    return next((item for item in items if item["key"] == key), None)


def test_it_is_told_wherever_parked_keys_are(shop: Shop, system: System, stuck: Json) -> None:
    assert (stuck["read_model"], stuck["stream"], stuck["commits"]) == (EFFECTS, "payments", 1)
    assert "the provider answered 418" in stuck["error"]
    assert any("payments has given up reactions" in each for each in shop.http.get("/readyz").json()["warnings"])
    shown = tally(system.folder, "parked")
    assert shown.returncode == 0, shown.stderr
    assert EFFECTS in shown.stdout


def test_it_is_done_when_it_is_redriven_and_not_before(provider: Provider, shop: Shop, stuck: Json) -> None:
    redrive = f"/v1/parked/{stuck['id']}/redrive"
    problem(shop.http.post(f"{redrive}?dry_run=true"), 422, "malformed")
    again = shop.http.post(redrive).json()
    assert (again["redriven"], again["left"], "418" in again["error"]) == (0, 1, True)
    provider.defective = False
    assert shop.http.post(redrive).json()["left"] == 0
    assert shop.settled(stuck["key"])["status"] == "shipped"
    assert parked(shop.http, stuck["key"]) is None
    problem(shop.http.post(redrive), 404, "parked_unknown")


def test_the_command_line_redrives_and_discards_it(provider: Provider, shop: Shop, system: System, stuck: Json) -> None:
    discard = f"/v1/parked/{stuck['id']}/discard"
    elsewhere = {"sequence": stuck["sequence"] + 1, "offset": 0, "reason": "r"}
    problem(shop.http.post(discard, json=elsewhere), 409, "not_parked")
    failed = tally(system.folder, "redrive", stuck["key"], "--in", EFFECTS)
    assert (failed.returncode, "1 left" in failed.stdout) == (1, True), failed.stdout + failed.stderr
    provider.defective = False
    given_up = tally(system.folder, "discard", stuck["key"], "--reason", "charged by hand", "--json")
    assert json.loads(given_up.stdout)[EFFECTS]["left"] == 0, given_up.stderr
    assert parked(shop.http, stuck["key"]) is None
    assert shop.http.get(f"/v1/payments/{stuck['key']}").json()["status"] == "requested"


def test_who_does_not_say_what_it_gave_up_is_named(shop: Shop, system: System) -> None:
    assert system.process is not None
    pid = next(pid for pid, command in descendants(system.process.pid).items() if "--part processes" in command)
    os.kill(pid, signal.SIGSTOP)
    try:
        told = shop.http.get("/v1/parked", timeout=30).json()
        assert "payments" in told["silent"]
        unknown = shop.http.post(f"/v1/parked/reaction-payments-{'0' * 20}/redrive", timeout=30)
        problem(unknown, 503, "unavailable")
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: not shop.http.get("/v1/parked").json()["silent"], "all services")
