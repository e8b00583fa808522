"""The command engines of one worker: for each partition whose lease it holds an engine and its endpoint.

Every worker for commands is a candidate for every partition of its services, which are all unless some are named
(`bus/owners/sharing.py`). What it does not own it could own at once: the process is up, the logs are open, the read
models' folder is at hand.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, closing

from bus.engines.endpoint import Endpoint
from bus.engines.engine import Engine
from bus.engines.overlay import OverlaidStates, nearly_whole
from bus.logs.jetstream import JetStreamLog
from bus.logs.scrub import Scrub
from bus.logs.witness import Witness
from bus.micro import Served
from bus.owners.leases import Leases
from bus.owners.sharing import Held, Sharing
from bus.presence import Announcing, Owned, Present, Worker
from bus.reactors.observers import AnyDomain
from bus.servers.connection import Client
from gateway import compose
from gateway.runtime.collector import calm_the_collector
from gateway.settings import Settings
from projections.aggregate_state import SqliteStateStore

TELL_EVERY_S = 2.0

AnyEngine = Engine[object, object, object]

log = logging.getLogger(__name__)


async def run_engines(
    client: Client,
    logs: dict[str, JetStreamLog],
    settings: Settings,
    announcing: Announcing,
    services: Collection[str] = compose.SERVICES,
) -> None:
    """Own a fair share of the partitions of these services, until cancelled. Raises what halted an engine."""
    domains = {domain.name: domain for domain in compose.DOMAINS if domain.name in services}
    serving: dict[str, AnyEngine] = {}
    told: set[asyncio.Task[None]] = set()

    def changed() -> None:
        task = asyncio.ensure_future(announcing.say())
        told.add(task)
        task.add_done_callback(told.discard)

    def owns() -> tuple[Owned, ...]:
        return tuple(_owned(held, serving.get(key)) for key, held in sorted(sharing.held.items()) if not held.lost)

    @asynccontextmanager
    async def role(held: Held) -> AsyncIterator[asyncio.Future[None]]:
        name, partition = _of_key(held.key)
        durable = witness.of(name, partition, logs[name].epoch)
        async with _serving(client, logs[name], domains[name], partition, settings, held, durable, endpoints) as engine:
            scrub.watch(name, engine.halt)
            serving[held.key] = engine
            try:
                yield engine.failed
            finally:
                del serving[held.key]

    endpoints = announcing.micro.endpoints
    witness = Witness(settings.witness)
    scrub = Scrub({name: logs[name] for name in domains})
    present = Present(client)
    await present.start()
    keys = [f"engine.{name}.{partition}" for name in domains for partition in range(logs[name].partitions)]
    leases = Leases(client, settings.replicas)
    sharing = Sharing(client, leases, present, announcing.worker, keys, role, candidate=_takes, changed=changed)
    await _states_are_there(domains.values(), logs, settings)
    announcing.owns, announcing.ready = owns, True
    await announcing.say()
    calm_the_collector()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scrub.run())
            await sharing.run()
    finally:
        await announcing.leave()
        await sharing.stop()
        await witness.close()
        announcing.owns = tuple


def _takes(worker: Worker, key: str) -> bool:
    return worker.ready and (not worker.services or _of_key(key)[0] in worker.services)


async def _states_are_there(domains: Iterable[AnyDomain], logs: dict[str, JetStreamLog], settings: Settings) -> None:
    """A worker whose read models lag far behind, or that has none beside it, could own partitions and not serve them:
    it must not be counted on."""
    for domain in domains:
        with closing(SqliteStateStore(domain, settings.read_models)) as store:
            await nearly_whole(store, logs[domain.name], _progress(domain.name, "stored states"))


@asynccontextmanager
async def _serving(
    client: Client,
    log: JetStreamLog,
    domain: AnyDomain,
    partition: int,
    settings: Settings,
    held: Held,
    durable: Callable[[int, str], None],
    endpoints: dict[str, Served],
) -> AsyncIterator[AnyEngine]:
    """An engine that takes commands. Left: no more frames, then what waits, then the answers."""
    store = SqliteStateStore(domain, settings.read_models)
    try:
        await nearly_whole(store, log, _progress(domain.name, "stored states"))
        engine = Engine(
            domain,
            log,
            partition=partition,
            partitions=log.partitions,
            states=OverlaidStates(domain, store),
            holds=held.holds,
            progress=_progress(domain.name, "engine"),
            durable=durable,
        )
        try:
            await engine.start()
            endpoint = Endpoint(
                client, engine, domain.name, partition, token=held.token, holds=held.holds, endpoints=endpoints
            )
            await endpoint.start()
            gc.freeze()
            try:
                yield engine
            finally:
                await endpoint.stop()
                await engine.stop()
                await endpoint.drain()
        finally:
            await engine.stop()
    finally:
        store.close()


def _of_key(key: str) -> tuple[str, int]:
    _, domain, partition = key.split(".")
    return domain, int(partition)


def _owned(held: Held, engine: AnyEngine | None) -> Owned:
    domain, partition = _of_key(held.key)
    if engine is None:
        return Owned(domain, partition, held.token, serving=False)
    serving = held.holds() and not held.leave.is_set()
    return Owned(domain, partition, held.token, serving, engine.waiting, engine.position)


def _progress(domain: str, what: str) -> Callable[[int, int], None]:
    """Says how far something has read, every few seconds."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            log.info("%s of %s: %d of %d blocks read", what, domain, done, total)

    return tell
