"""What the matrix is measured on: a broker, the orders, read models, queue, gateway and gRPC, a process each, and the
inventory, which is called in each style, and is killed, slowed down and restarted."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio
import httpx
from msgspec import Struct

from bench.children import STOP_TIMEOUT_S, Child, data_folder, environment_of, tally, tally_work
from bench.rounds import BenchmarkFailed
from bench.server import Server, embedded
from bench.static_route import listens
from bus.calls.over_grpc import open_channel
from bus.calls.over_http import client as http_client
from bus.logs.jetstream import JetStreamLog
from bus.presence import Present
from bus.sender import Sender
from bus.servers.broker import free_port
from bus.servers.connection import close, connect
from domains.inventory.messages import ReceiveStock
from domains.inventory.stock import inventory
from domains.kernel import QUANTITY_MAX
from domains.orders.order import orders
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.settings import Settings, jwt_secret

READY_TIMEOUT_S = 180.0
SKU = "bench-product"
RECEIPTS = 3
"""Each of a million units: more than is reserved in any run."""


class Callee:
    """The inventory's process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._server.folder / "callee.log").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.matrix.callee"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment_of(self._server),
            )

    def slow(self) -> None:
        self._tell(signal.SIGUSR1)

    def quick(self) -> None:
        self._tell(signal.SIGUSR2)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order: it gives back its partition and answers what waits."""
        self._end(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Site(Struct, frozen=True):
    """`http` and `channel` are the staff's ways in, with `token`; `sender` is a service's; `log` is the inventory's."""

    server: Server
    callee: Callee
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    token: str
    sender: Sender
    log: JetStreamLog


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(embedded())
        settings = Settings(data_dir=data_folder(server), nats_url=server.url)
        http_port, grpc_port = free_port(), free_port()
        more = {"TALLY_HTTP_PORT": str(http_port), "TALLY_GRPC_PORT": str(grpc_port)}
        children = [stack.enter_context(tally_work("projections", server))]
        await _ready(lambda: settings.read_models.exists(), children)
        children.append(stack.enter_context(tally_work("queue", server)))
        one = ["work", "--part", "commands", "--service", orders.name]
        children.append(stack.enter_context(tally("orders", one, server)))
        children.append(stack.enter_context(tally("grpc", ["work", "--part", "grpc"], server, **more)))
        children.append(stack.enter_context(tally("gateway", ["serve"], server, **more)))
        callee = Callee(server)
        stack.callback(callee.kill)
        callee.start()
        client = await connect(server.url, "bench-caller")
        stack.push_async_callback(close, client)
        logs = await compose.open_logs(client, settings)
        present = Present(client)
        await present.start()
        sender = compose.sender(client, logs, present)
        await _ready(lambda: listens(http_port) and listens(grpc_port), children)
        http = await stack.enter_async_context(http_client(f"http://127.0.0.1:{http_port}"))
        channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{grpc_port}"))
        for domain in (inventory.name, orders.name):
            await engine_answers(sender, domain)
        for number in range(RECEIPTS):
            command = ReceiveStock(SKU, f"receipt-{number}", QUANTITY_MAX)
            await sender.send(command, id=f"receipt-{number}")
        token = Tokens(jwt_secret(settings)).issue("staff", "bench")
        yield Site(server, callee, http, channel, token, sender, logs[inventory.name])


async def engine_answers(sender: Sender, domain: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not await sender.ping(domain):
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"nobody handles the commands of {domain}")
        await asyncio.sleep(0.05)


async def _ready(there: Callable[[], bool], children: Sequence[Child]) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while not there():
            for each in children:
                each.check()
            await asyncio.sleep(0.1)
