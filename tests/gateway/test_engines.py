"""The engines of a worker: it is counted on only when it could serve what it owns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bus.owners.leases import Found, Leases
from bus.presence import Announcing, Present, this_process
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from gateway import compose
from gateway.runtime.engines import run_engines
from gateway.settings import Settings
from tests.bus.waiting import until


async def test_a_worker_without_read_models_owns_nothing_and_nobody_counts_on_it(
    own_broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine on which nobody keeps them: it would wait for them for ever, with the partitions in its hands."""
    client = await connect(own_broker.url, "test")
    settings = Settings(data_dir=tmp_path)
    logs = await compose.open_logs(client, settings)
    present, announcing = Present(client), Announcing(client, this_process(("commands",), "1"))
    await present.start()
    monkeypatch.setattr("bus.engines.overlay.TAIL_BLOCKS_MAX", 0)
    tasks = [
        asyncio.create_task(announcing.run()),
        asyncio.create_task(run_engines(client, logs, settings, announcing)),
    ]
    await until(present.workers)
    assert [worker.ready for worker in present.workers()] == [False]
    assert await Leases(client).look("engine.orders.0") == Found()

    monkeypatch.undo()
    await until(lambda: [len(worker.owns) for worker in present.workers()] == [len(compose.DOMAINS)])
    assert [worker.ready for worker in present.workers()] == [True]
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait({task})
    assert (await Leases(client).look("engine.orders.0")).holder is None, "given up"
    await close(client)
