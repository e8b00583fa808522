"""Load on a system that crashes: clients that ask without pause, and a witness who writes down what they hear."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec

from bus.commands import Answer, Stored, Unavailable
from bus.sender import Sender
from bus.servers.connection import close, connect
from gateway import compose
from tests.faults.checker import Asked
from tests.faults.workload import Wish, Workload

PATIENCE_S = 30.0
"""A system that has not answered anything for so long after a fault will not come back."""
UNAVAILABLE_PAUSE_S = 0.1
CLIENTS = {64: 0.005, 128: 0.01, 256: 0.03}
"""How many at once, each with a pause between its commands in seconds: a log stays small enough to be checked often."""
MORE_THAN_CLIENTS = (50, 1_000)
"""So many acknowledgements beyond one a client lie between faults: then something was asked and done since the last."""

Send = Callable[[Wish, Asked], Awaitable[Answer]]

_encode = msgspec.json.Encoder().encode


class Witness:
    """All that was asked and answered, in one order: a tick for every question and every answer."""

    def __init__(self, owners: Mapping[type, str]) -> None:
        self._owners = owners
        self.ticks = 0
        self.asked: list[Asked] = []
        self.stored = 0
        """How many commands were acknowledged as on disk for the first time."""
        self.answers: Counter[str] = Counter()

    async def ask(self, wish: Wish, send: Send) -> Asked:
        self.ticks += 1
        asked = Asked(self._owners[type(wish.command)], wish.id, _encode(wish.command), wish.expect, began=self.ticks)
        self.asked.append(asked)
        answer = await send(wish, asked)
        self.ticks += 1
        asked.ended, asked.answer = self.ticks, answer
        self.stored += isinstance(answer, Stored) and not answer.repeated
        self.answers[type(answer).__name__] += 1
        return asked


class Load:
    """So many clients, each with one command under way. Runs until it is left."""

    def __init__(self, witness: Witness, workload: Workload, send: Send, *, clients: int, pause_s: float = 0.0) -> None:
        self.witness = witness
        self._workload = workload
        self._send = send
        self._clients = clients
        self._pause_s = pause_s
        self._stopping = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Under load. At the end no new command is asked, and each that is under way gets its answer."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._client())
            try:
                yield self
            finally:
                self._stopping = True

    async def acknowledged(self, more: int, supervise: Callable[[], None] = lambda: None) -> None:
        """Wait until so many more commands are acknowledged. `supervise` sees that somebody works."""
        wanted, since = self.witness.stored + more, self.witness.stored
        async with asyncio.timeout(PATIENCE_S) as patience:
            while self.witness.stored < wanted:
                supervise()
                await asyncio.sleep(0.005)
                if self.witness.stored > since:
                    since = self.witness.stored
                    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_S)

    async def busy(self, chance: random.Random, supervise: Callable[[], None]) -> None:
        """Until a random moment of a system that works."""
        await self.acknowledged(self._clients + chance.randint(*MORE_THAN_CLIENTS), supervise)
        await asyncio.sleep(chance.uniform(0.0, 0.1))

    async def _client(self) -> None:
        while not self._stopping:
            wish = self._workload.next()
            asked = await self.witness.ask(wish, self._send)
            self._workload.told(wish, asked)
            await asyncio.sleep(UNAVAILABLE_PAUSE_S if isinstance(asked.answer, Unavailable) else self._pause_s)


def through(sender: Sender, chance: random.Random) -> Send:
    """Over the wire, with clients of little and of much patience."""

    async def send(wish: Wish, _: Asked) -> Answer:
        timeout_s = chance.choice([0.5, 2.0, 5.0])
        return await sender.send(wish.command, id=wish.id, expect=wish.expect, timeout_s=timeout_s)

    return send


@asynccontextmanager
async def under_load(url: str, seed: int, clients: int) -> AsyncIterator[Load]:
    """Clients of the system behind a broker, connected for as long as this lasts."""
    client = await connect(url, "load")
    send = through(Sender(client, compose.owners()), random.Random(seed))
    load = Load(Witness(compose.owners()), Workload(seed), send, clients=clients, pause_s=CLIENTS[clients])
    try:
        async with load.running():
            yield load
    finally:
        await close(client)
