"""A rehearsal in memory: two engines on each log, one of them slow to notice the other, under load and faults from a
seed. Nothing of it takes real time, so a seed always gives the same history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from msgspec import Raw

from bus.commands import Answer, Envelope, Unavailable, Unknown
from bus.engines.engine import Engine
from bus.logs.log import LogDamaged, MemoryLog
from domains.inventory.stock import inventory
from domains.orders.order import orders
from tests.bus.faults import Fault, FaultyLog
from tests.bus.waiting import turns
from tests.faults.checker import Asked, Violation, violations
from tests.faults.load import Witness
from tests.faults.planted import AnyDomain, Bug
from tests.faults.workload import Wish, Workload

DOMAINS: tuple[AnyDomain, ...] = (orders, inventory)  # type: ignore[assignment]  # Each is typed in itself.
OWNERS = {command: domain.name for domain in DOMAINS for command in domain.commands}
NEVER_S = 1e12
PATIENCE_S = 30.0
WISHES = 600
CLIENTS = 12
FAULTS: Sequence[Fault] = ("ack_lost", "block_lost", "block_late", "block_late")


class Place:
    """Where an engine of a domain runs: it crashes, and another one starts there on the same log."""

    def __init__(self, domain: AnyDomain, log: MemoryLog, bug: Bug) -> None:
        self._domain = bug.domain(domain)
        self._bug = bug
        self._engine: Engine[object, object, object] | None = None
        self._starts = 0
        self._hearing: set[asyncio.Future[Answer]] = set()
        self.way = FaultyLog(log)
        self.left_unanswered = 0
        """Commands that an engine took and never answered, not even when it was stopped."""

    async def start(self) -> None:
        """An engine that refuses to start leaves the place empty."""
        self._starts += 1
        engine = Engine(self._domain, self._bug.log(self.way))
        try:
            await engine.start()
        except LogDamaged:
            return
        self._engine = engine

    async def crash(self) -> None:
        """What it has promised and not done is gone. What was on its way to the log arrives."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop(timeout_s=0.0)
            await self.way.deliver_late()
            if engine.failed.done():
                engine.failed.exception()  # It has halted, as it should; the checker says why.
        await turns()
        for hearing in self._hearing:
            if not hearing.done():
                self.left_unanswered += 1
                hearing.set_result(Unknown("no answer in time"))

    async def answer(self, envelope: Envelope, number: int) -> Answer:
        engine = self._engine
        if engine is None:
            return Unavailable("no_engine")
        hearing: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def heard(answers: asyncio.Future[list[Answer]]) -> None:
            if not hearing.done():
                hearing.set_result(answers.result()[0])

        engine.submit([self._bug.envelope(envelope, self._starts, number)]).add_done_callback(heard)
        self._hearing.add(hearing)
        try:
            return self._bug.answer(envelope, await hearing)
        finally:
            self._hearing.discard(hearing)


class Rehearsed(NamedTuple):
    """One history, and what the checker says of it."""

    witness: Witness
    found: list[Violation]
    left_unanswered: int


async def rehearse(bug: Bug, seed: int) -> Rehearsed:
    chance = random.Random(seed)
    logs = {domain.name: MemoryLog(domain.name) for domain in DOMAINS}
    places = {domain.name: [Place(domain, logs[domain.name], bug) for _ in range(2)] for domain in DOMAINS}
    witness, workload, numbers = Witness(OWNERS), Workload(seed), count()

    async def send(wish: Wish, asked: Asked) -> Answer:
        place = places[asked.log][chance.random() < 0.2]
        envelope = Envelope(wish.id, NEVER_S, Raw(asked.content), expect=wish.expect)
        return await place.answer(envelope, next(numbers))

    async def client() -> None:
        while len(witness.asked) < WISHES:
            wish = workload.next()
            workload.told(wish, await witness.ask(wish, send))
            await turns(chance.randint(1, 8))

    async def trouble(clients: asyncio.Future[list[None]]) -> None:
        while not clients.done():
            await turns(chance.randint(20, 200))
            place = chance.choice(chance.choice(list(places.values())))
            if chance.random() < 0.7:
                place.way.faults.append(chance.choice(FAULTS))
                for _ in range(chance.randint(10, 60)):
                    if place.way.faults:
                        await turns(1)
            if chance.random() < 0.5:
                await place.crash()
                await place.start()

    every_place = [place for two in places.values() for place in two]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(place.start() for place in every_place))
        clients = asyncio.gather(*(client() for _ in range(CLIENTS)))
        await asyncio.gather(clients, trouble(clients))
        await asyncio.gather(*(place.crash() for place in every_place))
    found: list[Violation] = []
    for domain in DOMAINS:
        log = logs[domain.name]
        records = [record async for batch in log.read(until=await log.head()) for record in batch]
        found += violations(domain, log.epoch, witness.asked, records)
    return Rehearsed(witness, found, sum(place.left_unanswered for place in every_place))
