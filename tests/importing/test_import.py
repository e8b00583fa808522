"""The import over a real server: engines, read models and all; twice, in pieces, and with the broker killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from bus.announcements import Standings
from bus.commands import Stored
from bus.logs.jetstream import JetStreamLog
from bus.presence import Announcing, this_process
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import Client, close, connect
from domains.catalogue.messages import DefineProduct
from domains.customers.customer import customers
from domains.customers.messages import EraseCustomer, SaveCustomer
from domains.inventory.messages import ItemQuantity, ReserveStock
from domains.orders.messages import OrderLine, PlaceOrder
from gateway import compose
from gateway.importing.folder import ImportResult, heard, import_records
from gateway.importing.olist import read_folder
from gateway.importing.plan import Life, Step, lives_of, people, plan, reviews
from gateway.importing.report import as_json, render
from gateway.importing.rows import FolderUnusable
from gateway.importing.run import ImportFailed, Patience, Refusal, run
from gateway.runtime.engines import run_engines
from gateway.runtime.reactions import run_reactions
from gateway.runtime.read_models import run_projections
from gateway.runtime.state_stored import run_state_stored
from gateway.settings import Settings, home
from projections.reader import Reader
from tests.bus.waiting import PATIENCE_S
from tests.importing.dataset import CARRIED, ORDERS, Dataset, everything
from tests.importing.shop import lives

HASTY = Patience(give_up_after_s=0.2, backoff_s=0.01, backoff_max_s=0.05)


class System:
    """A broker, engines and read models of a test's own."""

    def __init__(
        self, broker: EmbeddedBroker, client: Client, logs: dict[str, JetStreamLog], settings: Settings
    ) -> None:
        self.broker = broker
        self.logs = logs
        self.client = client
        self.settings = settings
        self.sender: Sender = compose.sender(client, logs)
        self.standings = Standings(client, home(settings))

    async def heads(self) -> dict[str, int]:
        return {name: await log.head() for name, log in self.logs.items()}


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    reader = Reader(Settings(data_dir=tmp_path / "system").read_models)
    yield reader
    await reader.close()


@pytest.fixture
async def system(own_broker: EmbeddedBroker, tmp_path: Path) -> AsyncIterator[System]:
    settings = Settings(data_dir=tmp_path / "system")
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for name in ("workers", "import"):
            clients.append(await connect(own_broker.url, name))
            stack.push_async_callback(close, clients[-1])
        logs = await compose.open_logs(clients[0], settings)
        engines = await serving(clients[0], logs, settings)
        working = [
            engines,
            asyncio.create_task(run_projections(clients[0], logs, settings)),
            asyncio.create_task(run_reactions(clients[0], logs, settings, ("billing", "reviews"))),
            asyncio.create_task(_customers(clients[0], logs, settings)),
        ]
        running = System(own_broker, clients[1], logs, settings)
        await running.standings.start()
        async with asyncio.timeout(PATIENCE_S):
            while not await running.sender.ping("customers"):
                await asyncio.wait({working[-1]}, timeout=0.02)
        yield running
        for task in reversed(working):
            task.cancel()
            await asyncio.wait({task})


async def _customers(client: Client, logs: dict[str, JetStreamLog], settings: Settings) -> None:
    announcing = Announcing(client, this_process(("states",), "test"))
    await run_state_stored(client, customers, logs["customers"], settings, announcing)


async def serving(client: Client, logs: dict[str, JetStreamLog], settings: Settings) -> asyncio.Task[None]:
    """A worker for commands in this process, once it serves every domain."""
    announcing = Announcing(client, this_process(("commands",), "test"))
    running = asyncio.create_task(run_engines(client, logs, settings, announcing))
    sender = compose.sender(client, logs)
    async with asyncio.timeout(PATIENCE_S):
        while not all([await sender.ping(domain.name) for domain in compose.DOMAINS]):
            assert not running.done()
            await asyncio.sleep(0.02)
    return running


async def test_an_import_reconciles_and_a_second_changes_nothing(
    system: System, reader: Reader, tmp_path: Path
) -> None:
    folder = everything().write(tmp_path / "data")
    told: list[tuple[int, int]] = []
    first = await import_records(
        read_folder(folder),
        system.sender,
        reader,
        system.standings,
        system.logs,
        lambda done, total: told.append((done, total)),
    )
    assert first.ok, first
    records = read_folder(folder)
    steps = [step for life in (*plan(records), *people(records), *reviews(records)) for step in life.steps]
    total = lives_of(records) + first.customers + first.reviews
    assert told[-1] == (total, total)
    assert (first.customers, first.reviews, first.unreviewed) == (len(records.orders) - 1, 3, 3)
    assert (first.sent.stored, first.sent.repeated, first.sent.unchanged) == (len(steps), 0, 0)
    assert (first.products, first.unsold, first.orders) == (3, 1, len(records.orders))
    heads = await system.heads()
    again = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert again.ok
    assert (again.sent.stored, again.sent.repeated) == (0, len(steps))
    assert await system.heads() == heads


