"""Workers: what they import, and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.engines.overlay import TAIL_BLOCKS_MAX
from bus.logs.blocks import hash_of
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import Appended
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from gateway.compose import DOMAINS
from gateway.runtime.work import work
from gateway.settings import Settings
from tests.bus.waiting import PATIENCE_S

ENDS_WITHIN_S = 2.0


@pytest.fixture
def signals() -> Iterator[None]:
    """A worker in this process takes them: they are given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
async def test_a_worker_that_waits_for_the_states_to_be_stored_ends_at_once(
    own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """Nobody projects here, so its engine of orders would wait for ever."""
    client = await connect(own_broker.url, "test")
    log, last = await JetStreamLog.open(client, "orders"), 0
    for number in range(TAIL_BLOCKS_MAX + 2):
        outcome = await log.append(0, b"%d" % number, hash_of(b"%d" % number), last)
        assert isinstance(outcome, Appended)
        last = outcome.sequence
    settings = Settings(
        data_dir=tmp_path / "data", nats_url=own_broker.url, nats_system_url=own_broker.settings.system_url
    )
    working = asyncio.create_task(work(settings, ("commands",)))
    names: set[str] = set()
    async with asyncio.timeout(PATIENCE_S):
        while len(names) < len(DOMAINS):
            assert not working.done()
            names = {stream.config.name or "" for stream in await client.jetstream().streams_info()}
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(ENDS_WITHIN_S):
        await working
    await close(client)


def test_a_plain_worker_imports_nothing_that_only_a_secured_one_needs() -> None:
    """It would be back the later after a kill."""
    code = "import sys, gateway.cli.main, gateway.cli.work; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    unwanted = ("cryptography", "bus.rights", "gateway.runtime.users", "bus.servers.certificates")
    assert not set(unwanted) & set(ran.stdout.split())
