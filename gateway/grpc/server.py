"""The gRPC server: its port, its limits, health and reflection; the part `grpc` of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bus.announcements import Standings
from bus.logs.jetstream import JetStreamLog
from bus.presence import Announcing, Present
from bus.servers.connection import Client
from bus.servers.tls import Identity
from domains.inventory.stock import inventory
from gateway import compose
from gateway.grpc.calls import CALLS_MAX, Calls
from gateway.grpc.inventory import SERVICE, InventoryService
from gateway.http.bodies import BODY_BYTES_MAX
from gateway.http.commanding import Commanding
from gateway.http.limits import Bucket
from gateway.http.reached import reached
from gateway.http.tokens import Tokens
from gateway.runtime.running import CannotStart, announced
from gateway.settings import Settings, home, jwt_secret
from projections.history import History
from projections.reader import Reader

DESTINATION = "grpc"
"""What is offered, at this server's address."""
STOP_S = 1.0
"""For calls that are under way when it is told to stop; less than whoever supervises gives it."""
LOOK_EVERY_S = 1.0
METADATA_BYTES_MAX = 16 * 1024
STREAMS_MAX = 256
"""Calls that one connection may have under way."""
IDLE_S = 300
OPTIONS = (
    ("grpc.max_receive_message_length", BODY_BYTES_MAX),
    ("grpc.max_send_message_length", BODY_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.max_connection_idle_ms", IDLE_S * 1_000),
    ("grpc.so_reuseport", 0),  # Or two servers would share a port, and nobody would notice.
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

log = logging.getLogger(__name__)


async def run_grpc(
    client: Client,
    logs: dict[str, JetStreamLog],
    settings: Settings,
    announcing: Announcing,
    own: Identity | None = None,
) -> None:
    """Serve, and say where, until cancelled; then let calls end that are under way. Over TLS where it has an identity
    of its own. Raises `CannotStart`."""
    present = Present(client)
    await present.start()
    standings = Standings(client, home(settings))
    await standings.start()
    reader = Reader(settings.read_models)
    tokens = Tokens(jwt_secret(settings))
    sender = compose.sender(client, logs, present)
    history = History(reader, logs, compose.decoders())
    service = InventoryService(Commanding(sender), tokens, history, partial(reached, standings, reader))
    calls = Calls(tokens, {role: Bucket(rate) for role, rate in settings.rates.items()})
    try:
        async with serving(settings, service.handlers(calls), own) as healthy, _offered(settings, announcing):
            while True:
                there = await sender.ping(inventory.name)
                await healthy.set(SERVICE, SERVING if there else NOT_SERVING)
                await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await reader.close()


@asynccontextmanager
async def _offered(settings: Settings, announcing: Announcing) -> AsyncIterator[None]:
    """Known to whoever looks for somebody to call."""
    announcing.offer(DESTINATION, f"{announced(settings.http_host)}:{settings.grpc_port}")
    try:
        yield
    finally:
        announcing.withdraw(DESTINATION)


@asynccontextmanager
async def serving(
    settings: Settings, handlers: grpc.GenericRpcHandler, own: Identity | None = None
) -> AsyncIterator[health.aio.HealthServicer]:
    """A server, until left; what says how it stands. `""` is the server itself. Raises `CannotStart`."""
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=2 * CALLS_MAX)
    healthy = health.aio.HealthServicer()
    await healthy.set(SERVICE, NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    server.add_generic_rpc_handlers((handlers,))
    address = open_port(server, settings.http_host, settings.grpc_port, own)
    await server.start()
    log.info("gRPC is served at %s", address)
    try:
        yield healthy
    finally:
        await healthy.enter_graceful_shutdown()
        await server.stop(STOP_S)


def open_port(server: grpc.aio.Server, host: str, port: int, own: Identity | None = None) -> str:
    """The one place where a server's port is opened. Its address; raises `CannotStart`.

    With an identity it speaks TLS, and only with who shows a certificate of our authority: its callers are services.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if own is None:
            server.add_insecure_port(address)
        else:
            ca, certificate, key = own.pems
            server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)], ca, True))
    except RuntimeError as error:
        raise CannotStart(f"{address} cannot be had: set TALLY_GRPC_PORT") from error
    return address