async def test_what_is_written_says_who_when_and_about_what(system: System, reader: Reader, tmp_path: Path) -> None:
    folder = Dataset().product("p1").order("o1").write(tmp_path / "data")
    assert (await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)).ok
    record = await system.logs["orders"].get(2)
    assert record is not None
    block = compose.decoders()["orders"].decode(record.data)
    commit = block.commits[0]
    assert (commit.id, commit.actor, commit.correlation) == ("olist-place-o1", "import", "o1")
    assert commit.occurred_at == datetime(2018, 1, 31, 23, 59, 59, tzinfo=UTC)


async def test_a_part_first_and_all_of_it_later(system: System, reader: Reader, tmp_path: Path) -> None:
    # The part knows p1 by a later, dearer item than the whole does.
    part = Dataset().product("p1").product("p2", "")
    part.order("late", items=(("p1", "99", "1"),), times=(CARRIED, "", "", ""))
    assert (
        await import_records(
            read_folder(part.write(tmp_path / "part")), system.sender, reader, system.standings, system.logs
        )
    ).ok
    whole = part.order("early").order("other", items=(("p2", "5", "1"),))
    result = await import_records(
        read_folder(whole.write(tmp_path / "whole")), system.sender, reader, system.standings, system.logs
    )
    assert result.ok, result
    assert result.sent.kept == 1, "who defined p1 first is not overruled"
    assert result.reconciliation.others == 0
    result = await import_records(read_folder(tmp_path / "part"), system.sender, reader, system.standings, system.logs)
    assert result.ok
    assert (result.sent.stored, result.sent.kept, result.reconciliation.others) == (0, 0, 2)


async def test_who_is_known_or_was_erased_stays_so(system: System, reader: Reader, tmp_path: Path) -> None:
    data = Dataset().product("p1").order("o1").order("o2")
    assert isinstance(await system.sender.send(SaveCustomer("buyer-o1", "Ada", "ada@x.example"), id="hers"), Stored)
    folder = data.write(tmp_path / "data")
    result = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert result.ok, result
    assert result.sent.kept == 1
    assert isinstance(await system.sender.send(EraseCustomer("buyer-o2"), id="forget"), Stored)
    again = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert again.ok, again
    assert (again.sent.stored, again.sent.kept) == (0, 2)


async def test_an_order_that_was_refused_is_not_reviewed(system: System, reader: Reader, tmp_path: Path) -> None:
    line = OrderLine("p1", "p1", "toys", 1, 1)
    await system.sender.send(PlaceOrder("o1", "b1", "BRL", (line,)), id="theirs")
    folder = Dataset().product("p1").order("o1").review("o1", 5).write(tmp_path / "data")
    result = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert [refusal.command for refusal in result.sent.refusals] == ["PlaceOrder"]
    differences = [str(difference) for difference in result.reconciliation.differences]
    assert "review score 5, reviews: 1 in the CSV, 0 in the read model" in differences
    assert "invoice issued, invoices: 1 in the CSV, 0 in the read model" in differences


async def test_policies_that_stand_still(system: System, reader: Reader, tmp_path: Path) -> None:
    folder = Dataset().product("p1").order("o1").write(tmp_path / "data")
    deaf = Standings(system.client, home(system.settings))
    await deaf.start()
    with pytest.raises(ImportFailed, match="the policy of shipping stays at 0 of 7"):
        await heard("shipping", 7, deaf, 0.05)
    result = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert result.ok


async def test_a_killed_broker_is_waited_for(system: System, reader: Reader, tmp_path: Path) -> None:
    data = everything()
    for number in range(300):
        data.order(f"many-{number}")
    folder = data.write(tmp_path / "data")
    killed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def progress(done: int, _: int) -> None:
        if done >= 100 and not killed.done():
            killed.set_result(None)
            system.broker.kill()

    importing = asyncio.create_task(
        import_records(
            read_folder(folder),
            system.sender,
            reader,
            system.standings,
            system.logs,
            progress,
            Patience(in_flight_max=16, answer_within_s=1.0),
        )
    )
    await killed
    system.broker.start()
    result = await importing
    assert result.ok, result
    assert result.sent.retries
    heads = await system.heads()
    again = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert again.ok
    assert again.sent.stored == 0
    assert await system.heads() == heads


