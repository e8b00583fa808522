"""The demo: orders through the gateway of a fresh system, until all are settled; what happened, and the figures."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import httpx
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bus.announcements import RebuildProgress
from gateway.http.tokens import Tokens
from gateway.runtime.running import Running
from gateway.runtime.up import started
from gateway.sandbox.mailbox import letters
from gateway.settings import Settings, jwt_secret

PRODUCTS = 50
SCARCE_UNITS = 5
"""What is on the shelf of the one product that runs out."""
CUSTOMERS = 200
KNOWN = 20
"""Of them. Who is not known can order, and gets no mail."""
CLIENTS = 4
"""At once. More of them would measure this client, not the system."""
SETTLE_TIMEOUT_S = 90.0
POLL_S = 0.1
READ_MODEL = "order_summary"


class Figures(Struct, frozen=True):
    """What the demo measured, times in milliseconds."""

    orders: int
    shipped: int
    cancelled: int
    out_of_stock: int
    declined: int
    refused: int
    placed_per_s: float
    placed_p50_ms: float
    placed_p99_ms: float
    settled_s: float
    captured_cents: int
    refunded_cents: int
    provider_cents: int
    mails: int
    rebuild_events: int
    rebuild_per_s: float
    rebuild_verdict: str


class DemoFailed(Exception):
    """Something did not come out as it must."""


async def run(settings: Settings, orders: int, as_json: bool, secure: bool = False) -> int:
    """Returns the exit code."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tallystream-demo-") as folder:
        own = msgspec.structs.replace(settings, data_dir=Path(folder) / "data", http_port=0, nats_url="", replicas=1)
        own = msgspec.structs.replace(own, tls_dir=own.data_dir / "tls" if secure else None)
        console.print("starting broker, workers, provider, carrier and gateway on fresh data")
        try:
            async with started(own, console.print) as (_, where):
                figures = await _drive(own, where, orders, console)
        except DemoFailed as error:
            click.echo(f"tally: {error}", err=True)
            return 1
    if as_json:
        click.echo(msgspec.json.encode(figures))
    else:
        _show(figures)
    return 0


