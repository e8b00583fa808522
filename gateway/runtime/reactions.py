"""What follows from events: processes and their relays, policies, effects and the jobs of work queues, by service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from typing import Union

import msgspec

from bus.announcements import Announcer
from bus.calls.discovery import Discovery
from bus.control import Reply, serve
from bus.logs.jetstream import JetStreamLog
from bus.presence import Present
from bus.queues.work_queue import WorkQueue
from bus.reactors.alarms import Alarms
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.mending import DISCARD, PARKED, REDRIVE, Mending, verb_of
from bus.reactors.observers import intake
from bus.reactors.processes import PING, follow, observe, relay, ring
from bus.reactors.reactor import Reactor
from bus.reactors.timers import Timers
from bus.sender import Sender
from bus.servers.connection import Client
from bus.servers.tls import Identity
from gateway import compose
from gateway.effects.effects import Means
from gateway.settings import Settings

AnyReactor = Reactor[object]


async def run_reactions(
    client: Client,
    logs: dict[str, JetStreamLog],
    settings: Settings,
    services: Collection[str],
    identity: Identity | None = None,
) -> None:
    """Of these services, until cancelled."""
    present = Present(client)
    await present.start()
    sender = compose.sender(client, logs, present)
    checkpoints = await Checkpoints.open(settings.data_dir / "reactors.db")
    mesh = compose.mesh(settings)
    discovery = Discovery(present)
    means = Means(settings, client, sender, mesh, discovery, identity)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(checkpoints.close)
        timings = {name: timing for name, timing in compose.timings().items() if name in services}
        timers = {name: Timers(client, name, settings.replicas) for name in timings}
        for timer in timers.values():
            await timer.open()
        of_service: dict[str, list[AnyReactor]] = {service: [] for service in compose.reacting() & set(services)}
        for service, reactor in _inside(logs, sender, checkpoints, Announcer(client), services):
            of_service[service].append(reactor)
        for effects in compose.effects():
            if effects.log in services:
                decoder, made = compose.decoders()[effects.log], await stack.enter_async_context(effects.opened(means))
                reactor = Reactor(effects.name, logs[effects.log], decoder, made, checkpoints)
                of_service[effects.log].append(reactor)
        working = [
            (WorkQueue(client, jobs.queue, settings.replicas), await stack.enter_async_context(jobs.opened(means)))
            for jobs in compose.jobs()
            if jobs.service in services
        ]
        decoders, commands = compose.decoders(), {domain.name: domain.commands for domain in compose.DOMAINS}
        alarms = [
            Alarms(f"{name}-alarms", logs[name], decoders[name], timing, timers[name], checkpoints)
            for name, timing in timings.items()
        ]
        reactors = [reactor for each in of_service.values() for reactor in each]
        for service, its in of_service.items():
            await _mendable(client, service, Mending(its))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(mesh.watch())
                tasks.create_task(discovery.watch())
                for name, timer in timers.items():
                    command = msgspec.json.Decoder(Union[commands[name]])  # noqa: UP007  # Made at run time.
                    tasks.create_task(ring(sender, timer, command.decode, name))
                for each in alarms:
                    tasks.create_task(each.run())
                for queue, do in working:
                    tasks.create_task(queue.work(do))
                for reactor in reactors:
                    tasks.create_task(reactor.run())
        finally:
            for reactor in reactors:
                await reactor.save()
            for each in alarms:
                await each.save()


async def _mendable(client: Client, service: str, mending: Mending) -> None:
    """Tell whoever asks that this service reacts, and what it gave up; mend what one is asked to."""

    async def there(_: dict[str, str]) -> Reply:
        return Reply(detail=str(mending.keys))

    await serve(client, verb_of(PING, service), there)
    await serve(client, verb_of(PARKED, service), mending.parked)
    await serve(client, verb_of(REDRIVE, service), mending.redrive)
    await serve(client, verb_of(DISCARD, service), mending.discard)


def _inside(
    logs: dict[str, JetStreamLog],
    sender: Sender,
    checkpoints: Checkpoints,
    announcer: Announcer,
    services: Collection[str],
) -> Iterator[tuple[str, AnyReactor]]:
    """What stays between services, with the service that it is of: processes and policies."""
    decoders = compose.decoders()
    for process in compose.PROCESSES:
        name = process.domain.name
        if name not in services:
            continue
        for stream, events in process.observes.items():
            reactions = dict.fromkeys(events, observe(sender, process.wrap))
            told_by = process.intake(stream)
            yield name, Reactor(told_by, logs[stream], decoders[stream], reactions, checkpoints, told=announcer)
        relaying = dict.fromkeys(process.domain.events, relay(sender, process.steps, name))
        yield name, Reactor(process.relay, logs[name], decoders[name], relaying, checkpoints, told=announcer)
    for policy in compose.POLICIES:
        if policy.name not in services:
            continue
        for stream, events in policy.observes.items():
            reactions = dict.fromkeys(events, follow(sender, policy))
            told_by = intake(policy.name, stream)
            yield policy.name, Reactor(told_by, logs[stream], decoders[stream], reactions, checkpoints, told=announcer)
