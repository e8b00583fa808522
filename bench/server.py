"""The broker that a benchmark runs on: one embedded nats-server in a temporary folder.

A benchmark takes a `Server` and does not care where it comes from: a cluster with three replicas is another function
that yields one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from nats.aio.client import Client

from bench.report import Environment, environment
from bus.logs.jetstream import JetStreamLog
from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.cluster import LocalCluster
from bus.servers.connection import close, connect

ALWAYS = "always"
LAZY = "2m"
"""The server's default: acknowledged before it is on disk."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    system_url: str
    """As the server's system account: for the start-up check of the workers."""
    client: Client
    folder: Path
    """For whatever else the benchmark stores, on the same disk."""
    environment: Environment
    pids: tuple[int, ...]

    async def log(self, name: str) -> JetStreamLog:
        """A log with as many replicas as this server is for."""
        return await JetStreamLog.open(self.client, name, replicas=self.environment.replicas)


@asynccontextmanager
async def embedded(sync: str = ALWAYS) -> AsyncIterator[Server]:
    with _folder() as folder:
        async with _embedded(folder, sync) as server:
            yield server


@asynccontextmanager
async def filled(fill: Callable[[Server], Awaitable[None]]) -> AsyncIterator[Server]:
    """One whose logs are there already: written by `fill` on a server that syncs lazily, to be done soon."""
    with _folder() as folder:
        async with _embedded(folder, LAZY) as server:
            await fill(server)
        async with _embedded(folder, ALWAYS) as server:
            yield server


@asynccontextmanager
async def _embedded(folder: Path, sync: str) -> AsyncIterator[Server]:
    settings = BrokerSettings(folder / "broker", free_port(), uuid4().hex, sync=sync)
    with EmbeddedBroker(settings) as broker:
        async with _connected(broker.url) as client:
            pids = (broker.pid,)
            yield Server(broker.url, settings.system_url, client, folder, environment(sync, folder), pids)


@asynccontextmanager
async def clustered(size: int = 3, sync: str = ALWAYS) -> AsyncIterator[Server]:
    """So many servers on this machine, each with a copy of every log, on one disk and the same cores."""
    with _folder() as folder, LocalCluster(folder, size, sync) as cluster:
        async with _connected(cluster.url) as client:
            pids = tuple(server.pid for server in cluster.servers)
            machine = environment(sync, folder, replicas=size)
            yield Server(cluster.url, cluster.system_url, client, folder, machine, pids)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as folder:
        yield Path(folder)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Client]:
    client = await connect(url, "bench")
    try:
        yield client
    finally:
        await close(client)


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process, this one unless told otherwise. Linux only; elsewhere 0."""
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
