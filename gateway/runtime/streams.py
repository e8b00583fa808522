"""Every stream and bucket that there must be, made by the one who may: services with a user of their own may not."""

from __future__ import annotations

from bus.logs.jetstream import JetStreamLog
from bus.owners.leases import Leases
from bus.queues.command_queue import ensure_queue
from bus.queues.work_queue import WorkQueue
from bus.reactors.timers import Timers
from bus.servers.connection import Client
from gateway import compose
from gateway.settings import Settings


async def make_streams(client: Client, settings: Settings) -> dict[str, JetStreamLog]:
    """Where there are none. The logs. Raises `StreamMisconfigured`, `LogDamaged`, `BrokerUnreachable`,
    `TimersUnreachable`, `LeasesUnreachable`."""
    logs = await compose.open_logs(client, settings)
    await ensure_queue(client, settings.replicas)
    await Leases(client, settings.replicas).look("nobody")
    for name in compose.timings():
        await Timers(client, name, settings.replicas).open()
    for jobs in compose.jobs():
        await WorkQueue(client, jobs.queue, settings.replicas).ensure()
    return logs
