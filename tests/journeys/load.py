"""Orders that are placed and cancelled all the while, whatever dies; and what the log must hold of them afterwards."""

from __future__ import annotations

import asyncio

from bus.commands import Stored, Unavailable, Unknown
from bus.logs.blocks import Chain, Commit, decoder_of
from bus.logs.jetstream import JetStreamLog
from bus.sender import Sender
from domains.orders.messages import CancelOrder, OrderEvent, OrderLine, PlaceOrder
from domains.orders.order import orders
from tests.system import PATIENCE_S

IN_FLIGHT = 64


class Load:
    """Clients that place an order and cancel it, then the next."""

    def __init__(self, sender: Sender) -> None:
        self.answers: dict[str, Stored] = {}
        """The acknowledgement of each command, by its id."""
        self._sender = sender
        self._clients = [asyncio.create_task(self._client(number)) for number in range(IN_FLIGHT)]
        self._stopping = False

    async def _client(self, client: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            order = f"order-{client}-{number}"
            line = OrderLine("sku", "A product", "things", 1, 1_000)
            await self._insist(PlaceOrder(order, f"customer-{client}", "EUR", (line,)), f"{order}-placed")
            await self._insist(CancelOrder(order, "changed my mind"), f"{order}-cancelled")

    async def _insist(self, command: PlaceOrder | CancelOrder, command_id: str) -> None:
        """Send it again under its id until it is stored."""
        while not isinstance(answer := await self._sender.send(command, id=command_id), Stored):
            assert isinstance(answer, Unavailable | Unknown), answer
            await asyncio.sleep(0.05)
        self.answers[command_id] = answer

    async def more(self, commands: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.answers) + commands
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answers) < wanted:
                assert not any(client.done() for client in self._clients)
                await asyncio.sleep(0.02)

    async def stop(self) -> dict[str, Stored]:
        self._stopping = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._clients)
        return self.answers


async def commits_of(log: JetStreamLog) -> list[tuple[int, Commit[OrderEvent]]]:
    """Every commit with its position; the chain of blocks is checked on the way."""
    decoder, chain = decoder_of(orders), Chain(log.epoch, whole=True)
    found: list[tuple[int, Commit[OrderEvent]]] = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in log.read(0, await log.head()):
            for record in batch:
                found += [(record.sequence, commit) for commit in chain.follow(record, decoder.decode).commits]
    return found


def everything_acknowledged(acknowledged: dict[str, Stored], stored: list[tuple[int, Commit[OrderEvent]]]) -> None:
    """What was acknowledged is in the log once, where it was said to be, and nothing else; versions are contiguous."""
    by_id = {commit.id: (position, commit.version) for position, commit in stored}
    assert len(by_id) == len(stored), "a command took effect twice"
    assert {name: (answer.position, answer.version) for name, answer in acknowledged.items()} == by_id
    versions: dict[str, list[int]] = {}
    for _, commit in stored:
        versions.setdefault(commit.aggregate, []).append(commit.version)
    assert all(found == [1, 2] for found in versions.values())
