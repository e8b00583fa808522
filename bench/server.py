"""The broker that a benchmark runs on: one embedded nats-server in a temporary folder.

A benchmark takes a `Server` and does not care where it comes from: a cluster with three replicas is another function
that yields one.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from nats.aio.client import Client

from bench.report import Environment, environment
from bus.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.connection import close, connect
from bus.jetstream import JetStreamLog

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

    async def log(self, name: str) -> JetStreamLog:
        """A log with as many replicas as this server is for."""
        return await JetStreamLog.open(self.client, name, replicas=self.environment.replicas)


@asynccontextmanager
async def embedded(sync: str = ALWAYS) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as folder:
        machine = environment(sync, Path(folder))
        settings = BrokerSettings(Path(folder) / "broker", free_port(), uuid4().hex, sync=sync)
        with EmbeddedBroker(settings) as broker:
            client = await connect(broker.url, "bench")
            try:
                yield Server(broker.url, settings.system_url, client, Path(folder), machine)
            finally:
                await close(client)
