"""A shop whose payments are a process of their own, to be frozen, killed and started again; all others share one."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from bench.children import Child, child
from bench.rounds import BenchmarkFailed
from bench.scenarios.served import served
from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from domains.payments.payment import payments
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.settings import Settings, claim, jwt_secret

READY_TIMEOUT_S = 60.0
POLL_S = 0.02
TIMEOUT_S = 30.0
TALLY = (sys.executable, "-m", "gateway.cli.main")


class PaymentWorker:
    """`tally work --service payments`, again and again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._stack = ExitStack()
        self._process: Child | None = None

    def start(self) -> None:
        command = [*TALLY, "work", "--service", payments.name]
        self._process = self._stack.enter_context(child(payments.name, command, self._folder, self._environment))

    @property
    def process(self) -> Child:
        assert self._process is not None, "it has been started"
        return self._process

    def end(self) -> None:
        self._stack.close()


class ShopApart:
    """`http` is a member of the staff who may do everything."""

    def __init__(self, http: httpx.AsyncClient, worker: PaymentWorker) -> None:
        self.http = http
        self.worker = worker

    async def stock(self, sku: str, units: int) -> None:
        product = {"name": "Mug", "category": "kitchen", "price_cents": 1_250, "currency": "EUR"}
        (await self.http.put(f"/v1/products/{sku}", json=product)).raise_for_status()
        receipt = {"receipt_id": uuid4().hex, "quantity": units}
        (await self.http.post(f"/v1/stock/{sku}/receipts", json=receipt)).raise_for_status()

    async def place(self, sku: str, quantity: int, workflow: str) -> str:
        """The order's id."""
        lines = [{"sku": sku, "quantity": quantity}]
        body = {"customer_id": "customer-1", "currency": "EUR", "lines": lines, "workflow": workflow}
        order_id: str = (await self.http.post("/v1/orders", json=body)).raise_for_status().json()["order_id"]
        return order_id

    async def until(self, order_id: str, statuses: Sequence[str], patience_s: float) -> str:
        """The status once it is one of these, or the last one that was seen."""
        deadline, status = time.monotonic() + patience_s, ""
        while status not in statuses and time.monotonic() < deadline:
            answer = await self.http.get(f"/v1/orders/{order_id}")
            status = str(answer.json()["status"]) if answer.is_success else status
            await asyncio.sleep(POLL_S)
        return status


@asynccontextmanager
async def shop_apart(folder: Path, provider_url: str) -> AsyncIterator[ShopApart]:
    """Ready. Everything but the provider is its own."""
    settings = Settings(data_dir=folder / "data", log_level="WARNING")
    claim(settings.data_dir)  # Before the carrier puts something there.
    broker_settings = BrokerSettings(folder / "broker", free_port(), uuid4().hex)
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(broker_settings))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TALLY_")},
            "TALLY_NATS_URL": broker.url,
            "TALLY_NATS_SYSTEM_URL": broker_settings.system_url,
            "TALLY_DATA_DIR": str(settings.data_dir),
            "TALLY_PROVIDER_URL": provider_url,
            "TALLY_LOG_LEVEL": settings.log_level,
        }
        carrier = served("gateway.cli.main", folder, environment, "carrier", "--port")
        environment["TALLY_CARRIER_URL"] = await stack.enter_async_context(carrier)
        others = [f"--service={name}" for name in compose.SERVICES if name != payments.name]
        reading = ["--part=projections", "--part=queue"]
        children = [
            stack.enter_context(child(name, [*TALLY, "work", *arguments], folder, environment))
            for name, arguments in (("others", others), ("reading", reading))
        ]
        worker = PaymentWorker(folder, environment)
        stack.callback(worker.end)
        worker.start()
        url = await stack.enter_async_context(served("gateway.cli.main", folder, environment, "serve", "--port"))
        headers = {"Authorization": f"Bearer {Tokens(jwt_secret(settings)).issue('admin', 'scenario')}"}
        http = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S)
        await stack.enter_async_context(http)
        await _ready(http, [*children, worker.process])
        yield ShopApart(http, worker)


async def _ready(http: httpx.AsyncClient, children: Sequence[Child]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while (answer := await http.get("/readyz")).status_code != 200:
        for each in children:
            each.check()
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"the shop is not ready after {READY_TIMEOUT_S:.0f} s: {answer.text}")
        await asyncio.sleep(POLL_S)
