"""Orders of every kind, each with a fate drawn by chance: placed by clients that repeat what fails, changed on their
way, while parts die and the provider behaves as it likes; and in the end carried to where nothing is expected any more.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sized
from contextlib import suppress
from typing import Literal

import httpx
from msgspec import Struct

from tests.journeys.test_crashes import pid_of
from tests.system import HELD, Json, Shop, System, is_settled, order_of, until, waits_for_the_carrier

PAYMENTS = (
    *("tok_ok",) * 6,
    *("tok_declined", "4000000000009995"),
    *("tok_lost_answer", "tok_flaky", "tok_async", "tok_slow"),
)
CARRIERS = (
    *("ship_ok",) * 6,
    "ship_refused",
    "ship_later",
    "ship_later",
    "ship_lost_answer",
    "ship_flaky",
    "ship_slow",
)
VICTIMS = (
    *("commands", "projections", "processes", "customers", "queue"),
    *("provider", "carrier", "mail", "gateway worker", "broker"),
)
CLIENTS = 48
OPEN_MAX = 200
"""Orders that are yet to be paid: while there are more, no new ones are placed."""
PATIENCE_S = 180.0
"""In so long something happens."""
SPARED_S = 12.0
"""A part that dies within 10 s of its start again and again is given up, as it should be."""

Change = Literal["cancellation", "compensate", "retry", "pickup"]


class Plan(Struct, frozen=True):
    """An order, and what is done to it `times` times, so long after it was placed."""

    key: str
    body: Json
    change: Change
    times: int
    after_s: float

    @property
    def is_held(self) -> bool:
        """Whether the carrier comes when it is told to; any other has a number of its own for the parcel."""
        return bool(self.body["shipping_token"] == HELD["shipping_token"])


def plans(chance: random.Random, orders: int, skus: Collection[str], customers: Collection[str]) -> Iterator[Plan]:
    choices, people, run = list(skus), list(customers), f"{chance.getrandbits(48):012x}"
    for number in range(orders):
        body = order_of(
            chance.choice(choices),
            customer_id=chance.choice(people),
            lines=[
                {"sku": sku, "quantity": chance.randint(1, 3)}
                for sku in chance.sample(choices, chance.choice((1, 1, 2)))
            ],
            payment_token=chance.choice(PAYMENTS),
            shipping_token=chance.choice(CARRIERS),
            workflow=chance.choice(("orchestrated", "choreographed")),
        )
        changes: list[Change] = ["cancellation", "compensate", "retry"]
        if body["shipping_token"] == HELD["shipping_token"]:
            changes += ["pickup", "pickup"]
        times = chance.choice((0, 0, 0, 1, 2))
        yield Plan(
            f"{run}-{number}", body, chance.choice(changes), times, chance.choice((0.0, 0.3, 1.0)) * chance.random()
        )


async def carry_out(system: System, todo: Iterator[Plan], placed: dict[str, Plan], clients: int = CLIENTS) -> None:
    """Note what was placed by the orders' ids. Each client does one after the other, and repeats under the same key
    what was not answered for good."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(**system.options("admin", "admin-1"), limits=limits) as http:
        room = asyncio.Event()

        async def client() -> None:
            for plan in todo:
                await room.wait()
                answer = await insist(http, "/v1/orders", plan.body, plan.key)
                assert answer.status_code == 201, answer.text
                order_id: str = answer.json()["order_id"]
                placed[order_id] = plan
                if plan.times:
                    await asyncio.sleep(plan.after_s)
                for number in range(plan.times):
                    answer = await change(http, order_id, plan.change, f"{plan.key}-{number}")
                    assert answer.status_code in (200, 404, 409), answer.text

        watching = asyncio.create_task(_keep_room(http, room))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(client())
        watching.cancel()
        await asyncio.wait({watching})


async def _keep_room(http: httpx.AsyncClient, room: asyncio.Event) -> None:
    """Until cancelled."""
    while True:
        with suppress(httpx.TransportError):
            answer = await http.get("/v1/reports/sales?by=status")
            if answer.is_success:
                by_status = {row["key"]: row["orders"] for row in answer.json()["rows"]}
                full = by_status.get("placed", 0) + by_status.get("reserved", 0) > OPEN_MAX
                (room.clear if full else room.set)()
        await asyncio.sleep(0.2)


