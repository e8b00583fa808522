"""What the tests of the bus share: the logs that must all be alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from bus.logs.jetstream import JetStreamLog
from bus.logs.log import Log, MemoryLog
from bus.presence import Present
from bus.servers.broker import EmbeddedBroker
from bus.servers.cluster import LocalCluster
from bus.servers.connection import close, connect
from tests.clock import Clock


@pytest.fixture(params=["memory", "jetstream", "cluster"])
async def log(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[Log]:
    """An empty log: in memory, on the session's nats-server, on the session's cluster with a copy on each server."""
    if request.param == "memory":
        yield MemoryLog(unique)
        return
    broker: EmbeddedBroker | LocalCluster = request.getfixturevalue(
        "broker" if request.param == "jetstream" else "cluster"
    )
    client = await connect(broker.url, "log")
    replicas = 1 if request.param == "jetstream" else 3
    yield await JetStreamLog.open(client, unique, partitions=4, replicas=replicas)
    await close(client)


@pytest.fixture
def present(client: Client, clock: Clock) -> Present:
    return Present(client, clock)
