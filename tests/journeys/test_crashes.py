"""`kill -9` of each part while orders are placed: clients that repeat what failed find everything done exactly once.

The long form (`pytest -m long`) kills at random, round after round; the suite kills each part once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli.main import tally as group
from tests.journeys.books import balanced
from tests.system import PATIENCE_S, Shop, System, descendants, order_of, unique, until

ORDERS = 100
CLIENTS = 12
TOKENS = ("tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_lost_answer", "tok_flaky")
CARRIERS = ("ship_ok", "ship_ok", "ship_refused", "ship_lost_answer", "ship_flaky")
PARTS = {
    "commands": "--part commands",
    "projections": "--part projections",
    "processes": "--part processes",
    "customers": "--service customers",
    "queue": "--part queue",
    "provider": "main provider --port",
    "carrier": "main carrier --port",
    "mail": "main mail serve",
    "broker": "nats-server -c",
    "gateway": "main serve",
}
VICTIMS = ("commands", "projections", "processes", "provider", "carrier", "gateway worker", "broker")


@dataclass
class Placed:
    """What the clients saw."""

    orders: dict[str, str] = field(default_factory=dict)
    """The order's id by the key that it was placed under."""
    refusals: list[httpx.Response] = field(default_factory=list)
    troubles: int = 0


def pid_of(system: System, victim: str) -> int:
    """The process that is to die. An HTTP server's `worker` is the one that its supervisor runs."""
    name, _, worker = victim.partition(" ")

    def found() -> int | None:
        assert system.process is not None
        part = PARTS[name]
        pid = next((pid for pid, command in descendants(system.process.pid).items() if part in command), None)
        if pid is None or not worker:
            return pid
        return next((child for child, command in descendants(pid).items() if part in command), None)

    pid = until(found, f"a process to kill: {victim}")
    assert pid is not None
    return pid


async def place_orders(system: System, customer_id: str, sku: str, orders: int, after: Callable[[int], None]) -> Placed:
    """Clients that repeat under the same key whatever was not answered with 201. `after` hears how many are placed."""
    seen = Placed()
    numbers = iter(range(orders))
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(**system.options("staff", "staff-1"), limits=limits) as http:

        async def client() -> None:
            for number in numbers:
                body = order_of(sku, customer_id=customer_id, payment_token=TOKENS[number % len(TOKENS)])
                body |= {"shipping_token": CARRIERS[number % len(CARRIERS)]}
                key = f"{customer_id}-{number}"
                deadline = time.monotonic() + PATIENCE_S
                while key not in seen.orders:
                    assert time.monotonic() < deadline, f"order {number} was never placed"
                    try:
                        answer = await http.post("/v1/orders", json=body, headers={"Idempotency-Key": key})
                    except httpx.TransportError:
                        seen.troubles += 1
                        await asyncio.sleep(0.1)
                        continue
                    if answer.status_code == 201:
                        seen.orders[key] = answer.json()["order_id"]
                        after(len(seen.orders))
                    else:
                        seen.refusals.append(answer)
                        await asyncio.sleep(0.1)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return seen


def everything_once(shop: Shop, customer_id: str, seen: Placed, orders: int) -> None:
    """Each order is there once and settled, and the books are right."""
    for answer in seen.refusals:
        assert answer.status_code in (202, 409, 503), answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        if answer.status_code == 202:
            status = shop.http.get(answer.headers["Location"]).json()
            assert status["status"] == "done", status  # It was repeated until it was.
        else:
            assert answer.json()["code"] in ("still_running", "unavailable"), answer.text
    found = balanced(shop, customer_id)
    assert len(seen.orders) == orders
    assert sorted(order["order_id"] for order in found) == sorted(seen.orders.values())


def whole_and_rebuilt(system: System) -> None:
    """Every read model equals its rebuild, and the logs are whole."""
    rebuilt = CliRunner().invoke(group, ["rebuild", "all", "--json"], env=system.environment)
    assert rebuilt.exit_code == 0, rebuilt.output
    for name, outcome in json.loads(rebuilt.stdout).items():
        assert outcome["state"] == "done", (name, outcome)
        assert outcome["detail"].startswith("equal to the live one"), (name, outcome)
    doctor = CliRunner().invoke(group, ["doctor"], env=system.environment)
    assert (doctor.exit_code, "every log is whole" in doctor.output) == (0, True), doctor.output


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_part_is_killed_while_orders_are_placed(system: System, shop: Shop, victim: str) -> None:
    customer_id, sku = unique("customer"), shop.product(units=10_000)
    pid = pid_of(system, victim)

    def kill(placed: int) -> None:
        if placed == ORDERS // 4:
            os.kill(pid, signal.SIGKILL)

    seen = await place_orders(system, customer_id, sku, ORDERS, kill)
    await asyncio.to_thread(everything_once, shop, customer_id, seen, ORDERS)
    assert pid_of(system, victim) != pid


def test_while_nobody_handles_commands_they_are_answered_503_and_when_to_come_again(system: System, shop: Shop) -> None:
    sku = shop.product(units=10)
    until(lambda: shop.http.get("/readyz").status_code == 200, "readiness")
    assert system.process is not None
    system.process.send_signal(signal.SIGSTOP)  # Or it would be back before anybody gives up waiting for it.
    try:
        os.kill(pid_of(system, "commands"), signal.SIGKILL)
        until(lambda: "no engine owns orders" in shop.http.get("/readyz").text, "the news", every_s=0.01)
        answer = shop.http.post("/v1/orders", json=order_of(sku))
    finally:
        system.process.send_signal(signal.SIGCONT)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    until(
        lambda: shop.http.post("/v1/orders", json=order_of(sku)).status_code == 201, "somebody who handles them again"
    )


def test_after_all_that_the_logs_are_whole_and_every_read_model_equals_its_rebuild(system: System, shop: Shop) -> None:
    until(lambda: shop.http.get("/readyz").status_code == 200, "readiness")
    whole_and_rebuilt(system)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
async def test_parts_are_killed_at_random(system: System, shop: Shop, seed: int) -> None:
    """Two kills a round, of anything. A part that dies within 10 s of its start five times in a row is given up, which
    is as it should be: so a round takes at least that long."""
    began, chance = time.monotonic(), random.Random(seed)
    customer_id, sku = unique("customer"), shop.product(units=10_000)
    orders = 300
    plan = dict(
        zip(sorted(chance.sample(range(1, orders - 20), 2)), chance.sample([*VICTIMS, "gateway"], 2), strict=True)
    )

    def kill(placed: int) -> None:
        if victim := plan.pop(placed, None):
            os.kill(pid_of(system, victim), signal.SIGKILL)

    seen = await place_orders(system, customer_id, sku, orders, kill)
    await asyncio.to_thread(everything_once, shop, customer_id, seen, orders)
    await asyncio.to_thread(until, lambda: shop.http.get("/readyz").status_code == 200, "readiness")
    await asyncio.to_thread(whole_and_rebuilt, system)
    await asyncio.sleep(max(0.0, 11.0 - (time.monotonic() - began)))
