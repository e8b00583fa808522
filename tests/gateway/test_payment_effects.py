"""What the provider has yet to decide is asked again, should it not tell by itself; what it declines has a code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from nats.aio.client import Client

from bus.calls.over_http import HttpTransport
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.engines.endpoint import Endpoint
from bus.engines.engine import Engine
from bus.logs.blocks import Commit, decoder_of
from bus.logs.log import MemoryLog
from bus.queues.work_queue import Job, WorkQueue
from bus.reactors.reactor import Again, Occurrence
from bus.sender import Sender
from domains.payments.messages import (
    PaymentCaptured,
    PaymentCommand,
    PaymentDeclined,
    PaymentEvent,
    PaymentRequested,
    RequestPayment,
)
from domains.payments.payment import Payment, payments
from gateway.effects import payments as effects_module
from gateway.effects.payments import PaymentEffects
from gateway.sandbox.provider import DECLINES, create_provider

NOWHERE = "http://127.0.0.1:9/hook"


class Till:
    """The payments and the provider, with nobody who hears what the provider tells by itself."""

    def __init__(self, client: Client, http: httpx.AsyncClient, stream: str) -> None:
        self.log = MemoryLog("payments")
        self._engine: Engine[Payment, PaymentCommand, PaymentEvent] = Engine(payments, self.log)
        self._endpoint = Endpoint(client, self._engine, "payments")
        self.sender = Sender(client, dict.fromkeys(payments.commands, "payments"))
        self.queue = WorkQueue(client, "payments", stream=stream)
        self.provider = CallPath("provider", CallPolicy(retries=0), HttpTransport("provider", http))
        self.effects = PaymentEffects(self.provider, self.sender, self.queue)
        self.http = http

    async def open(self) -> None:
        await self._engine.start()
        await self._endpoint.start()

    async def close(self) -> None:
        await self._endpoint.stop()
        await self._engine.stop()

    async def request(self, token: str) -> None:
        """Ask for a payment, and react to that."""
        await self.sender.send(RequestPayment("o1", "EUR", 500, token), id="request", actor="tests")
        event = PaymentRequested("o1", "EUR", 500, token)
        commit: Commit[object] = Commit(id="request", aggregate="o1", version=1, events=[event])
        what = Occurrence(event, "payments", 2, 0, commit, datetime.now(UTC))
        await self.effects.reactions[PaymentRequested](what)

    async def events(self) -> list[PaymentEvent]:
        decode = decoder_of(payments).decode
        blocks = [decode(record.data) async for batch in self.log.read(0, await self.log.head()) for record in batch]
        return [event for block in blocks for commit in block.commits for event in commit.events]


Open = Callable[[], AbstractAsyncContextManager[Till]]


@asynccontextmanager
async def _opened(client: Client, unique: str, tmp_path: Path) -> AsyncIterator[Till]:
    provider = create_provider(tmp_path / "provider.db", "secret", lambda: NOWHERE)
    served = httpx.ASGITransport(provider)  # type: ignore[arg-type]  # It is one; the two describe scopes in other words.
    async with provider.lifespan(), httpx.AsyncClient(transport=served, base_url="http://provider") as http:
        till = Till(client, http, unique)
        await till.open()
        yield till
        await till.close()


@pytest.fixture
def opened(client: Client, unique: str, tmp_path: Path) -> Open:
    """In the test's own task: the provider is to end in the one in which it began."""
    return partial(_opened, client, unique, tmp_path)


async def test_what_is_never_told_is_asked(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as till:
        monkeypatch.setattr(effects_module, "ASK_AGAIN_S", 0.05)
        await till.request("tok_async")
        assert await till.events() == [PaymentRequested("o1", "EUR", 500, "tok_async")]
        working = asyncio.create_task(till.queue.work(till.effects.ask_again))
        async with asyncio.timeout(10):
            while len(await till.events()) < 2:
                await asyncio.wait({working}, timeout=0.01)
        working.cancel()
        await asyncio.wait({working})
        assert (await till.events())[1:] == [PaymentCaptured("o1", "ch_charge-o1", 500)]


async def test_before_it_is_asked_a_webhook_has_its_time(opened: Open) -> None:
    async with opened() as till:
        jobs: list[Job] = []

        async def take(job: Job) -> None:
            jobs.append(job)

        await till.request("tok_async")
        working = asyncio.create_task(till.queue.work(take))
        async with asyncio.timeout(10):
            while not jobs:
                await asyncio.wait({working}, timeout=0.01)
        working.cancel()
        await asyncio.wait({working})
        with pytest.raises(Again) as told:
            await till.effects.ask_again(jobs[0])
        assert 0 < told.value.after_s <= effects_module.ASK_AGAIN_S
        later = PaymentEffects(till.provider, till.sender, till.queue, lambda: time.time() + effects_module.ASK_AGAIN_S)
        (await till.http.put("/mode", json={"latency_ms": 0})).raise_for_status()
        await asyncio.wait_for(_settled(later, jobs[0]), 10)
        assert len(await till.events()) == 2


async def _settled(effects: PaymentEffects, job: Job) -> None:
    while True:
        try:
            return await effects.ask_again(job)
        except Again:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("token", "code"), DECLINES.items())
async def test_a_card_is_declined_with_a_code(opened: Open, token: str, code: str) -> None:
    async with opened() as till:
        await till.request(token)
        assert (await till.events())[1:] == [PaymentDeclined("o1", code)]
