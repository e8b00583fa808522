"""The workers: engines, projections, processes and effects, customers, queue. All in one process, or a part in each."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import Literal, Union, get_args

import msgspec

from bus import queue_worker
from bus.announcements import Announcer
from bus.checkpoints import Checkpoints
from bus.connection import Client, close, connect
from bus.control import Reply, serve
from bus.jetstream import JetStreamLog
from bus.presence import Announcing, Present, this_process
from bus.processes import PING, follow, observe, relay, ring
from bus.queue import ensure_queue
from bus.queue_worker import QueueWorker
from bus.reactor import Reactor
from bus.timers import Timers
from bus.work_queue import WorkQueue
from domains.customers.customer import customers
from gateway import compose
from gateway.collector import calm_the_collector
from gateway.effects.effects import Means
from gateway.engines import run_engines
from gateway.running import WorkerFailed, check_broker, nats_url
from gateway.settings import Settings, claim, home
from gateway.state_stored import run_state_stored
from projections.mending import DISCARD, PARKED, REDRIVE, Mending
from projections.worker import REBUILD, ROLL_BACK, ProjectionWorker

Part = Literal["commands", "projections", "processes", "customers", "queue"]
PARTS: tuple[Part, ...] = get_args(Part)

log = logging.getLogger(__name__)


async def work(settings: Settings, parts: tuple[Part, ...] = PARTS) -> None:
    """Run these parts until SIGTERM or SIGINT. Raises what halted one of them, or `MeshInvalid`."""
    compose.mesh(settings)  # Said before anything begins.
    await check_broker(settings)
    claim(settings.data_dir)  # Before anything is put there: who comes later would take it for somebody else's.
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    async with AsyncExitStack() as stack:
        running: list[asyncio.Task[None]] = []

        async def start() -> None:
            announcing: Announcing | None = None
            for part in parts:
                client = await connect(nats_url(settings), part, closed=told_to_stop.set)
                stack.push_async_callback(close, client)
                logs = await compose.open_logs(client, settings)
                if announcing is None:
                    announcing = Announcing(client, this_process(parts, version("tallystream")))
                    running.append(asyncio.create_task(announcing.run()))
                match part:
                    case "commands":
                        running.append(asyncio.create_task(run_engines(client, logs, settings, announcing)))
                    case "projections":
                        running.append(asyncio.create_task(run_projections(client, logs, settings)))
                    case "processes":
                        running.append(asyncio.create_task(run_processes(client, logs, settings)))
                    case "queue":
                        running.append(asyncio.create_task(run_queue(client, logs, settings)))
                    case "customers":
                        serving = run_state_stored(client, customers, logs["customers"], settings, announcing)
                        running.append(asyncio.create_task(serving))
            log.info("working on %s", ", ".join(parts))

        stopping = asyncio.create_task(told_to_stop.wait())
        starting = asyncio.create_task(start())  # It may wait for long, and must end at once nevertheless.
        await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        await asyncio.wait({starting})
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, Exception):
                raise WorkerFailed(_reason(result)) from result


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


async def run_processes(client: Client, logs: dict[str, JetStreamLog], settings: Settings) -> None:
    """Run the processes' intakes and relays, the policies and the effects, until cancelled."""
    decoders = compose.decoders()
    present = Present(client)
    await present.start()
    sender = compose.sender(client, logs, present)
    checkpoints = await Checkpoints.open(settings.data_dir / "reactors.db")
    announcer = Announcer(client)
    mesh = compose.mesh(settings)
    async with AsyncExitStack() as stack:
        reactors: list[Reactor[object]] = []
        ringing: list[Callable[[], Coroutine[None, None, None]]] = []
        for process in compose.PROCESSES:
            name = process.domain.name
            for stream, events in process.observes.items():
                reaction = observe(sender, process.wrap)
                reactions = dict.fromkeys(events, reaction)
                intake = process.intake(stream)
                reactors.append(Reactor(intake, logs[stream], decoders[stream], reactions, checkpoints, told=announcer))
            timers = Timers(client, name, settings.replicas)
            await timers.open()
            relaying = dict.fromkeys(process.domain.events, relay(sender, process.steps, name, timers, process.timing))
            command = msgspec.json.Decoder(Union[process.domain.commands])  # noqa: UP007  # Made at run time.
            ringing.append(partial(ring, sender, timers, command.decode, name))
            reactors.append(Reactor(process.relay, logs[name], decoders[name], relaying, checkpoints, told=announcer))
        for policy in compose.POLICIES:
            for stream, events in policy.observes.items():
                reactions = dict.fromkeys(events, follow(sender, policy))
                name = compose.intake(policy.name, stream)
                reactors.append(Reactor(name, logs[stream], decoders[stream], reactions, checkpoints, told=announcer))
        means = Means(settings, client, sender, mesh)
        for effects in compose.effects():
            made, stream = await stack.enter_async_context(effects.opened(means)), effects.log
            reactors.append(Reactor(effects.name, logs[stream], decoders[stream], made, checkpoints))
        working = [
            (WorkQueue(client, jobs.queue, settings.replicas), await stack.enter_async_context(jobs.opened(means)))
            for jobs in compose.jobs()
        ]
        await serve(client, PING, _pong)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(mesh.watch())
                for queue, do in working:
                    tasks.create_task(queue.work(do))
                for reactor in reactors:
                    tasks.create_task(reactor.run())
                for each in ringing:
                    tasks.create_task(each())
        finally:
            for reactor in reactors:
                await reactor.save()
            await checkpoints.close()


async def run_queue(client: Client, logs: dict[str, JetStreamLog], settings: Settings) -> None:
    """Handle queued commands, until cancelled. A part of its own: a burst must not wait for what its first commands
    lead to."""
    await ensure_queue(client, settings.replicas)
    present = Present(client)
    await present.start()
    sender = compose.sender(client, logs, present)
    commands = {each.name: each.commands for each in compose.LOGS}
    queue = QueueWorker(client, sender, commands, erased=[each.name for each in compose.STATE_STORED])
    await serve(client, queue_worker.PARKED, queue.parked)
    await serve(client, queue_worker.REDRIVE, queue.redrive)
    await serve(client, queue_worker.DISCARD, queue.discard)
    await serve(client, queue_worker.PING, _pong)
    await queue.run()


def _reason(error: Exception) -> str:
    """What halted a part, without the groups that its tasks wrap it in."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def _pong(_: dict[str, str]) -> Reply:
    return Reply()