async def _drive(settings: Settings, where: Running, orders: int, console: Console) -> Figures:
    token = Tokens(jwt_secret(settings)).issue("admin", "demo")
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(
        base_url=where.http_url,
        headers={"Authorization": f"Bearer {token}"},
        limits=limits,
        timeout=30.0,
        verify=where.trust,
    ) as http:
        position = await _stock_the_shop(http, orders)
        await _register(http)
        bars = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*bars, console=console, disable=not console.is_terminal) as progress:
            placing = progress.add_task("orders placed", total=orders)
            settling = progress.add_task("orders settled", total=orders)
            began = time.perf_counter()
            settled = asyncio.create_task(
                _settled(http, orders, lambda done: progress.update(settling, completed=done))
            )
            try:
                times_ms = await _place(http, orders, lambda: progress.advance(placing))
                placed_s = time.perf_counter() - began
                by_status = await settled
                settled_s = time.perf_counter() - began
            finally:
                settled.cancel()
        reasons = await _reasons(http, position)
        console.print(f"rebuilding {READ_MODEL} beside the live one")
        rebuilt = await _rebuild(http)
        captured, ledger = await _books(http, where)
        parcels = (await http.get(f"{where.carrier_url}/ledger")).json()["picked_up"]
        mails = await _mailed(http, by_status.get("shipped", 0))
    times_ms.sort()
    if parcels != by_status.get("shipped", 0):
        raise DemoFailed(f"{by_status.get('shipped', 0)} orders are shipped, but the carrier has {parcels} parcels")
    if not settings.smtp_url and (got := len({each.message_id for each in letters(settings.mailbox, orders)})) != mails:
        raise DemoFailed(f"{mails} confirmations were sent, but the mailbox has {got}")
    return Figures(
        orders=orders,
        shipped=by_status.get("shipped", 0),
        cancelled=by_status.get("cancelled", 0),
        out_of_stock=reasons["out_of_stock"],
        declined=reasons["payment_declined"],
        refused=reasons["shipment_refused"],
        placed_per_s=round(orders / placed_s, 1),
        placed_p50_ms=round(times_ms[len(times_ms) // 2], 2),
        placed_p99_ms=round(times_ms[len(times_ms) * 99 // 100], 2),
        settled_s=round(settled_s, 2),
        captured_cents=captured,
        refunded_cents=ledger["refunded_cents"],
        provider_cents=ledger["captured_cents"],
        mails=mails,
        rebuild_events=rebuilt.events,
        rebuild_per_s=rebuilt.rate_per_s,
        rebuild_verdict=rebuilt.detail,
    )


async def _stock_the_shop(http: httpx.AsyncClient, orders: int) -> str:
    """Products, all but the last with plenty on the shelf. The position after which all of it can be read."""

    async def stock(number: int) -> str:
        sku = f"sku-{number:03}"
        product = {
            "name": f"Product {number}",
            "category": f"category-{number % 7}",
            "price_cents": 500 + 37 * number,
            "currency": "EUR",
        }
        (await http.put(f"/v1/products/{sku}", json=product)).raise_for_status()
        quantity = SCARCE_UNITS if number == PRODUCTS - 1 else 3 * orders
        receipt = {"receipt_id": "first", "quantity": quantity}
        answer = await http.post(f"/v1/stock/{sku}/receipts", json=receipt)
        answer.raise_for_status()
        return str(answer.headers["Position"])

    return max(await asyncio.gather(*(stock(number) for number in range(PRODUCTS))))


async def _register(http: httpx.AsyncClient) -> None:
    async def save(number: int) -> None:
        customer = {"name": f"Customer {number}", "email": f"customer-{number}@tallystream.example"}
        (await http.put(f"/v1/customers/customer-{number}", json=customer)).raise_for_status()

    await asyncio.gather(*(save(number) for number in range(KNOWN)))


async def _mailed(http: httpx.AsyncClient, shipped: int) -> int:
    """How many confirmations a mail server took, once that of each shipped order was sent or given up."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        by_status: Counter[str] = Counter()
        url = "/v1/notices?limit=200"
        while url:
            answer = await http.get(url)
            answer.raise_for_status()
            by_status.update(notice["status"] for notice in answer.json()["items"])
            url = answer.links.get("next", {}).get("url", "")
        if by_status["sent"] + by_status["failed"] == shipped:
            return by_status["sent"]
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"of {shipped} confirmations only some were settled in {SETTLE_TIMEOUT_S:.0f} s: {by_status}"
            )
        await asyncio.sleep(POLL_S)


async def _place(http: httpx.AsyncClient, orders: int, placed: Callable[[], object]) -> list[float]:
    """Place them all, `CLIENTS` at a time; how long each took, in ms."""
    chance = random.Random(7)
    bodies = [_order(number, chance) for number in range(orders)]
    numbers = iter(range(orders))
    times_ms: list[float] = []

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            headers = {"Idempotency-Key": f"demo-{number}"}
            answer = await http.post("/v1/orders", json=bodies[number], headers=headers)
            if answer.status_code != 201:
                raise DemoFailed(f"order {number} was answered {answer.status_code}: {answer.text}")
            times_ms.append((time.perf_counter() - began) * 1_000)
            placed()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return times_ms


def _order(number: int, chance: random.Random) -> dict[str, object]:
    """Most orders are plain; some want the scarce product, some cards are declined, some answers get lost, and some
    parcels nobody carries."""
    skus = chance.sample(range(PRODUCTS - 1), chance.randint(1, 3))
    if number % 50 == 0:
        skus.append(PRODUCTS - 1)
    token = "tok_declined" if number % 25 == 3 else "tok_lost_answer" if number % 40 == 5 else "tok_ok"
    carrier = "ship_refused" if number % 100 == 7 else "ship_ok"
    return {
        "customer_id": f"customer-{number % CUSTOMERS}",
        "currency": "EUR",
        "payment_token": token,
        "shipping_token": carrier,
        "lines": [{"sku": f"sku-{sku:03}", "quantity": chance.randint(1, 2)} for sku in skus],
    }


async def _settled(http: httpx.AsyncClient, orders: int, told: Callable[[int], object]) -> dict[str, int]:
    """Orders by status, once every one is shipped or cancelled."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        answer = await http.get("/v1/reports/sales", params={"by": "status"})
        answer.raise_for_status()
        by_status = {row["key"]: int(row["orders"]) for row in answer.json()["rows"]}
        done = by_status.get("shipped", 0) + by_status.get("cancelled", 0)
        told(done)
        if done == orders:
            return by_status
        if time.monotonic() > deadline:
            raise DemoFailed(f"only {done} of {orders} orders were settled in {SETTLE_TIMEOUT_S:.0f} s: {by_status}")
        await asyncio.sleep(POLL_S)


async def _reasons(http: httpx.AsyncClient, position: str) -> Counter[str]:
    """Why orders were cancelled."""
    reasons: Counter[str] = Counter()
    url = "/v1/orders?status=cancelled&limit=200"
    while url:
        answer = await http.get(url, headers={"Min-Position": position})
        answer.raise_for_status()
        for order in answer.json()["items"]:
            reasons[(await http.get(f"/v1/orders/{order['order_id']}")).json()["reason"]] += 1
        url = answer.links.get("next", {}).get("url", "")
    return reasons


async def _rebuild(http: httpx.AsyncClient) -> RebuildProgress:
    answer = await http.post(f"/v1/projections/{READ_MODEL}/rebuilds")
    answer.raise_for_status()
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < deadline:
        standing = (await http.get(answer.headers["Location"])).json()["rebuild"]
        rebuilt = msgspec.convert(standing, RebuildProgress | None)
        if rebuilt is not None and rebuilt.state == "done":
            return rebuilt
        if rebuilt is not None and rebuilt.state == "failed":
            raise DemoFailed(f"the rebuild failed: {rebuilt.detail}")
        await asyncio.sleep(POLL_S)
    raise DemoFailed(f"the rebuild was not done in {SETTLE_TIMEOUT_S:.0f} s")


async def _books(http: httpx.AsyncClient, where: Running) -> tuple[int, dict[str, int]]:
    """What was captured, and the provider's ledger, once what is due was given back: captured is what was shipped and
    what was refunded."""
    rows = (await http.get("/v1/reports/sales", params={"by": "status"})).json()["rows"]
    captured = sum(int(row["captured_cents"]) for row in rows)
    kept = sum(int(row["captured_cents"]) for row in rows if row["key"] == "shipped")
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        ledger: dict[str, int] = (await http.get(f"{where.provider_url}/ledger")).json()
        if ledger["captured_cents"] == captured == kept + ledger["refunded_cents"]:
            return captured, ledger
        if time.monotonic() > deadline:
            raise DemoFailed(f"captured {captured} cents and kept {kept}, but the provider has {ledger}")
        await asyncio.sleep(POLL_S)


def _show(figures: Figures) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("orders placed", f"{figures.orders:,}", "each on disk before its answer")
    table.add_row("shipped", f"{figures.shipped:,}", "each picked up by the carrier")
    table.add_row(
        "cancelled",
        f"{figures.cancelled:,}",
        f"{figures.out_of_stock} out of stock, {figures.declined} cards declined, {figures.refused} not carried",
    )
    table.add_row(
        "money captured",
        f"{figures.captured_cents / 100:,.2f} EUR",
        f"{figures.refunded_cents / 100:,.2f} of it given back, equal to the provider's ledger",
    )
    table.add_row("confirmed by mail", f"{figures.mails:,}", f"to the {KNOWN} customers who are known, each once")
    table.add_row("placing", f"{figures.placed_per_s:,.0f}/s", f"{CLIENTS} HTTP clients")
    table.add_row("an answer", f"p50 {figures.placed_p50_ms} ms", f"p99 {figures.placed_p99_ms} ms")
    table.add_row("all settled", f"{figures.settled_s} s", "after the first was placed")
    table.add_row(f"{READ_MODEL} rebuilt", f"{figures.rebuild_events:,} events", figures.rebuild_verdict)
    Console().print(table)
