"""Orders at random, under both workflows and with every outcome: each comes to its end, and money and stock are kept.

The long form (`just faults shop`) is of 10,000 orders (`FAULT_ORDERS`) while parts are killed (`FAULT_SEED`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.faults.figures import asked_for, tell
from tests.journeys.audit import audited
from tests.journeys.books import balanced
from tests.journeys.random_orders import Plan, Trouble, carry_out, finish, plans
from tests.journeys.test_crashes import whole_and_rebuilt
from tests.system import Json, Shop, System, tally, unique

ORDERS = 80
MANY = asked_for("FAULT_ORDERS", 10_000)
SEED = asked_for("FAULT_SEED", 1)
KNOWN = 30
"""Customers who have an address; as many have none."""


def customers(shop: Shop, number: int) -> tuple[list[str], list[str]]:
    """Those who are registered, and others."""
    known, unknown = [[unique("customer") for _ in range(number)] for _ in range(2)]
    for customer_id in known:
        body = {"name": "Ada", "email": f"{customer_id}@shop.example"}
        assert shop.http.put(f"/v1/customers/{customer_id}", json=body).status_code == 201
    return known, unknown


def checked(shop: Shop, orders: list[Json], people: list[str]) -> list[Json]:
    """The orders at the end of all."""
    found = balanced(shop, *people)
    assert {order["order_id"] for order in found} == {order["order_id"] for order in orders}
    assert {order["status"] for order in found} <= {"shipped", "delivered", "cancelled"}
    audited(shop.system, found)
    told = tally(shop.system.folder, "doctor", "books")
    assert (told.returncode, told.stdout) == (0, "the books are balanced\n")
    return found


async def test_what_was_captured_is_given_back_or_kept_by_shipped_orders(system: System, shop: Shop) -> None:
    chance = random.Random(5)
    skus = [shop.product(units=60, price_cents=100 + number) for number in range(3)] + [shop.product(units=5)]
    known, unknown = customers(shop, 2)
    people = known + unknown
    placed: dict[str, Plan] = {}
    await carry_out(system, plans(chance, ORDERS, skus, people), placed, clients=ORDERS)
    orders = await asyncio.to_thread(finish, shop, placed, chance)
    found = await asyncio.to_thread(checked, shop, orders, people)
    assert len(found) == ORDERS
    ends = Counter((order["workflow"], order["status"]) for order in found)
    assert set(ends) >= {(flow, end) for flow in ("orchestrated", "choreographed") for end in ("shipped", "cancelled")}


@pytest.mark.long
@pytest.mark.timeout(7_200)
async def test_ten_thousand_orders_while_parts_are_killed(
    system: System, shop: Shop, pytestconfig: pytest.Config
) -> None:
    chance, began = random.Random(SEED), time.monotonic()
    plenty = [shop.product(units=2 * MANY, price_cents=100 + 7 * number) for number in range(20)]
    scarce = [shop.product(units=1 + MANY // 50) for _ in range(2)]
    known, unknown = customers(shop, KNOWN)
    people = known + unknown
    placed: dict[str, Plan] = {}
    async with Trouble(system, SEED, placed) as trouble:
        await carry_out(system, plans(chance, MANY, [*plenty, *scarce], people), placed)
    placed_s = time.monotonic() - began
    orders = await asyncio.to_thread(finish, shop, placed, chance)
    settled_s = time.monotonic() - began
    found = await asyncio.to_thread(checked, shop, orders, people)
    await asyncio.to_thread(whole_and_rebuilt, system)
    ends = Counter((order["workflow"], order["status"], order["reason"] or "") for order in found)
    kills = ", ".join(f"{part} {times}" for part, times in sorted(trouble.kills.items()))
    tell(pytestconfig, f"{len(found)} orders placed in {placed_s:.0f} s, at their ends after {settled_s:.0f} s")
    tell(pytestconfig, f"{trouble.kills.total()} kills: {kills}")
    for (workflow, status, reason), number in sorted(ends.items()):
        tell(pytestconfig, f"{workflow} {status} {reason}: {number}")
    assert len(found) == MANY
