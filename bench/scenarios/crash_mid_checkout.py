"""Payments crash after the stock is reserved and before the charge is known: does the order come to its end by itself?

The payment worker is killed (`kill -9`) at one of five moments of an order, and started again, round after round:

- `reserved`: the stock is reserved, and the worker has done nothing about it yet (it was frozen);
- `asked`: the charge is on its way, and the provider never hears of it;
- `charged`: the provider has taken the money, and its answer gets lost with the worker;
- `answered`: the worker has the answer, and has written it down or not;
- `any`: at a random moment of the first tenth of a second.

Moment, workflow and quantity are drawn anew each round; 100 rounds, a quick run has two of each moment. Then the same
with `naive`, a shop that charges within the request (`bench/scenarios/naive_shop.py`), whose process is killed at the
moments that it has; its customer gets no answer, and orders again when it is back, as customers do.

An order has settled when it is shipped: how long after the kill is told by moment. `charges_an_order`: cards charged at
the provider for each paid order; `units_lost`: of stock, units that are neither on the shelf nor in a parcel, or are
still held.

Budgets: all orders settle, charges_an_order = 1, units_lost = 0; naive_charges_an_order >= 1.2 (customers pay twice).
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Literal, NamedTuple, assert_never, get_args

import httpx
from msgspec.structs import replace

from bench.children import Child
from bench.plot import described, draw_bars
from bench.report import Report, budget, environment, line, result
from bench.rounds import BenchmarkFailed, Round, Told
from bench.scenarios import gate
from bench.scenarios.gate import Gate
from bench.scenarios.naive_shop import DATABASE, PROVIDER
from bench.scenarios.served import served, serving
from bench.scenarios.shop_apart import ShopApart, shop_apart
from bench.server import ALWAYS

Moment = Literal["reserved", "asked", "charged", "answered", "any"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
NAIVE_MOMENTS: tuple[gate.Moment, ...] = get_args(gate.Moment)
ROUNDS, QUICK_ROUNDS = 100, 10
NAIVE_ROUNDS, QUICK_NAIVE_ROUNDS = 30, 6
SEED = 30
SKU = "mug"
QUANTITY_MAX = 3
WORKFLOWS = ("orchestrated", "choreographed")
ANY_S = 0.1
"""Within this after it was placed an order is hit at `any` moment."""
WRITES_S = 0.01
"""In about this time an answer is written down."""
MOMENT_TIMEOUT_S = 30.0
SETTLE_TIMEOUT_S = 90.0
PRICE_CENTS = 1_250
SHIPPED = "shipped"


class Crash(NamedTuple):
    """One round: what was hit, when, and what became of it."""

    moment: Moment
    quantity: int
    status: str
    took_s: float
    """From the kill to the end."""


class Books(NamedTuple):
    """What the provider and the shelf say in the end."""

    charges: int
    captured_cents: int
    on_hand: int
    reserved: int


async def run(*, quick: bool, told: Told) -> tuple[Report, dict[str, str]]:
    """The report, and drawings by name."""
    chance = random.Random(SEED)
    moments = list(MOMENTS) * 2 if quick else [chance.choice(MOMENTS) for _ in range(ROUNDS)]
    with tempfile.TemporaryDirectory(prefix="tallystream-scenario-") as name:
        folder = Path(name)
        machine = environment(ALWAYS, folder)
        received = QUANTITY_MAX * len(moments)
        async with _provider(folder / "fixed") as (provider, door, url), shop_apart(folder / "fixed", url) as shop:
            await shop.stock(SKU, received)
            crashes = [await crash(shop, door, moment, chance, told) for moment in moments]
            books = await _books(shop, provider)
        told("the same with a shop that charges within the request")
        figures = await _naive(folder / "naive", QUICK_NAIVE_ROUNDS if quick else NAIVE_ROUNDS)
    measured = Report("crash-mid-checkout", machine, [], figures=figures, quick=quick)
    report = judged(measured, crashes, books, received)
    for each in report.results:
        told(line(each))
    times = [(each.name, each.p50_ms) for each in report.results]
    title = "Payments are killed: ms until the order is shipped (p50), by moment"
    return report, {"settled": draw_bars(title, described(machine), times)}


def judged(measured: Report, crashes: list[Crash], books: Books, received: int) -> Report:
    """With results, ratios, budgets and a verdict, all from what was seen and what the naive shop came to."""
    times: dict[str, list[float]] = defaultdict(list)
    for each in crashes:
        times[each.moment].append(each.took_s)
    results = [result(moment, [Round(sum(took), took, len(took))]) for moment, took in times.items()]
    ended = [each for each in crashes if each.status == SHIPPED]
    sold = sum(each.quantity for each in ended)
    naive = measured.figures
    ratios = {
        "settled": round(len(ended) / len(crashes), 3),
        "charges_an_order": round(books.captured_cents / (sold * PRICE_CENTS), 3) if sold else 0.0,
        "units_lost": float(abs(received - sold - books.on_hand) + books.reserved),
        "naive_charges_an_order": round(naive["naive_charges"] / naive["naive_paid"], 3),
    }
    if books.charges != len(ended):
        ratios["charges_an_order"] = round(books.charges / max(1, len(ended)), 3)
    budgets = [
        budget("settled", 1.0, ratios),
        budget("charges_an_order", 1.0, ratios),
        budget("charges_an_order", 1.0, ratios, at_most=True),
        budget("units_lost", 0.0, ratios, at_most=True),
        budget("naive_charges_an_order", 1.2, ratios),
    ]
    return replace(measured, results=results, ratios=ratios, budgets=budgets, verdict=_verdict(crashes, ratios, naive))


def _verdict(crashes: list[Crash], ratios: dict[str, float], naive: dict[str, float]) -> list[str]:
    took = sorted(each.took_s for each in crashes)
    all_settle = "every order" if ratios["settled"] == 1 else f"{ratios['settled']:.0%} of orders"
    money = "each charged once" if ratios["charges_an_order"] == 1 else f"{ratios['charges_an_order']:g} charges each"
    stock = "no stock lost" if ratios["units_lost"] == 0 else f"{ratios['units_lost']:,.0f} units of stock lost or held"
    return [
        f"Without what helps, {naive['naive_hit']:,.0f} customers ordered again after a crash, and the provider has "
        f"{naive['naive_charges']:,.0f} charges for {naive['naive_paid']:,.0f} paid orders; {naive['naive_left']:,.0f} "
        "orders wait for ever.",
        f"With it, {all_settle} of {len(crashes)} is shipped by itself {took[len(took) // 2]:.1f} s after the kill "
        f"(p50; at worst {took[-1]:.1f} s), {money}, {stock}.",
    ]


async def crash(shop: ShopApart, door: Gate, moment: Moment, chance: random.Random, told: Told) -> Crash:
    """One round."""
    worker, quantity, workflow = shop.worker, chance.randint(1, QUANTITY_MAX), chance.choice(WORKFLOWS)
    match moment:
        case "reserved":
            worker.process.stand_still()
            order_id = await shop.place(SKU, quantity, workflow)
            if (status := await shop.until(order_id, ["reserved"], MOMENT_TIMEOUT_S)) != "reserved":
                raise BenchmarkFailed(f"an order was not reserved in {MOMENT_TIMEOUT_S:.0f} s, but {status}")
            killed_at = _replace(shop)
        case "asked" | "charged" | "answered":
            async with door.holding(moment) as reached:
                order_id = await shop.place(SKU, quantity, workflow)
                await _at(reached, moment)
                if moment == "answered":
                    await asyncio.sleep(chance.uniform(0, WRITES_S))
                killed_at = _replace(shop)
        case "any":
            order_id = await shop.place(SKU, quantity, workflow)
            await asyncio.sleep(chance.uniform(0, ANY_S))
            killed_at = _replace(shop)
        case _:
            assert_never(moment)
    status = await shop.until(order_id, [SHIPPED, "cancelled"], SETTLE_TIMEOUT_S)
    took_s = time.monotonic() - killed_at
    told(f"killed at {moment} ({workflow}): {status} after {took_s:.2f} s")
    return Crash(moment, quantity, status, took_s)


def _replace(shop: ShopApart) -> float:
    """Kill the payments and start them again. When they were killed."""
    killed_at = time.monotonic()
    shop.worker.process.kill()
    shop.worker.start()
    return killed_at


async def _at(reached: asyncio.Event, moment: str) -> None:
    try:
        async with asyncio.timeout(MOMENT_TIMEOUT_S):
            await reached.wait()
    except TimeoutError as error:
        raise BenchmarkFailed(f"no charge was {moment} in {MOMENT_TIMEOUT_S:.0f} s") from error


async def _books(shop: ShopApart, provider: httpx.AsyncClient) -> Books:
    ledger = (await provider.get("/ledger")).raise_for_status().json()
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:  # The shelf is told of the last parcel a moment later.
        level = (await shop.http.get(f"/v1/stock/{SKU}")).raise_for_status().json()
        if not level["reserved"] or time.monotonic() > deadline:
            return Books(ledger["charges"], ledger["captured_cents"], level["on_hand"], level["reserved"])
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _provider(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Gate, str]]:
    """The provider itself, the gate before it, and the gate's URL."""
    await asyncio.to_thread(folder.mkdir)
    variables = {"TALLY_DATA_DIR": str(folder / "provider")}
    async with AsyncExitStack() as stack:
        provider = served("gateway.cli.main", folder, variables, "provider", "--port")
        url = await stack.enter_async_context(provider)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=MOMENT_TIMEOUT_S))
        door = Gate(http)
        yield http, door, await stack.enter_async_context(door.opened())


