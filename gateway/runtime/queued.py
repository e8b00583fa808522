"""The commands that nobody waits for: sent on by one process, a part of its own; and whatever queues have parked."""

from __future__ import annotations

from bus.control import pong, serve
from bus.logs.jetstream import JetStreamLog
from bus.presence import Present
from bus.queues import parked_commands, parked_jobs
from bus.queues.command_queue import ensure_queue
from bus.queues.command_queue_worker import PING, QueueWorker
from bus.queues.parked_commands import ParkedCommands
from bus.queues.parked_jobs import ParkedJobs
from bus.servers.connection import Client
from gateway import compose
from gateway.settings import Settings


async def run_queue(client: Client, logs: dict[str, JetStreamLog], settings: Settings, *, make: bool = True) -> None:
    """Handle queued commands, until cancelled. A part of its own: a burst must not wait for what its first commands
    lead to. `make`: the streams of the queue, too."""
    if make:
        await ensure_queue(client, settings.replicas)
    present = Present(client)
    await present.start()
    sender = compose.sender(client, logs, present)
    commands = {each.name: each.commands for each in compose.LOGS}
    queue = QueueWorker(client, sender, commands, erased=[each.name for each in compose.STATE_STORED])
    await ParkedCommands(client).serve(parked_commands.VERBS)
    await ParkedJobs(client, [jobs.queue for jobs in compose.jobs()]).serve(parked_jobs.VERBS)
    await serve(client, PING, pong)
    await queue.run()
