"""What the tests of the bus share: the two logs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bus.broker import EmbeddedBroker
from bus.connection import close, connect
from bus.jetstream import JetStreamLog
from bus.log import Log, MemoryLog


@pytest.fixture(params=["memory", "jetstream"])
async def log(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[Log]:
    """An empty log: once in memory, once on the session's nats-server."""
    if request.param == "memory":
        yield MemoryLog(unique)
        return
    broker: EmbeddedBroker = request.getfixturevalue("broker")
    client = await connect(broker.url, "log")
    yield await JetStreamLog.open(client, unique, partitions=4)
    await close(client)
