"""A position of one log is shown by a read model of another when all that lies between them is done."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from bus.announcements import Announcer, Standing, Standings
from bus.logs.log import MemoryLog
from bus.reactors.observers import intake
from gateway import compose
from gateway.http.consequences import Consequences
from projections.invoices import invoices
from projections.order_summary import order_summary
from projections.processes import processes
from projections.products import products
from projections.projection import Projection
from projections.stock import stock
from tests.bus.counter import Added
from tests.bus.waiting import PATIENCE_S, turns
from tests.bus.written import Written

(CHECKOUT,) = compose.PROCESSES


class Between:
    """The logs of the domains, and who says where everything stands."""

    def __init__(self, client: Client, home: str) -> None:
        self.written = {domain.name: Written(MemoryLog(domain.name)) for domain in compose.DOMAINS}
        self.standings = Standings(client, home)
        self._client = client
        self._announcer = Announcer(client, home)
        logs = {name: written.log for name, written in self.written.items()}
        self.consequences = Consequences(compose.PROCESSES, compose.POLICIES, logs, self.standings, self._reached)

    async def _reached(self, model: Projection, sequence: int, wait_s: float) -> bool:
        return await self.standings.wait(model.name, sequence, wait_s)

    async def write(self, log: str) -> int:
        return await self.written[log].block(("a", [Added("a", 1)]))

    async def say(self, name: str, sequence: int) -> None:
        """And let everybody hear it who waits."""
        await self._announcer.announce(Standing(name, 0, "-", sequence, sequence))
        await self._client.flush()
        await turns()


@pytest.fixture
async def between(client: Client, unique: str) -> Between:
    made = Between(client, unique)
    await made.standings.start()
    await client.flush()
    await made.say(stock.name, 1)  # As far as its log goes yet.
    return made


async def test_each_step_is_waited_for(between: Between) -> None:
    placed = await between.write("orders")
    shown = asyncio.create_task(between.consequences.shown("orders", placed, stock, PATIENCE_S))
    await turns()
    decided = await between.write("checkout")
    await between.say(CHECKOUT.relay, decided - 1)
    await between.say(CHECKOUT.intake("inventory"), placed)
    assert not shown.done()
    await between.say(CHECKOUT.intake("orders"), placed)
    assert not shown.done()
    reserved = await between.write("inventory")
    await between.say(stock.name, reserved - 1)
    await between.say(CHECKOUT.relay, decided)
    await between.say(intake("inventory", "orders"), placed - 1)
    assert not shown.done()
    await between.say(stock.name, reserved)
    assert not shown.done()  # Its own policy has not been told yet.
    await between.say(intake("inventory", "orders"), placed)
    assert await shown


async def test_where_a_step_does_not_come_it_is_not_shown(between: Between) -> None:
    placed = await between.write("orders")
    await between.say(intake("inventory", "orders"), placed)
    assert not await between.consequences.shown("orders", placed, stock, 0.0)
    await between.say(CHECKOUT.intake("orders"), placed)
    decided = await between.write("checkout")
    assert not await between.consequences.shown("orders", placed, stock, 0.0)
    await between.say(CHECKOUT.relay, decided)
    reserved = await between.write("inventory")
    assert not await between.consequences.shown("orders", placed, stock, 0.0)
    await between.say(stock.name, reserved)
    assert await between.consequences.shown("orders", placed, stock, 0.0)


@pytest.mark.parametrize("model", [invoices, processes], ids=lambda model: model.name)
async def test_what_a_policy_or_a_process_wrote_itself_is_waited_for(between: Between, model: Projection) -> None:
    placed = await between.write("orders")
    assert not await between.consequences.shown("orders", placed, model, 0.0)
    shown = asyncio.create_task(between.consequences.shown("orders", placed, model, PATIENCE_S))
    await turns()
    written = await between.write(model.stream)
    await between.say(intake(model.stream, "orders"), placed)
    await between.say(model.name, written - 1)
    assert not shown.done()
    await between.say(model.name, written)
    assert await shown


async def test_what_no_process_leads_to_is_not_waited_for(between: Between) -> None:
    assert await between.consequences.shown("orders", 99, products, 0.0)
    assert await between.consequences.shown("catalogue", 99, order_summary, 0.0)
    assert not await between.consequences.shown("inventory", 99, order_summary, 0.0)
