"""A burst of queued orders while parts die: what was accepted is done, once, and each status says so.

A frame whose worker was killed comes again after ten seconds, so this is a long run. That a worker which ends gives its
frames back, and that nothing is done twice, `tests/bus/test_queue.py` shows in a moment.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal

import httpx
import pytest

from tests.gateway.test_async_commands import ASYNC, accepted, settled
from tests.journeys.test_crashes import pid_of
from tests.system import Shop, System, order_of, unique, until

ORDERS = 400
CONNECTIONS = 16
ROUNDS = 5


async def burst(system: System, shop_sku: str, kill_at: int, victim: str) -> dict[str, str]:
    """Where to ask, by order. A part dies when so many are accepted. Who hears a trouble sends again, under its id."""
    places: dict[str, str] = {}
    left = iter([unique("order") for _ in range(ORDERS)])

    async def client(http: httpx.AsyncClient) -> None:
        for order_id in left:
            body = order_of(shop_sku, order_id=order_id)
            while order_id not in places:
                try:
                    answer = await http.post("/v1/orders", json=body, headers=ASYNC)
                except httpx.TransportError:
                    continue
                if answer.status_code == 202:
                    places[order_id] = accepted(answer)
                else:
                    assert answer.status_code == 503, answer.text
                    await asyncio.sleep(0.2)
            if len(places) == kill_at:
                os.kill(pid_of(system, victim), signal.SIGKILL)

    async with httpx.AsyncClient(**system.options("staff", "staff-1")) as http:
        await asyncio.gather(*(client(http) for _ in range(CONNECTIONS)))
    return places


def all_of_it_once(system: System, places: dict[str, str]) -> None:
    with httpx.Client(**system.options("staff", "staff-1")) as http:
        for order_id, where in places.items():
            status = settled(http, where).json()
            assert (status["status"], status["location"]) == ("done", f"/v1/orders/{order_id}")
    placed = [commit.aggregate for commit in system.inside.commits("orders") if commit.version == 1]
    assert len(placed) == len(set(placed))
    assert places.keys() <= set(placed)


async def _round(system: System, shop: Shop, kill_at: int, victim: str) -> None:
    sku = await asyncio.to_thread(shop.product, ORDERS)
    await asyncio.to_thread(shop.caught_up)
    pid = pid_of(system, victim)
    places = await burst(system, sku, kill_at, victim)
    assert len(places) == ORDERS
    await asyncio.to_thread(all_of_it_once, system, places)
    await asyncio.to_thread(until, lambda: pid_of(system, victim) != pid, f"another {victim}")


@pytest.mark.long
async def test_parts_are_killed_at_random_while_a_burst_waits(system: System, shop: Shop) -> None:
    chance = random.Random(int(os.environ.get("FAULT_SEED", "1")))
    for number in range(int(os.environ.get("FAULT_ROUNDS", ROUNDS))):
        victim = chance.choice(["queue", "commands", "broker"]) if number else "queue"
        await _round(system, shop, chance.randrange(1, ORDERS), victim)
