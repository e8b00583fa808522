"""Five calls between five services (users, products, orders, inventory, payments), each in the style that fits it: does
each keep what its style promises, also while the one that it calls is away?

A whole system as `tally up` runs it. Each call is made a few times while all is well, and again while a part of the
system is frozen for some seconds (SIGSTOP), which is then let go on:

- `recommend`: products for a customer's homepage; a REST query of a read model, for many read and a little old will do.
  Frozen: whoever decides about orders and products. It is answered all the same.
- `reserve`: stock, at the checkout; gRPC with a deadline, for the caller calls often and goes on only with a yes.
  Frozen: the inventory's engine. It is told no by the deadline; asked again under its key it is done, once.
- `charge`: a card; an asynchronous command whose effect has a stable id, for it takes long, must happen, and must not
  happen twice. Frozen: the payment provider. The order is placed at once, paid later, charged once.
- `alert`: stock runs low; an event, by a work queue and mail, for nobody waits, and somebody must do it once. Frozen:
  the mail server. The reservation is answered at once; the mail comes later, once.
- `review`: on a product's page; REST queries of read models, and an asynchronous command to write one, for pages are
  read far more than written. Frozen: whoever decides about reviews. The page is answered, the review accepted, and
  there later.

Budgets: each of the shares `*_kept` is 1, `*_doubled` and `*_lost` are 0.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import httpx
from msgspec.structs import replace

from bench.plot import described, draw_bars
from bench.report import Report, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Round, Told
from bench.server import ALWAYS
from bus.calls.call import CallFailed
from bus.calls.over_grpc import GrpcTransport, grpc_call, open_channel
from bus.calls.path import CallPath
from bus.calls.policy import BreakerPolicy, CallPolicy
from bus.servers.broker import free_port
from gateway.grpc.inventory import SERVICE
from gateway.grpc.proto.tally.inventory.v1.inventory_pb2 import Item, ReserveItemsRequest
from gateway.http.tokens import Tokens
from gateway.runtime.supervisor import Supervisor, until
from gateway.runtime.up import started
from gateway.sandbox.mailbox import letters
from gateway.settings import Settings, jwt_secret

CALLS, QUICK_CALLS = 50, 10
FROZEN_CALLS = 10
FROZEN_S = 4.0
RESERVE_WITHIN_S = 1.0
PATIENCE_S = 60.0
UNITS = 10_000
LOW_AT = 5
MAILS_MAX = 1_000
NEVER = BreakerPolicy(calls_min=100_000, window_calls=100_000)
"""What a breaker is good for is seen elsewhere."""
POLICY = CallPolicy(timeout_s=RESERVE_WITHIN_S, try_timeout_s=RESERVE_WITHIN_S, retries=0, breaker=NEVER)
RECOMMEND, RESERVE, CHARGE, ALERT, REVIEW = FIVE = ("recommend", "reserve", "charge", "alert", "review")
STYLES = {
    RECOMMEND: "a REST query of a read model",
    RESERVE: "gRPC with a deadline",
    CHARGE: "an asynchronous command, its effect under a stable id",
    ALERT: "an event, by a work queue and mail",
    REVIEW: "REST for the page, an asynchronous command for the review",
}
SHORT = {RECOMMEND: "REST query", RESERVE: "gRPC", CHARGE: "async command", ALERT: "event", REVIEW: "REST queries"}
FROZEN = {
    RECOMMEND: ("commands", "processes"),
    RESERVE: ("commands",),
    CHARGE: ("provider",),
    ALERT: ("mail",),
    REVIEW: ("commands",),
}


class Kept(NamedTuple):
    """Of the calls while something was frozen: how many came out as promised, and of their effects how many were there
    too often or never."""

    calls: int
    as_promised: int
    doubled: int
    lost: int


class Site:
    """A running shop, and a member of the staff who calls."""

    def __init__(
        self, http: httpx.AsyncClient, channel: grpc.aio.Channel, settings: Settings, supervisor: Supervisor
    ) -> None:
        self.http = http
        self.settings = settings
        self._supervisor = supervisor
        self._inventory = CallPath("inventory", POLICY, GrpcTransport("inventory", channel))
        self._headers = {"Authorization": http.headers["Authorization"]}

    async def product(self, sku: str, units: int = UNITS) -> None:
        body = {"name": "Thing", "category": "things", "price_cents": 1_000, "currency": "EUR"}
        (await self.http.put(f"/v1/products/{sku}", json=body)).raise_for_status()
        receipt = {"receipt_id": f"receipt-{sku}", "quantity": units}
        (await self.http.post(f"/v1/stock/{sku}/receipts", json=receipt)).raise_for_status()

    async def place(self, order_id: str, sku: str, customer_id: str = "ann") -> bool:
        lines = [{"sku": sku, "quantity": 1}]
        body = {"order_id": order_id, "customer_id": customer_id, "currency": "EUR", "lines": lines}
        return (await self.http.post("/v1/orders", json=body)).status_code == 201

    async def order(self, order_id: str) -> dict[str, Any]:
        found = await self.http.get(f"/v1/orders/{order_id}")
        return dict(found.json()) if found.status_code == 200 else {}

    async def reserve(self, order_id: str, sku: str, quantity: int = 1) -> int:
        """The status, as HTTP has it; 0 where there was none by the deadline."""
        message = ReserveItemsRequest(order_id=order_id, items=[Item(sku=sku, quantity=quantity)])
        headers = {**self._headers, "Idempotency-Key": order_id}
        try:
            call = grpc_call(f"/{SERVICE}/ReserveItems", message.SerializeToString(), headers)
            return (await self._inventory.call(call)).status
        except CallFailed:
            return 0

    async def reserved(self, sku: str) -> int:
        return int((await self.http.get(f"/v1/stock/{sku}")).json()["reserved"])

    def charges(self) -> Counter[str]:
        """How often the provider took money for each order, by its own book."""
        with closing(sqlite3.connect(self.settings.data_dir / "provider.db")) as book:
            rows = book.execute("SELECT key FROM operation WHERE kind = 'charge' AND status = 'captured'").fetchall()
        return Counter(key.partition("-")[2] for (key,) in rows)

    @asynccontextmanager
    async def frozen(self, call: str) -> AsyncIterator[None]:
        pids = [pid for part in FROZEN[call] if (pid := self._supervisor.pid(part)) is not None]
        if len(pids) != len(FROZEN[call]):
            raise BenchmarkFailed(f"not all of {', '.join(FROZEN[call])} run")
        for pid in pids:
            os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.killpg(pid, signal.SIGCONT)


async def run(*, quick: bool, told: Told) -> tuple[Report, dict[str, str]]:
    """The report, and drawings by name."""
    calls = QUICK_CALLS if quick else CALLS
    with tempfile.TemporaryDirectory(prefix="tallystream-scenario-") as name:
        machine = environment(ALWAYS, Path(name))
        told("starting a system")
        well: dict[str, list[float]] = {}
        kept: dict[str, Kept] = {}
        async with _site(Path(name) / "data") as site:
            for call, (make, hold) in CALLS_OF.items():
                told(f"{call}: {STYLES[call]}")
                await site.product(call)
                well[call] = [await make(site, number) for number in range(calls)]
                kept[call] = await hold(site)
    results = [result(call, [Round(sum(times), times, len(times))]) for call, times in well.items()]
    for each in results:
        told(line(each))
    report = judged(Report("five-services", machine, results, quick=quick), kept)
    bars = [(f"{each.name}, {SHORT[each.name]}", each.p50_ms) for each in results]
    return report, {
        "answers": draw_bars("Five calls: ms until the caller has its answer (p50)", described(machine), bars)
    }


def judged(measured: Report, kept: dict[str, Kept]) -> Report:
    """With ratios, budgets and a verdict, all from what was seen."""
    ratios: dict[str, float] = {}
    budgets = []
    said = []
    p50 = {each.name: each.p50_ms for each in measured.results}
    for call, one in kept.items():
        ratios[f"{call}_kept"] = round(one.as_promised / one.calls, 3) if one.calls else 0.0
        ratios[f"{call}_doubled"], ratios[f"{call}_lost"] = float(one.doubled), float(one.lost)
        budgets += [
            budget(f"{call}_kept", 1.0, ratios),
            budget(f"{call}_doubled", 0.0, ratios, at_most=True),
            budget(f"{call}_lost", 0.0, ratios, at_most=True),
        ]
        away = " and ".join(FROZEN[call])
        said.append(
            f"{call}, {STYLES[call]}: {p50[call]:,.1f} ms (p50). While {away} stood still, {one.as_promised} of "
            f"{one.calls} calls came out as promised; {one.doubled} of their effects were there twice, {one.lost} not."
        )
    return replace(measured, ratios=ratios, budgets=budgets, verdict=said)


@asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[Site]:
    settings = Settings(data_dir=folder, http_port=0, grpc_port=free_port(), log_level="WARNING")
    async with started(settings, lambda line: None) as (supervisor, where):
        token = Tokens(jwt_secret(settings)).issue("admin", "bench")
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx.AsyncClient(base_url=where.http_url, headers=headers, timeout=PATIENCE_S) as http,
            open_channel(where.grpc_address) as channel,
        ):
            yield Site(http, channel, settings, supervisor)


async def _times(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    if not await work:
        raise BenchmarkFailed("a call failed while all was well: this machine is too busy")
    return time.perf_counter() - began


async def _frozen(site: Site, call: str, make: Callable[[int], Awaitable[bool]]) -> int:
    """How many of the calls came out as promised, while the part stood still for some seconds."""
    began = time.monotonic()
    async with site.frozen(call):
        fine = [await make(number) for number in range(FROZEN_CALLS)]
        await asyncio.sleep(max(0.0, began + FROZEN_S - time.monotonic()))
    return sum(fine)


async def _recommend(site: Site) -> bool:
    answer = await site.http.get("/v1/recommendations", params={"customer_id": "ann"})
    return answer.status_code == 200


async def _hold_recommend(site: Site) -> Kept:
    return Kept(FROZEN_CALLS, await _frozen(site, RECOMMEND, lambda number: _recommend(site)), 0, 0)


async def _reserve(site: Site, number: int) -> bool:
    return await site.reserve(f"reserve-{number}", RESERVE) == 200


async def _hold_reserve(site: Site) -> Kept:
    sku = f"{RESERVE}-frozen"
    await site.product(sku)

    async def told_by_the_deadline(number: int) -> bool:
        began = time.monotonic()
        status = await site.reserve(f"frozen-{number}", sku)
        return status != 200 and time.monotonic() - began < 2 * RESERVE_WITHIN_S

    fine = await _frozen(site, RESERVE, told_by_the_deadline)

    async def asked_again() -> bool:
        return all([await site.reserve(f"frozen-{number}", sku) == 200 for number in range(FROZEN_CALLS)])

    await until(asked_again, PATIENCE_S)

    async def all_there() -> bool:
        return await site.reserved(sku) >= FROZEN_CALLS

    await until(all_there, PATIENCE_S)
    there = await site.reserved(sku)
    return Kept(FROZEN_CALLS, fine, max(0, there - FROZEN_CALLS), max(0, FROZEN_CALLS - there))


async def _charge(site: Site, number: int) -> bool:
    return await site.place(f"charge-{number}", CHARGE)


async def _hold_charge(site: Site) -> Kept:
    ids = {f"frozen-charge-{number}" for number in range(FROZEN_CALLS)}
    fine = await _frozen(site, CHARGE, lambda number: site.place(f"frozen-charge-{number}", CHARGE))

    async def paid() -> bool:
        return all([(await site.order(each)).get("status") in ("paid", "shipped") for each in ids])

    await until(paid, PATIENCE_S)
    charges = await asyncio.to_thread(site.charges)
    return Kept(FROZEN_CALLS, fine, sum(charges[each] > 1 for each in ids), sum(charges[each] == 0 for each in ids))


async def _alert(site: Site, number: int) -> bool:
    return await site.reserve(f"alert-{number}", ALERT) == 200


async def _hold_alert(site: Site) -> Kept:
    skus = [f"alert-{number}" for number in range(FROZEN_CALLS)]
    for sku in skus:
        await site.product(sku, units=2 * LOW_AT)
        (await site.http.put(f"/v1/stock/{sku}/alert", json={"low_at": LOW_AT})).raise_for_status()

    async def reserved(number: int) -> bool:
        return await site.reserve(f"low-{number}", skus[number], quantity=LOW_AT + 1) == 200

    fine = await _frozen(site, ALERT, reserved)

    def mails() -> list[int]:
        subjects = Counter(letter.subject for letter in letters(site.settings.mailbox, MAILS_MAX))
        return [subjects[f"Low stock: {sku}"] for sku in skus]

    async def mailed() -> bool:
        return all(await asyncio.to_thread(mails))

    await until(mailed, PATIENCE_S)
    sent = await asyncio.to_thread(mails)
    return Kept(FROZEN_CALLS, fine, sum(n > 1 for n in sent), sum(n == 0 for n in sent))


async def _review(site: Site) -> bool:
    page = await site.http.get(f"/v1/products/{REVIEW}")
    reviews = await site.http.get(f"/v1/products/{REVIEW}/reviews")
    return page.status_code == 200 and reviews.status_code == 200


async def _hold_review(site: Site) -> Kept:
    names = [f"reader-{number}" for number in range(FROZEN_CALLS)]
    for name in names:
        await site.place(f"order-{name}", REVIEW, customer_id=name)

    async def arrived() -> bool:
        for name in names:
            if (await site.order(f"order-{name}")).get("status") == "shipped":
                await site.http.post(f"/v1/shipments/order-{name}/delivery")
        return all([(await site.order(f"order-{name}")).get("status") == "delivered" for name in names])

    if not await until(arrived, PATIENCE_S):
        raise BenchmarkFailed("goods to be reviewed did not arrive: this machine is too busy")
    await asyncio.sleep(1.0)  # The reviews hear of it by themselves.

    async def written(number: int) -> bool:
        body = {"order_id": f"order-{names[number]}", "score": 5, "text": "Good."}
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"review-{number}"}
        accepted = await site.http.post(f"/v1/products/{REVIEW}/reviews", json=body, headers=headers)
        return accepted.status_code == 202 and await _review(site)

    fine = await _frozen(site, REVIEW, written)

    async def count() -> int:
        return len((await site.http.get(f"/v1/products/{REVIEW}/reviews", params={"limit": 50})).json()["items"])

    async def all_there() -> bool:
        return await count() >= FROZEN_CALLS

    await until(all_there, PATIENCE_S)
    there = await count()
    return Kept(FROZEN_CALLS, fine, max(0, there - FROZEN_CALLS), max(0, FROZEN_CALLS - there))


Make = Callable[[Site, int], Awaitable[float]]
CALLS_OF: dict[str, tuple[Make, Callable[[Site], Awaitable[Kept]]]] = {
    RECOMMEND: (lambda site, number: _times(_recommend(site)), _hold_recommend),
    RESERVE: (lambda site, number: _times(_reserve(site, number)), _hold_reserve),
    CHARGE: (lambda site, number: _times(_charge(site, number)), _hold_charge),
    ALERT: (lambda site, number: _times(_alert(site, number)), _hold_alert),
    REVIEW: (lambda site, number: _times(_review(site)), _hold_review),
}
