"""Every stream and bucket that there must be, made by the one who may: services with a user of their own may not."""

from __future__ import annotations

from bus.allowances import Allowances, AllowancesUnreachable
from bus.logs.jetstream import JetStreamLog
from bus.owners.leases import Leases, LeasesUnreachable
from bus.queues.command_queue import ensure_queue
from bus.queues.work_queue import WorkQueue
from bus.reactors.timers import Timers, TimersUnreachable
from bus.servers.connection import BrokerUnreachable, Client
from gateway import compose
from gateway.settings import Settings


async def make_streams(client: Client, settings: Settings) -> dict[str, JetStreamLog]:
    """Where there are none. The logs. Raises `StreamMisconfigured`, `LogDamaged`, `BrokerUnreachable`."""
    logs = await compose.open_logs(client, settings)
    await ensure_queue(client, settings.replicas)
    try:
        await Leases(client, settings.replicas).look("nobody")
        for name in compose.timings():
            await Timers(client, name, settings.replicas).open()
        if settings.rates_shared:
            await Allowances(client, settings.replicas).make()
    except (AllowancesUnreachable, LeasesUnreachable, TimersUnreachable) as error:
        raise BrokerUnreachable(str(error)) from error
    for jobs in compose.jobs():
        await WorkQueue(client, jobs.queue, settings.replicas).ensure()
    return logs
