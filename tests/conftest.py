"""What all tests share: one real nats-server a session and a cluster, on free ports, with data in temporary folders.

Says at the end of a run what its faults came to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from nats.aio.client import Client

from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.cluster import LocalCluster
from bus.servers.connection import close, connect
from tests.clock import Clock
from tests.faults.figures import FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("faults")
        for line in figures:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The session's nats-server, as the product runs it: syncing every write."""
    folder = tmp_path_factory.mktemp("broker")
    with EmbeddedBroker(BrokerSettings(folder=folder, port=free_port(), password=uuid4().hex)) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nats-servers that keep a copy of every log each."""
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A nats-server of this test's own, to be killed and started again."""
    with EmbeddedBroker(BrokerSettings(folder=tmp_path / "broker", port=free_port(), password=uuid4().hex)) as running:
        yield running


@pytest.fixture
async def client(broker: EmbeddedBroker) -> AsyncIterator[Client]:
    connected = await connect(broker.url, "test")
    yield connected
    await close(connected)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unique() -> str:
    """A name that no other test uses, for streams and domains."""
    return f"t{uuid4().hex[:12]}"
