"""Services in processes of their own: one that is away holds up what needs it and nothing else, until it is back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bus.commands import Answer, Stored, Unavailable
from bus.logs.blocks import Block
from bus.logs.jetstream import JetStreamLog
from bus.presence import Present
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import Client, close, connect
from domains.inventory.messages import ReceiveStock
from domains.orders.messages import OrderLine, PlaceOrder
from gateway import compose
from gateway.cli.main import tally as group
from gateway.runtime.work import parts_of
from gateway.settings import Settings
from tests.system import PATIENCE_S, REPOSITORY, TALLY, Json, environment_of

SELLING = ("catalogue", "orders", "checkout")


@contextmanager
def process(folder: Path, broker: EmbeddedBroker, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = environment_of(
        folder, TALLY_NATS_URL=broker.url, TALLY_NATS_SYSTEM_URL=broker.settings.system_url or ""
    )
    with folder.with_name("output").open("ab") as output:
        started = subprocess.Popen(
            [*TALLY, "work", *arguments], env=environment, cwd=REPOSITORY, stdout=output, stderr=output
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(PATIENCE_S)


def service(*names: str) -> list[str]:
    return [each for name in names for each in ("--service", name)]


def placing(order_id: str) -> PlaceOrder:
    line = OrderLine("tea", "Tea", "drinks", quantity=1, unit_price_cents=100)
    return PlaceOrder(order_id, "c1", "EUR", (line,))


async def insist(sender: Sender, command: msgspec.Struct, id: str) -> Answer:
    """Until somebody is there to decide."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await sender.send(command, id=id, actor="tests")
            if not isinstance(answer, Unavailable):
                return answer
            await asyncio.sleep(0.05)


async def events(log: JetStreamLog) -> list[tuple[str, str]]:
    """Of which aggregate, and of what type."""
    decode = msgspec.json.Decoder(Block[Json]).decode
    blocks = [decode(record.data) async for batch in log.read(0, await log.head()) for record in batch]
    return [
        (commit.aggregate, event["type"]) for block in blocks for commit in block.commits for event in commit.events
    ]


async def until_reserved(log: JetStreamLog, order_id: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (order_id, "OrderReserved") in await events(log):
                return
            await asyncio.sleep(0.02)


async def owners(client: Client) -> dict[str, tuple[str, ...]]:
    """Of which services the owner of each partition is, once every partition of these has one."""
    present = Present(client)
    await present.start()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = {
                owned.domain: worker.services for worker in present.workers() for owned in worker.owns if owned.serving
            }
            if found.keys() == {"inventory", *SELLING}:
                return found
            await asyncio.sleep(0.05)


async def test_a_service_that_is_away_holds_up_what_needs_it_until_it_is_back(
    own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with ExitStack() as stack:
        stack.enter_context(process(folder, own_broker, "--part", "projections"))
        stack.enter_context(process(folder, own_broker, *service(*SELLING)))
        alone = stack.enter_context(process(folder, own_broker, *service("inventory")))
        client = await connect(own_broker.url, "test")
        logs = await compose.open_logs(client, Settings(data_dir=folder))
        sender = compose.sender(client, logs)
        assert isinstance(await insist(sender, ReceiveStock("tea", "r1", 10), "receipt"), Stored)
        assert isinstance(await insist(sender, placing("o1"), "first"), Stored)
        await until_reserved(logs["orders"], "o1")
        assert await owners(client) == {"inventory": ("inventory",), **dict.fromkeys(SELLING, SELLING)}

        alone.kill()
        alone.wait(PATIENCE_S)
        assert isinstance(await insist(sender, placing("o2"), "second"), Stored)
        assert isinstance(await sender.send(ReceiveStock("tea", "r2", 1), id="r2", timeout_s=0.2), Unavailable)
        assert ("reservation:o2", "StockReserved") not in await events(logs["inventory"])
        stack.enter_context(process(folder, own_broker, *service("inventory")))
        await until_reserved(logs["orders"], "o2")
        await close(client)


@pytest.mark.parametrize(
    ("services", "parts"),
    [
        (("inventory",), ("commands", "processes")),
        (("customers",), ("states",)),
        (("catalogue",), ("commands",)),
        (("catalogue", "customers", "loyalty"), ("commands", "processes", "states")),
    ],
)
def test_a_service_alone_is_all_that_it_has(services: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert parts_of(services) == parts


def test_read_models_are_kept_for_a_whole_node() -> None:
    told = CliRunner().invoke(group, ["work", "--service", "orders", "--part", "projections"])
    assert told.exit_code == 2
    assert "leave out --service" in told.output
    assert CliRunner().invoke(group, ["work", "--service", "nothing"]).exit_code == 2
