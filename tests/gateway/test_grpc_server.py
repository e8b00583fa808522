"""The gRPC server by itself: deadlines that go on, limits, a clean stop, and what is promised in writing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import REGISTRY

import gateway
from bus.announcements import Standings
from bus.commands import Envelope, Stored, decode_frame
from bus.sender import COMMAND_TIMEOUT_S, Sender
from bus.servers.broker import free_port
from domains.inventory.messages import ReleaseStock, ReserveStock, StockReserved
from gateway.cli.main import main as tally
from gateway.compose import serves_grpc
from gateway.grpc.calls import Calls
from gateway.grpc.inventory import SERVICE, InventoryService
from gateway.grpc.proto.tally.inventory.v1.inventory_pb2 import Item, ReserveItemsRequest, ReserveItemsResponse
from gateway.grpc.server import serving
from gateway.grpc.statuses import status_of
from gateway.http.commanding import Commanding
from gateway.http.limits import Bucket
from gateway.http.problems import CONFLICT, STATUS, Problem
from gateway.http.reached import reached
from gateway.http.tokens import Tokens
from gateway.runtime.running import CannotStart
from gateway.runtime.work import parts_for
from gateway.settings import Rate, Settings, SettingsError
from projections.history import History
from projections.reader import Reader
from tests.bus.waiting import until

GATEWAY = Path(gateway.__file__).parent
PATIENCE_S = 60.0
PROTO = GATEWAY / "grpc" / "proto"


class Inventory:
    """Takes commands as the engine does, in its place, and answers when it is told to."""

    def __init__(self, client: Client, domain: str) -> None:
        self._client = client
        self.sender = Sender(client, {ReserveStock: domain, ReleaseStock: domain})
        self._domain = domain
        self._answers = asyncio.Event()
        self.asked: asyncio.Queue[Envelope] = asyncio.Queue()

    async def start(self) -> None:
        await self._client.subscribe(f"cmd.{self._domain}.0", cb=self._take)

    def answer(self) -> None:
        self._answers.set()

    async def _take(self, message: Msg) -> None:
        (envelope,) = decode_frame(message.data)
        self.asked.put_nowait(envelope)
        await self._answers.wait()
        events = msgspec.Raw(msgspec.json.encode([StockReserved("o", ())]))
        await message.respond(msgspec.json.encode([Stored(7, 1, events)]))


class Served:
    """A server in this process, and a caller of the staff."""

    def __init__(
        self, inventory: Inventory, channel: grpc.aio.Channel, token: str, stop: Callable[[], Awaitable[None]]
    ) -> None:
        self.inventory = inventory
        self.stop = stop
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._reserve = channel.unary_unary(
            f"/{SERVICE}/ReserveItems",
            request_serializer=ReserveItemsRequest.SerializeToString,
            response_deserializer=ReserveItemsResponse.FromString,
        )

    async def reserve(self, order_id: str, timeout_s: float = PATIENCE_S) -> ReserveItemsResponse:
        request = ReserveItemsRequest(order_id=order_id, items=[Item(sku="s", quantity=1)])
        return await self._reserve(request, timeout=timeout_s, metadata=self._metadata)


@asynccontextmanager
async def served(
    client: Client, domain: str, folder: Path, calls_max: int = 10, rate: Rate | None = None
) -> AsyncIterator[Served]:
    settings = Settings(data_dir=folder, grpc_port=free_port())
    inventory, tokens, reader = Inventory(client, domain), Tokens("s" * 48), Reader(folder)
    await inventory.start()
    service = InventoryService(
        Commanding(inventory.sender),
        tokens,
        History(reader, {}, {}),
        partial(reached, Standings(client, "home"), reader),
    )
    calls = Calls(tokens, {"staff": Bucket(rate)} if rate else {}, calls_max)
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}") as channel,
        AsyncExitStack() as server,
    ):
        await server.enter_async_context(serving(settings, service.handlers(calls)))
        yield Served(inventory, channel, tokens.issue("staff", "tests"), server.aclose)


def code_of(failed: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> tuple[grpc.StatusCode, str | bytes | None]:
    return failed.value.code(), dict(failed.value.trailing_metadata()).get("code")


def given_up() -> float:
    labels = {"method": "ReserveItems", "status": "CANCELLED"}
    return REGISTRY.get_sample_value("tally_grpc_calls_total", labels) or 0.0


async def test_a_calls_deadline_is_its_commands(client: Client, unique: str, tmp_path: Path) -> None:
    async with served(client, unique, tmp_path) as here:
        began = time.time()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await here.reserve("o", timeout_s=1.0)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        envelope = await here.inventory.asked.get()
        assert envelope.deadline - began < COMMAND_TIMEOUT_S - 1


async def test_a_call_that_is_given_up_is_counted(client: Client, unique: str, tmp_path: Path) -> None:
    async with served(client, unique, tmp_path) as here:
        before = given_up()
        call = asyncio.create_task(here.reserve("o"))
        await here.inventory.asked.get()
        call.cancel()
        await until(lambda: given_up() == before + 1, "the count of a call that was given up")


async def test_one_more_than_may_be_under_way_is_told_to_come_again(
    client: Client, unique: str, tmp_path: Path
) -> None:
    async with served(client, unique, tmp_path, calls_max=1) as here:
        first = asyncio.create_task(here.reserve("one"))
        await here.inventory.asked.get()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await here.reserve("two")
        assert code_of(failed) == (grpc.StatusCode.UNAVAILABLE, "overloaded")
        assert dict(failed.value.trailing_metadata())["retry-after"] == "1"
        here.inventory.answer()
        assert (await first).position == f"{unique}=7"


async def test_the_same_call_twice_at_once_is_told_so(client: Client, unique: str, tmp_path: Path) -> None:
    async with served(client, unique, tmp_path) as here:
        first = asyncio.create_task(here.reserve("one"))
        await here.inventory.asked.get()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await here.reserve("one")
        assert code_of(failed) == (grpc.StatusCode.ABORTED, "still_running")
        here.inventory.answer()
        await first


async def test_a_client_that_asks_too_much_is_told_when_to_come_again(
    client: Client, unique: str, tmp_path: Path
) -> None:
    async with served(client, unique, tmp_path, rate=Rate(1, 600)) as here:
        here.inventory.answer()
        await here.reserve("one")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await here.reserve("two")
        assert code_of(failed) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")
        assert 0 < int(dict(failed.value.trailing_metadata())["retry-after"]) <= 600


async def test_what_is_under_way_when_it_stops_is_answered(client: Client, unique: str, tmp_path: Path) -> None:
    async with served(client, unique, tmp_path) as here:
        call = asyncio.create_task(here.reserve("one"))
        await here.inventory.asked.get()
        asyncio.get_running_loop().call_later(0.05, here.inventory.answer)
        await here.stop()
        assert (await call).position == f"{unique}=7"


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    settings, nothing = Settings(grpc_port=free_port()), grpc.method_handlers_generic_handler("nothing", {})
    async with serving(settings, nothing):
        with pytest.raises(CannotStart, match="TALLY_GRPC_PORT"):
            async with serving(settings, nothing):
                pass


def test_every_problem_has_a_status() -> None:
    """Whatever anybody in the gateway raises."""
    sources = "\n".join(path.read_text() for path in GATEWAY.rglob("*.py"))
    raised = {int(number) for number in re.findall(r"Problem\(\s*(\d{3}),", sources)}
    assert {401, 404, 503, 504} <= raised
    for number in raised | set(STATUS.values()) | {CONFLICT}:
        assert status_of(Problem(number, "any")) is not grpc.StatusCode.UNKNOWN, number
    assert status_of(Problem(599, "any")) is grpc.StatusCode.UNKNOWN


def test_what_is_generated_is_what_the_proto_says(tmp_path: Path) -> None:
    names = [str(file.relative_to(PROTO)) for file in PROTO.rglob("*.proto")]
    options = ["--proto_path=.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *names], cwd=PROTO, check=True)
    made = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*.py*")}
    assert len(made) == 2
    for path, text in made.items():
        assert (PROTO / path).read_text() == text, f"{path} is old: `just protos`"


def test_it_is_served_where_a_port_is_set_and_the_extra_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not serves_grpc(Settings())
    assert "grpc" not in parts_for(Settings())
    assert "grpc" in parts_for(Settings(grpc_port=1))
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert not serves_grpc(Settings())
    with pytest.raises(SettingsError, match=r"tallystream\[grpc\]"):
        serves_grpc(Settings(grpc_port=1))


def test_the_part_alone_needs_a_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TALLY_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tally", "work", "--part", "grpc"])
    with pytest.raises(SystemExit) as ended:
        tally()
    assert ended.value.code == 2
    assert "TALLY_GRPC_PORT" in capsys.readouterr().err