async def change(http: httpx.AsyncClient, order_id: str, what: Change, key: str) -> httpx.Response:
    match what:
        case "cancellation":
            return await insist(http, f"/v1/orders/{order_id}/cancellation", {"reason": "changed my mind"}, key)
        case "pickup":
            return await insist(http, f"/v1/shipments/{order_id}/pickup", {"tracking_id": "t"}, key)
        case _:
            return await insist(http, f"/v1/processes/{order_id}/{what}", {"reason": "r"}, key)


async def insist(http: httpx.AsyncClient, path: str, body: Json, key: str) -> httpx.Response:
    """The first answer that is one."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(httpx.TransportError):
            answer = await http.post(path, json=body, headers={"Idempotency-Key": key})
            pending = answer.status_code == 409 and answer.json()["code"] == "still_running"
            if answer.status_code not in (202, 503, 504) and not pending:
                return answer
        assert time.monotonic() < deadline, f"{path} was never answered"
        await asyncio.sleep(0.1)


class Trouble:
    """Kills a part and changes the provider's mode after each so many orders, while it is entered."""

    def __init__(self, system: System, seed: int, placed: Sized, every: int = 100, pause_s: float = 3.0) -> None:
        self.kills: Counter[str] = Counter()
        self._system = system
        self._chance = random.Random(seed)
        self._placed = placed
        self._every = every
        self._pause_s = pause_s
        self._died: dict[str, float] = {}

    async def __aenter__(self) -> Trouble:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()
        await asyncio.to_thread(until, lambda: self._behave({}), "the provider, to be told to behave")

    async def _run(self) -> None:
        wanted = 0
        while True:
            await asyncio.sleep(self._pause_s)
            if len(self._placed) >= wanted:
                await asyncio.to_thread(self._kill)
                await asyncio.to_thread(self._behave, self._mood())
                wanted = len(self._placed) + self._chance.randint(1, 2 * self._every)

    def _kill(self) -> None:
        victim = self._chance.choice(VICTIMS)
        if time.monotonic() - self._died.get(victim, 0.0) < SPARED_S:
            return
        with suppress(ProcessLookupError):  # It was replaced just now.
            os.kill(pid_of(self._system, victim), signal.SIGKILL)
            self.kills[victim] += 1
        self._died[victim] = time.monotonic()

    def _mood(self) -> Json:
        chance = self._chance
        return {
            "latency_ms": chance.choice((0, 0, 20, 200)),
            "failure_share": chance.choice((0.0, 0.0, 0.3)),
            "lost_answer_share": chance.choice((0.0, 0.0, 0.3)),
            "asynchronous_share": chance.choice((0.0, 0.0, 0.5)),
            "webhook_copies": chance.choice((0, 1, 2)),
        }

    def _behave(self, mode: Json) -> bool:
        try:
            return httpx.put(f"{self._system.running.provider_url}/mode", json=mode, timeout=10.0).is_success
        except httpx.TransportError:  # It is dead at the moment, and well when it is back.
            return False


def finish(shop: Shop, placed: Mapping[str, Plan], chance: random.Random) -> list[Json]:
    """The orders once each is at its end: the carrier comes for what waits for it, or the customer has enough of it,
    and some of what was shipped is delivered."""
    left, ended = list(placed), list[Json]()
    until(lambda: shop.http.get("/readyz").status_code == 200, "readiness")
    shop.caught_up()

    def progress() -> bool:
        before, waiting = len(left), list[str]()
        for order in map(shop.order, left):
            if is_settled(order):
                ended.append(order)
                continue
            waiting.append(order["order_id"])
            if waits_for_the_carrier(order) and placed[order["order_id"]].is_held:
                path, body = chance.choice((("pickup", {"tracking_id": "t"}), ("cancellation", {"reason": "too late"})))
                whose = "shipments" if path == "pickup" else "orders"
                assert shop.http.post(f"/v1/{whose}/{order['order_id']}/{path}", json=body).status_code in (200, 409)
        left[:] = waiting
        return len(waiting) < before

    while left:
        until(progress, f"the end of {len(left)} orders", PATIENCE_S, every_s=0.2)
    for order in ended:
        if order["status"] == "shipped" and chance.random() < 0.2:
            assert shop.http.post(f"/v1/shipments/{order['order_id']}/delivery").status_code == 200
    return ended
