"""What does a conductor cost? The same checkout orchestrated and choreographed, by turns, on one system.

A whole system as `tally up` runs it, with the simulated provider and carrier, which answer at once. Orders that
succeed, of a customer who is mailed; placed over HTTP, and seen on the orders' log when they are paid and shipped:

- `1`: one after the other, each once nothing moves any more, the workflows by turns;
- `16`: so many under way at a time, in rounds that take turns.

`messages`: what all streams took for an order: its own services', the invoice, points, reviews, the notice, the timer;
the leases are left out, for they are renewed by time. Under load orders share blocks. `lines`: of code in `domains/`
that only this way has, without comments and docstrings; what carries it, policies and processes alike, is the bus's.

Budgets: one after the other, an order of either workflow takes at most 12 messages, and is shipped within 150 ms (p50,
two cores that have nothing else to do).
"""

from __future__ import annotations

import ast
import asyncio
import io
import tempfile
import time
import tokenize
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from msgspec.structs import replace
from nats.aio.client import Client

from bench.closed_loop import closed_loop, up_to
from bench.report import Bars, Report, Result, budget, environment, line, ratio, result
from bench.rounds import BenchmarkFailed, Pace, Round, Told
from bench.server import ALWAYS
from bus.logs.blocks import decoder_of
from bus.logs.jetstream import JetStreamLog
from bus.servers.connection import close, connect
from domains.orders.messages import OrderPaid, OrderShipped
from domains.orders.order import orders
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.runtime.up import started
from gateway.settings import Settings, jwt_secret

WORKFLOWS = ("orchestrated", "choreographed")
ALONE, TOGETHER = 1, 16
ORDERS, QUICK_ORDERS = 40, 10
ROUND_ORDERS, QUICK_ROUND_ORDERS = 160, 48
WARM_UP_ORDERS = 3
STILL_S = 0.3
"""Streams that took nothing for so long are at rest."""
TIMEOUT_S = 60.0
MESSAGES_MAX = 12
SHIPPED_MAX_MS = 150.0
SKU, CUSTOMER = "mug", "customer-1"
LEASES = "KV_"

DOMAINS = Path(__file__).parent.parent / "domains"
NOT_COUNTED = ("__init__.py", "first_checkout.py")
"""The second is there for checkouts that began under the definition before."""
CODE = {
    "orchestrated": [path for path in sorted(DOMAINS.glob("processes/*.py")) if path.name not in NOT_COUNTED],
    "choreographed": [DOMAINS / name / "policy.py" for name in ("orders", "inventory", "payments", "shipping")],
}


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    """A quick run has a round of each."""
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        machine = environment(ALWAYS, Path(name))
        async with _shop(Path(name)) as shop:
            for workflow in WORKFLOWS:
                await shop.place(workflow, WARM_UP_ORDERS, ALONE)
            await shop.rest()
            for _ in range(QUICK_ORDERS if quick else ORDERS):
                for workflow in WORKFLOWS:
                    await shop.round(workflow, 1, ALONE)
            told("one after the other: done")
            for _ in range(1 if quick else pace.rounds):
                for workflow in WORKFLOWS:
                    await shop.round(workflow, QUICK_ROUND_ORDERS if quick else ROUND_ORDERS, TOGETHER)
            results, figures = shop.results(), shop.messages()
    for each in results:
        told(line(each))
    figures |= {f"{workflow}_lines": float(sum(map(lines_of_code, files))) for workflow, files in CODE.items()}
    return judged(Report("workflows", machine, results, figures=figures, quick=quick))


def judged(measured: Report) -> Report:
    """With ratios (of the choreographed over the orchestrated, unless it names one), budgets and a verdict."""
    by_name = {each.name: each for each in measured.results}
    figures, (conducted, alone) = measured.figures, WORKFLOWS
    ratios: dict[str, float] = {}
    for many in (ALONE, TOGETHER):
        for value in ("p50_ms", "p99_ms"):
            times = {name: float(getattr(each, value)) for name, each in by_name.items()}
            ratios[f"paid_{value[:3]}_{many}"] = ratio(f"{alone}_paid_{many}", f"{conducted}_paid_{many}", times)
        ratios[f"messages_{many}"] = ratio(f"{alone}_messages_{many}", f"{conducted}_messages_{many}", figures)
    ratios["lines"] = ratio(f"{alone}_lines", f"{conducted}_lines", figures)
    budgets = []
    for workflow in WORKFLOWS:
        ratios[f"{workflow}_messages"] = figures[f"{workflow}_messages_{ALONE}"]
        ratios[f"{workflow}_shipped_p50_ms"] = by_name[f"{workflow}_shipped_{ALONE}"].p50_ms
        budgets.append(budget(f"{workflow}_messages", MESSAGES_MAX, ratios, at_most=True))
        budgets.append(budget(f"{workflow}_shipped_p50_ms", SHIPPED_MAX_MS, ratios, at_most=True))
    verdict = [
        f"Without a conductor an order is paid after {ratios[f'paid_p50_{ALONE}']:.0%} of the time (p50; p99 "
        f"{ratios[f'paid_p99_{ALONE}']:.0%}), takes {ratios[f'messages_{ALONE}']:.0%} of the messages "
        f"({figures[f'{alone}_messages_{ALONE}']:.1f} instead of {figures[f'{conducted}_messages_{ALONE}']:.1f}) and "
        f"{ratios['lines']:.0%} of the code ({figures[f'{alone}_lines']:.0f} lines instead of "
        f"{figures[f'{conducted}_lines']:.0f}). With {TOGETHER} at a time: {ratios[f'paid_p50_{TOGETHER}']:.0%} of the "
        f"time, {ratios[f'messages_{TOGETHER}']:.0%} of the messages."
    ]
    bars = [
        Bars(f"paid_{many}", f"ms until an order is paid (p50), {many} at a time", "p50_ms", _drawn(many))
        for many in (ALONE, TOGETHER)
    ]
    return replace(measured, ratios=ratios, budgets=budgets, verdict=verdict, bars=bars)


