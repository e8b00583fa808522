"""How soon is an order settled when nothing else is under way, and how many messages does that take?

A whole system as `tally up` runs it, and one order after the other, placed over HTTP, with and without a conductor in
turns; the card is good, and the carrier comes at once. Each is waited for in the logs, so by its block on disk:

- `<workflow>_placed`: until it is answered 201, which is one message on disk: what the others are a multiple of;
- `<workflow>_paid`: until the order says so;
- `<workflow>_confirmed`: until it is shipped and its customer is to be told.

Figures: messages of all logs an order, and those of its checkout alone.

Budget: p50 of both `confirmed` at most 150 ms.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx

from bench.report import Bars, Environment, Report, budget, environment, line, ratio, result
from bench.rounds import BenchmarkFailed, Pace, Round, Told
from bench.server import ALWAYS
from bus.logs.blocks import Chain, block_decoder
from bus.logs.log import Log
from bus.servers.connection import close, connect
from domains.notifications.messages import NoticeRequested
from domains.notifications.notice import notifications
from domains.orders.messages import OrderPaid
from domains.orders.order import orders
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.runtime.up import started
from gateway.settings import Settings, jwt_secret

WORKFLOWS = ("orchestrated", "choreographed")
ORDERS, QUICK_ORDERS = 50, 15
"""Of each workflow in a round."""
WARM_UP = 5
PAUSE_S = 0.1
"""Between two orders: what follows on the one is over before the next is placed."""
TIMEOUT_S = 30.0
BESIDE = ("billing", "loyalty", "reviews")
"""What does something about an order and is no part of its checkout."""
STAGES = ("placed", "paid", "confirmed")


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as folder:
        settings = Settings(data_dir=Path(folder) / "data", http_port=0, log_level="WARNING")
        machine = environment(ALWAYS, Path(folder))
        async with started(settings, lambda line: None) as (_, where):
            client = await connect(where.nats_url, "bench")
            logs: dict[str, Log] = {**await compose.open_logs(client, settings)}
            token = Tokens(jwt_secret(settings)).issue("admin", "bench")
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=where.http_url, headers=headers, timeout=TIMEOUT_S) as http:
                settling = _Settling(http, logs)
                following = [asyncio.create_task(settling.follow(name)) for name in (orders.name, notifications.name)]
                try:
                    await settling.stock()
                    for workflow in WORKFLOWS:
                        await settling.round(workflow, WARM_UP)
                    rounds = {workflow: list[_Settled]() for workflow in WORKFLOWS}
                    for _ in range(pace.rounds):
                        for workflow in WORKFLOWS:
                            rounds[workflow].append(await settling.round(workflow, QUICK_ORDERS if quick else ORDERS))
                finally:
                    for task in following:
                        task.cancel()
                    await asyncio.wait(following)
                    await close(client)
    return _report(rounds, machine=machine, quick=quick, told=told)


class _Settled(NamedTuple):
    """A round's times by stage, and the messages an order."""

    stages: dict[str, Round]
    messages: float
    of_the_checkout: float


class _Settling:
    """Places orders one by one, and sees in the logs what becomes of them."""

    def __init__(self, http: httpx.AsyncClient, logs: Mapping[str, Log]) -> None:
        self._http = http
        self._logs = logs
        self._seen: dict[tuple[type, str], asyncio.Event] = {}
        self._number = 0

    async def stock(self) -> None:
        product = {"name": "Tea", "category": "drinks", "price_cents": 500, "currency": "EUR"}
        (await self._http.put("/v1/products/tea", json=product)).raise_for_status()
        receipt = {"receipt_id": "first", "quantity": 100_000}
        (await self._http.post("/v1/stock/tea/receipts", json=receipt)).raise_for_status()

    async def follow(self, name: str) -> None:
        log, decode = self._logs[name], block_decoder(orders.events if name == orders.name else notifications.events)
        head = await log.head()
        chain = Chain(log.epoch, whole=head == 0)
        async for records in log.read(head):
            for record in records:
                for commit in chain.follow(record, decode.decode).commits:
                    for event in commit.events:
                        if waiting := self._seen.get((type(event), commit.aggregate)):
                            waiting.set()

    async def round(self, workflow: str, n: int) -> _Settled:
        times: dict[str, array[float]] = {stage: array("d") for stage in STAGES}
        before = await self._heads()
        began = time.perf_counter()
        for _ in range(n):
            await asyncio.sleep(PAUSE_S)
            for stage, took_s in zip(STAGES, await self._one(workflow), strict=True):
                times[stage].append(took_s)
        spent_s = time.perf_counter() - began
        await asyncio.sleep(PAUSE_S)
        took = await self._heads()
        took.subtract(before)
        of_the_checkout = sum(count for name, count in took.items() if name not in BESIDE)
        stages = {stage: Round(spent_s, times[stage], n) for stage in STAGES}
        return _Settled(stages, took.total() / n, of_the_checkout / n)

    async def _one(self, workflow: str) -> tuple[float, float, float]:
        self._number += 1
        order_id = f"settle-{self._number}"
        paid, confirmed = asyncio.Event(), asyncio.Event()
        self._seen = {(OrderPaid, order_id): paid, (NoticeRequested, order_id): confirmed}
        lines = [{"sku": "tea", "quantity": 1}]
        body = {"order_id": order_id, "customer_id": "c1", "currency": "EUR", "workflow": workflow, "lines": lines}
        began = time.perf_counter()
        (await self._http.post("/v1/orders", json=body)).raise_for_status()
        placed = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await paid.wait()
                paid_at = time.perf_counter()
                await confirmed.wait()
        except TimeoutError:
            raise BenchmarkFailed(f"{order_id} was not confirmed within {TIMEOUT_S:g} s") from None
        return placed - began, paid_at - began, time.perf_counter() - began

    async def _heads(self) -> Counter[str]:
        return Counter({name: await log.head() for name, log in self._logs.items()})


def _report(rounds: Mapping[str, list[_Settled]], *, machine: Environment, quick: bool, told: Told) -> Report:
    results = [
        result(f"{workflow}_{stage}", [one.stages[stage] for one in rounds[workflow]])
        for workflow in WORKFLOWS
        for stage in STAGES
    ]
    for each in results:
        told(line(each))
    p50_ms = {each.name: each.p50_ms for each in results}
    ratios, figures = dict[str, float](), dict[str, float]()
    for workflow in WORKFLOWS:
        confirmed, placed = f"{workflow}_confirmed", f"{workflow}_placed"
        ratios[f"{confirmed}/placed_p50"] = ratio(confirmed, placed, p50_ms)
        ratios[f"{confirmed}_p50_ms"] = p50_ms[confirmed]
        figures[f"{workflow}_messages"] = median(one.messages for one in rounds[workflow])
        figures[f"{workflow}_messages_of_the_checkout"] = median(one.of_the_checkout for one in rounds[workflow])
    return Report(
        "settle",
        machine,
        results,
        ratios,
        [budget(f"{workflow}_confirmed_p50_ms", 150.0, ratios, at_most=True) for workflow in WORKFLOWS],
        figures,
        quick=quick,
        bars=[Bars("settle", "Milliseconds after an order was placed, p50", "p50_ms", [each.name for each in results])],
    )