async def test_bad_rows_alone_do_not_spoil_it(system: System, reader: Reader, tmp_path: Path) -> None:
    data = everything()
    data.rows[ORDERS][0]["order_status"] = "lost"
    result = await import_records(
        read_folder(data.write(tmp_path / "data")), system.sender, reader, system.standings, system.logs
    )
    assert result.ok
    assert [bad.line for bad in result.bad] == [2]


async def test_a_refused_order_is_named_and_the_others_go_on(system: System, reader: Reader, tmp_path: Path) -> None:
    line = OrderLine("p1", "p1", "toys", 1, 1)
    await system.sender.send(PlaceOrder("several", "b1", "BRL", (line,)), id="theirs")
    folder = everything().write(tmp_path / "data")
    result = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert not result.ok
    assert result.sent.refusals == [Refusal("several", "PlaceOrder", "order_exists", "order several was placed before")]
    assert {difference.where.partition(",")[0] for difference in result.reconciliation.differences} >= {
        "order several in order_detail",
        "order several in payments",
    }
    assert all("order several" in found.where for found in result.reconciliation.differences if "order " in found.where)


async def test_goods_that_somebody_else_took_are_named(system: System, tmp_path: Path) -> None:
    records = read_folder(Dataset().product("p1").order("o1").write(tmp_path / "data"))
    life = lives(records)["o1"]
    await run(iter([Life("o1", life.steps[:2])]), 1, system.sender)  # Interrupted with the goods on the shelf.
    answer = await system.sender.send(ReserveStock("live-1", (ItemQuantity("p1", 1),)), id="theirs")
    assert isinstance(answer, Stored)
    sent = await run(plan(records), lives_of(records), system.sender)
    assert sent.refusals == [Refusal("o1", "ReserveStock", "out_of_stock", "0 of 1 units of p1 were left")]


async def test_a_product_of_the_shop_s_own_stays_as_it_is(system: System, reader: Reader, tmp_path: Path) -> None:
    await system.sender.send(DefineProduct("p1", "A thing", "toys", 77, "BRL"), id="theirs")
    folder = Dataset().product("p1").order("o1").write(tmp_path / "data")
    result = await import_records(read_folder(folder), system.sender, reader, system.standings, system.logs)
    assert result.ok
    assert result.sent.kept == 1
    assert await system.logs["catalogue"].head() == 2


async def test_nobody_answers(own_broker: EmbeddedBroker) -> None:
    client = await connect(own_broker.url, "import")
    step = Step("olist-place-o1", PlaceOrder("o1", "b1", "BRL", (), workflow="recorded"), datetime.now(UTC))
    with pytest.raises(ImportFailed, match=r"no answer to olist-place-o1 in 0\.2 s \(no_engine\): what was sent is"):
        await run(iter([Life("o1", (step,))]), 1, compose.sender(client, {}), patience=HASTY)
    await close(client)


async def test_read_models_that_stand_still(own_broker: EmbeddedBroker, reader: Reader, tmp_path: Path) -> None:
    folder = Dataset().product("p1").order("o1").write(tmp_path / "data")
    async with AsyncExitStack() as stack:
        client = await connect(own_broker.url, "all")
        stack.push_async_callback(close, client)
        settings = Settings(data_dir=tmp_path / "system")
        logs = await compose.open_logs(client, settings)
        engines = await serving(client, logs, settings)
        stack.callback(engines.cancel)
        standings = Standings(client, home(settings))
        await standings.start()
        with pytest.raises(ImportFailed, match="all is sent, but the read model products stays at 0 of 2"):
            await import_records(
                read_folder(folder), compose.sender(client, logs), reader, standings, logs, stuck_after_s=0.1
            )


async def test_a_folder_of_something_else_is_refused(system: System, reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="is not in Olist's format"):
        await import_records(read_folder(tmp_path), system.sender, reader, system.standings, system.logs)


async def test_the_report(system: System, reader: Reader, tmp_path: Path) -> None:
    data = everything()
    data.rows[ORDERS][0]["order_status"] = "lost"
    result = await import_records(
        read_folder(data.write(tmp_path / "data")), system.sender, reader, system.standings, system.logs
    )
    text = _text(result)
    assert "│ boleto       │        1 │ 1,000,000.01 │ = │" in text
    assert f"1 bad rows were skipped:\n  {ORDERS}:2: order_status 'lost' is unknown" in text
    assert text.rstrip().endswith("Reconciled: 19 orders, equal to the cent")
    told = json.loads(as_json(result))
    assert (told["ok"], told["equal"], told["orders"], told["bad"][0]["line"]) == (True, True, 19, 2)
    assert {table["by"] for table in told["reconciliation"]["tables"]} == {
        "status",
        "month",
        "category",
        "payment type",
        "delivery",
        "invoice",
        "review score",
        "person",
    }


def _text(result: ImportResult) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        render(result, console)
    return captured.get()