def _drawn(many: int) -> list[str]:
    return [f"{workflow}_{end}_{many}" for end in ("paid", "shipped") for workflow in WORKFLOWS]


def lines_of_code(path: Path) -> int:
    """Lines that hold code: no comments, no docstrings, nothing blank."""
    source = path.read_text()
    texts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - texts)


class _Shop:
    """A running system, what is seen on its orders' log, and what came of each workflow so far."""

    def __init__(self, http: httpx.AsyncClient, client: Client, log: JetStreamLog) -> None:
        self._http = http
        self._client = client
        self._log = log
        self._seen: dict[tuple[str, type], asyncio.Future[float]] = defaultdict(
            asyncio.get_running_loop().create_future
        )
        self._rounds: dict[str, list[Round]] = defaultdict(list)
        self._messages: dict[str, int] = defaultdict(int)
        self._orders: dict[str, int] = defaultdict(int)

    async def follow(self, after: int) -> None:
        """Note when events come, until cancelled."""
        decode = decoder_of(orders).decode
        async for batch in self._log.read(after):
            now = time.perf_counter()
            for record in batch:
                for commit in decode(record.data).commits:
                    for event in commit.events:
                        if isinstance(event, OrderPaid | OrderShipped):
                            self._seen[event.order_id, type(event)].set_result(now)

    async def round(self, workflow: str, n: int, many: int) -> None:
        """Place orders, so many at a time, and wait until all is quiet; note their times and messages."""
        before, began = await self._taken(), time.perf_counter()
        paid, shipped = await self.place(workflow, n, many)
        spent_s = time.perf_counter() - began
        self._rounds[f"{workflow}_paid_{many}"].append(Round(spent_s, paid, n))
        self._rounds[f"{workflow}_shipped_{many}"].append(Round(spent_s, shipped, n))
        self._messages[f"{workflow}_messages_{many}"] += await self.rest() - before
        self._orders[f"{workflow}_messages_{many}"] += n

    async def place(self, workflow: str, n: int, many: int) -> tuple[list[float], list[float]]:
        """How long after it was sent each was paid, and shipped, in seconds."""
        paid: list[float] = []
        shipped: list[float] = []
        body = {"customer_id": CUSTOMER, "currency": "EUR", "lines": [{"sku": SKU, "quantity": 1}]}

        async def one() -> None:
            began = time.perf_counter()
            answer = (await self._http.post("/v1/orders", json=body | {"workflow": workflow})).raise_for_status()
            order_id = answer.json()["order_id"]
            for event, times in ((OrderPaid, paid), (OrderShipped, shipped)):
                async with asyncio.timeout(TIMEOUT_S):
                    times.append(await self._seen[order_id, event] - began)

        await closed_loop(lambda _: asyncio.ensure_future(one()), many, up_to(n))
        return paid, shipped

    async def rest(self) -> int:
        """What the streams have taken, once they take nothing any more."""
        taken, since = await self._taken(), time.monotonic()
        deadline = since + TIMEOUT_S
        while time.monotonic() - since < STILL_S:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"the streams were not at rest in {TIMEOUT_S:.0f} s")
            await asyncio.sleep(STILL_S / 10)
            if (now := await self._taken()) != taken:
                taken, since = now, time.monotonic()
        return taken

    async def _taken(self) -> int:
        """Messages that all streams ever took."""
        streams = await self._client.jetstream().streams_info()
        return sum(each.state.last_seq for each in streams if not (each.config.name or "").startswith(LEASES))

    def results(self) -> list[Result]:
        """Of all orders that were placed alone, as if they had been one round."""
        return [
            result(name, [_together(rounds)] if name.endswith(f"_{ALONE}") else rounds)
            for name, rounds in self._rounds.items()
        ]

    def messages(self) -> dict[str, float]:
        """An order, on average."""
        return {name: round(taken / self._orders[name], 2) for name, taken in self._messages.items()}


def _together(rounds: Sequence[Round]) -> Round:
    times = [each for one in rounds for each in one.times_s]
    return Round(sum(one.spent_s for one in rounds), times, len(times))


@asynccontextmanager
async def _shop(folder: Path) -> AsyncIterator[_Shop]:
    settings = Settings(data_dir=folder / "data", http_port=0, log_level="WARNING")
    async with started(settings, lambda said: None) as (_, where):
        client = await connect(where.nats_url, "bench")
        headers = {"Authorization": f"Bearer {Tokens(jwt_secret(settings)).issue('admin', 'bench')}"}
        async with httpx.AsyncClient(base_url=where.http_url, headers=headers, timeout=TIMEOUT_S) as http:
            product = {"name": "Mug", "category": "kitchen", "price_cents": 1_250, "currency": "EUR"}
            (await http.put(f"/v1/products/{SKU}", json=product)).raise_for_status()
            receipt = {"receipt_id": "first", "quantity": 1_000_000}
            (await http.post(f"/v1/stock/{SKU}/receipts", json=receipt)).raise_for_status()
            person = {"name": "Ada", "email": "ada@shop.example"}
            (await http.put(f"/v1/customers/{CUSTOMER}", json=person)).raise_for_status()
            log = await compose.open_log(client, settings, orders.name)
            shop = _Shop(http, client, log)
            following = asyncio.create_task(shop.follow(await log.head()))
            try:
                yield shop
            finally:
                following.cancel()
                await asyncio.wait({following})
                await close(client)
