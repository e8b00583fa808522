"""`kill -9` of the customers service or the broker while people change what is known of them: nothing is lost, each
change is told once and in order, and the outbox is empty in the end.

The long form kills at random, round after round.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest

from tests.journeys.test_crashes import pid_of
from tests.system import PATIENCE_S, Json, System, tally, unique, until

CUSTOMERS = 8
CHANGES = 12
"""Of each customer, the first of which registers it."""
ROUNDS = 10
ROUND_S = 13.0
"""At least: a part that dies within 10 s of its start five times in a row is given up, as it should be."""


async def change(system: System, people: list[str], after: Callable[[int], None]) -> dict[str, list[Json]]:
    """Each customer changes its name again and again, repeating under the same key whatever was not answered with 200
    or 201. The answers, in their order; `after` hears how many there are."""
    answers: dict[str, list[Json]] = defaultdict(list)

    async def person(customer_id: str) -> None:
        async with httpx.AsyncClient(**system.options("customer", customer_id)) as http:
            for number in range(CHANGES):
                body = {"name": f"Name {number}", "email": f"{customer_id}@example.org"}
                deadline = time.monotonic() + PATIENCE_S
                while len(answers[customer_id]) == number:
                    assert time.monotonic() < deadline, f"change {number} of {customer_id} was never made"
                    try:
                        headers = {"Idempotency-Key": f"change-{number}"}
                        answer = await http.put(f"/v1/customers/{customer_id}", json=body, headers=headers)
                    except httpx.TransportError:
                        answer = None
                    if answer is not None and answer.status_code in (200, 201):
                        answers[customer_id].append(answer.json())
                        after(sum(map(len, answers.values())))
                    else:
                        assert answer is None or answer.status_code in (202, 409, 503), answer.text
                        await asyncio.sleep(0.05)

    await asyncio.gather(*(person(customer_id) for customer_id in people))
    return answers


def told(system: System) -> bool:
    """Whether the outbox is empty and the log holds just what it held, row by row."""
    with closing(sqlite3.connect(f"{(system.folder / 'customers.db').as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT command_id, aggregate, version, sequence FROM outbox ORDER BY number"
        ).fetchall()
    if not all(sequence for *_, sequence in rows):
        return False
    commits = system.inside.commits("customers")
    assert [(commit.id, commit.aggregate, commit.version) for commit in commits] == [row[:3] for row in rows]
    return True


def everything_once(system: System, answers: dict[str, list[Json]]) -> None:
    for customer_id, given in answers.items():
        assert [(each["name"], each["version"]) for each in given] == [
            (f"Name {number}", number + 1) for number in range(CHANGES)
        ]
        with httpx.Client(**system.options("customer", customer_id)) as http:
            assert http.get(f"/v1/customers/{customer_id}").json() == given[-1]
    until(lambda: told(system), "an empty outbox")
    with httpx.Client(**system.options("staff", "staff-1")) as http:
        head = system.inside.heads()["customers"]
        headers = {"Min-Position": f"customers={head}", "Prefer": "wait=30"}
        first = min(answers)
        shown = until(lambda: _shown(http, headers, sorted(answers)), f"{first} and the others in the list")
    assert all((row["version"], row["changes"]) == (CHANGES, CHANGES - 1) for row in shown)


def _shown(http: httpx.Client, headers: dict[str, str], people: list[str]) -> list[Json] | None:
    """Their rows of the list, which other customers may be in as well."""
    found: dict[str, Json] = {}
    url: str | None = "/v1/customers?limit=200"
    while url:
        answer = http.get(url, headers=headers)
        if answer.status_code != 200:
            return None
        found |= {row["customer_id"]: row for row in answer.json()["items"]}
        url = answer.links["next"]["url"] if "next" in answer.links else None
    return [found[each] for each in people]


@pytest.mark.parametrize("victim", ["customers", "broker"])
async def test_a_part_is_killed_while_customers_change(system: System, victim: str) -> None:
    pid = pid_of(system, victim)

    def kill(done: int) -> None:
        if done == CUSTOMERS * CHANGES // 3:
            os.kill(pid, signal.SIGKILL)

    answers = await change(system, [unique("customer") for _ in range(CUSTOMERS)], kill)
    await asyncio.to_thread(everything_once, system, answers)
    assert pid_of(system, victim) != pid


def test_after_all_that_the_list_equals_its_rebuild(system: System) -> None:
    rebuilt = tally(system.folder, "rebuild", "customer_status", "--json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "equal to the live one" in rebuilt.stdout


@pytest.mark.long
async def test_parts_are_killed_at_random_while_customers_change(system: System) -> None:
    chance = random.Random(int(os.environ.get("FAULT_SEED", "1")))
    for _ in range(int(os.environ.get("FAULT_ROUNDS", ROUNDS))):
        began, at = time.monotonic(), chance.randrange(1, CUSTOMERS * CHANGES)

        def kill(done: int, at: int = at) -> None:
            if done == at:
                os.kill(pid_of(system, chance.choice(["customers", "customers", "broker"])), signal.SIGKILL)

        answers = await change(system, [unique("customer") for _ in range(CUSTOMERS)], kill)
        await asyncio.to_thread(everything_once, system, answers)
        await asyncio.sleep(max(0.0, ROUND_S - (time.monotonic() - began)))
