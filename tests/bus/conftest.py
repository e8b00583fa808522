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


@pytest.fixture(params=["memory", "jetstream", "poured", "cluster"])
async def log(request: pytest.FixtureRequest, unique: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Log]:
    """An empty log: in memory, on the session's nats-server, there with all ranges read over connections of their own,
    on the session's cluster with a copy on each server."""
    if request.param == "memory":
        yield MemoryLog(unique)
        return
    if request.param == "poured":
        monkeypatch.setattr("bus.logs.jetstream.POURS_RECORDS", 0)
    broker: EmbeddedBroker | LocalCluster = request.getfixturevalue(
        "cluster" if request.param == "cluster" else "broker"
    )
    client = await connect(broker.url, "log")
    replicas = 3 if request.param == "cluster" else 1
    yield await JetStreamLog.open(client, unique, partitions=4, replicas=replicas)
    await close(client)


@pytest.fixture
def present(client: Client, clock: Clock) -> Present:
    return Present(client, clock)
