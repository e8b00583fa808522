"""The read models of this node: kept up to date, rebuilt and mended by one process."""

from __future__ import annotations

from bus.announcements import Announcer
from bus.control import serve
from bus.logs.jetstream import JetStreamLog
from bus.servers.connection import Client
from gateway import compose
from gateway.runtime.collector import calm_the_collector
from gateway.settings import Settings, home
from projections.mending import DISCARD, PARKED, REDRIVE, Mending
from projections.worker import REBUILD, ROLL_BACK, ProjectionWorker


async def run_projections(client: Client, logs: dict[str, JetStreamLog], settings: Settings) -> None:
    """Keep every read model up to date, until cancelled."""
    calm_the_collector()
    announcer = Announcer(client, home(settings))
    await announcer.start()
    worker = ProjectionWorker(announcer, logs, compose.decoders(), compose.PROJECTIONS, settings.read_models)
    mending = Mending(worker.feeds)
    await serve(client, REBUILD, worker.begin_rebuild)
    await serve(client, ROLL_BACK, worker.begin_roll_back)
    await serve(client, PARKED, mending.parked)
    await serve(client, REDRIVE, mending.redrive)
    await serve(client, DISCARD, mending.discard)
    await worker.run()
