"""The workers: all in one process, a part in each, or a service in each.

A service's own are its engine or its database, what it does about events, and its effects. Read models are a node's:
they are kept by one process for all services. A process imports what its parts need only, so it is there the sooner.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Literal, get_args

from bus.presence import Announcing, this_process
from bus.servers.connection import close, connect
from gateway import compose
from gateway.runtime.broker import check_broker
from gateway.runtime.running import WorkerFailed, identity_of, nats_url, tls_dir
from gateway.settings import Settings, SettingsError, claim

Part = Literal["commands", "projections", "processes", "states", "queue", "grpc"]
"""`commands`: the engines; `processes`: processes, policies, effects; `states`: the services that keep states;
`queue`: what is queued for any of them; `grpc`: the stock, over gRPC, where a port is set."""
PARTS: tuple[Part, ...] = get_args(Part)

log = logging.getLogger(__name__)


def parts_of(services: Collection[str]) -> tuple[Part, ...]:
    """What there is to run of these services."""
    there = {
        "commands": {domain.name for domain in compose.DOMAINS},
        "processes": compose.reacting(),
        "states": {kept.name for kept in compose.STATE_STORED},
    }
    return tuple(part for part in PARTS if there.get(part, set()) & set(services))


def parts_for(settings: Settings) -> tuple[Part, ...]:
    """All that there is to run. Raises `SettingsError` for gRPC without its extra."""
    return PARTS if compose.serves_grpc(settings) else tuple(part for part in PARTS if part != "grpc")


async def work(settings: Settings, parts: tuple[Part, ...] = PARTS, services: tuple[str, ...] = ()) -> None:
    """Run these parts, of these services or of all, until SIGTERM or SIGINT. Raises what halted one of them,
    `MeshInvalid`, `SettingsError`."""
    compose.mesh(settings)  # Said before anything begins.
    if "grpc" in parts and not compose.serves_grpc(settings):
        raise SettingsError("the part grpc serves at a port: set TALLY_GRPC_PORT")
    own = None if tls_dir(settings) is None else identity_of(settings, _party(parts, services))
    await check_broker(settings)
    claim(settings.data_dir)  # Before anything is put there: who comes later would take it for somebody else's.
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    async with AsyncExitStack() as stack:
        running: list[asyncio.Task[None]] = []
        wanted = services or compose.SERVICES
        allowed = compose.SERVICES if own is None or not services else compose.reads(services[0])

        async def start() -> None:
            announcing: Announcing | None = None
            for part in parts:
                client = await connect(nats_url(settings), part, identity=own, closed=told_to_stop.set)
                stack.push_async_callback(close, client)
                logs = await compose.open_logs(client, settings, allowed, make=own is None)
                if announcing is None:
                    announcing = Announcing(client, this_process(parts, version("tallystream"), services))
                    running.append(asyncio.create_task(announcing.run()))
                match part:
                    case "commands":
                        from gateway.runtime.engines import run_engines

                        running.append(asyncio.create_task(run_engines(client, logs, settings, announcing, wanted)))
                    case "projections":
                        from gateway.runtime.read_models import run_projections

                        running.append(asyncio.create_task(run_projections(client, logs, settings)))
                    case "processes":
                        from gateway.runtime.reactions import run_reactions

                        running.append(asyncio.create_task(run_reactions(client, logs, settings, wanted, own)))
                    case "queue":
                        from gateway.runtime.queued import run_queue

                        running.append(asyncio.create_task(run_queue(client, logs, settings, make=own is None)))
                    case "grpc":
                        from gateway.grpc.server import run_grpc  # An extra.

                        running.append(asyncio.create_task(run_grpc(client, logs, settings, announcing, own)))
                    case "states":
                        from gateway.runtime.state_stored import run_state_stored

                        for kept in compose.STATE_STORED:
                            if kept.name in wanted:
                                serving = run_state_stored(client, kept, logs[kept.name], settings, announcing)
                                running.append(asyncio.create_task(serving))
            log.info("working on %s of %s", ", ".join(parts), ", ".join(services) or "all services")

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


def _party(parts: Sequence[str], services: Sequence[str]) -> str:
    """As whom a worker of a secured system speaks: there is no user who may do what several do."""
    if len(services) == 1:
        return services[0]
    if not services and tuple(parts) in (("projections",), ("queue",), ("grpc",)):
        return parts[0]
    raise SettingsError(
        "with TLS each worker is one service, or the part projections, queue or grpc: name one with --service or --part"
    )


def _reason(error: Exception) -> str:
    """What halted a part, without the groups that its tasks wrap it in."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