async def _naive(folder: Path, rounds: int) -> dict[str, float]:
    """`naive_hit`: orders that were never answered; `naive_left`: those that nobody will ever carry on."""
    hit, answered = 0, True
    async with _provider(folder) as (provider, door, url):
        variables = {DATABASE: str(folder / "shop.db"), PROVIDER: url}
        for number in range(rounds + 1):
            async with (
                serving("bench.scenarios.naive_shop", folder, variables) as (shop, process),
                httpx.AsyncClient(base_url=shop, timeout=MOMENT_TIMEOUT_S) as http,
            ):
                if not answered:
                    (await _order(http)).raise_for_status()
                if number < rounds:
                    answered = await _hit(http, process, door, NAIVE_MOMENTS[number % len(NAIVE_MOMENTS)])
                    hit += not answered
        charges = (await provider.get("/ledger")).raise_for_status().json()["charges"]
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        by_status = dict(database.execute("SELECT status, count(*) FROM placed GROUP BY status").fetchall())
    figures = {"hit": hit, "charges": charges, "paid": by_status.get("paid", 0), "left": by_status.get("placed", 0)}
    return {f"naive_{name}": float(value) for name, value in figures.items()}


async def _hit(http: httpx.AsyncClient, process: Child, door: Gate, moment: gate.Moment) -> bool:
    """Whether the customer was answered before the shop was dead."""
    async with door.holding(moment) as reached:
        ordering = asyncio.create_task(_order(http))
        await _at(reached, moment)
        process.kill()
        try:
            await ordering
        except httpx.TransportError:
            return False
    return True


async def _order(http: httpx.AsyncClient) -> httpx.Response:
    body = {"customer_id": "customer-1", "currency": "EUR", "lines": [{"sku": SKU, "quantity": 1}]}
    return await http.post("/v1/orders", json=body)
