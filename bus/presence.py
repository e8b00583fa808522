"""Presence: which processes are there, told by themselves to whoever listens, and which partitions they serve.

Core NATS, at most once, said again every `REPEAT_S`: who was not heard for `SILENT_S` is not there. Senders learn from
it which subject reaches the owner of a partition and nobody else, and people what runs where.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from secrets import token_hex

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.commands import command_subject
from bus.micro import Identity, Micro
from bus.servers.lifetime import mark_of

REPEAT_S = 0.5
SILENT_S = 1.5
WORKERS_MAX = 1_000
"""Whom one listener remembers at most."""
SEMANTIC = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")

log = logging.getLogger(__name__)


class Owned(Struct, frozen=True):
    """A partition that a worker owns, under which token. `serving`: it takes commands; else it is yet getting ready.
    `queue`: how many commands wait to be decided; `position`: its last block."""

    domain: str
    partition: int
    token: int
    serving: bool
    queue: int = 0
    position: int = 0


class Offer(Struct, frozen=True):
    """A destination that a process answers calls to, at an address of its own: a subject, or a URL. `version` is that
    of what answers."""

    destination: str
    address: str
    version: str


class Worker(Struct, frozen=True):
    """A process of this system. `mark` names it among all of its machine; `since` in seconds since the epoch; `ready`:
    it takes partitions that nobody has; `services`: of these only, where any are named."""

    id: str
    host: str
    pid: int
    mark: str
    parts: tuple[str, ...]
    since: float
    version: str
    owns: tuple[Owned, ...] = ()
    ready: bool = False
    leaving: bool = False
    services: tuple[str, ...] = ()
    offers: tuple[Offer, ...] = ()


def this_process(parts: tuple[str, ...], version: str, services: tuple[str, ...] = ()) -> Worker:
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64]
    return Worker(
        id=f"{host}-{os.getpid()}-{token_hex(2)}",
        host=host,
        pid=os.getpid(),
        mark=mark_of(),
        parts=parts,
        since=time.time(),
        version=version,
        services=services,
    )


def _micro(client: Client, worker: Worker) -> Micro:
    about = {"host": worker.host, "pid": str(worker.pid), "services": ",".join(worker.services)}
    found = SEMANTIC.match(worker.version)
    version = found[0] if found else "0.0.0"
    description = f"Tallystream: {', '.join(worker.parts)} of {', '.join(worker.services) or 'all services'}"
    return Micro(client, Identity(f"tally-{'-'.join(worker.parts)}", worker.id, version, about), description)


class Announcing:
    """Says again and again that this process is there, and answers who asks for it by the micro protocol (`micro`).
    `owns` and `serves` are asked each time: for the partitions whose lease it holds, and for what no lease decides."""

    def __init__(self, client: Client, worker: Worker) -> None:
        self.worker = worker
        self.owns: Callable[[], tuple[Owned, ...]] = tuple
        self.serves: dict[str, Callable[[], Owned]] = {}
        self.micro = _micro(client, worker)
        self._offers: dict[str, str] = {}
        self.ready = False
        self.leaving = False
        """Whether it is about to end: nothing should be left to it any more."""
        self._client = client

    def offer(self, destination: str, address: str) -> None:
        """Calls to this destination are answered here."""
        self._offers[destination] = address

    def withdraw(self, destination: str) -> None:
        self._offers.pop(destination, None)

    async def run(self) -> None:
        """Until cancelled."""
        await self.micro.start()
        while True:
            await self.say()
            await asyncio.sleep(REPEAT_S)

    async def leave(self) -> None:
        self.leaving = True
        await self.say()

    async def say(self) -> None:
        if not self._client.is_connected:
            return  # It would be said later, when it may not be true any more.
        told = msgspec.structs.replace(
            self.worker,
            owns=(*self.owns(), *(each() for each in self.serves.values())),
            offers=tuple(Offer(each, address, self.worker.version) for each, address in self._offers.items()),
            ready=self.ready,
            leaving=self.leaving,
        )
        try:
            await self._client.publish(f"worker.{told.id}", msgspec.json.encode(told))
        except nats.errors.Error as error:
            log.debug("nobody hears that %s is there: %s", told.id, error)


class Present:
    """Who is there, as far as this process has heard."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._heard: dict[str, tuple[Worker, float]] = {}
        self._owners: dict[tuple[str, int], tuple[int, float]] = {}

    async def start(self) -> None:
        await self._client.subscribe("worker.*", cb=self._arrived)

    def workers(self) -> list[Worker]:
        """By id."""
        now = self._clock()
        return sorted(
            (worker for worker, at in self._heard.values() if now - at <= SILENT_S), key=lambda worker: worker.id
        )

    def offers(self, destination: str) -> dict[str, Offer]:
        """Who answers calls to it, by address."""
        return {
            offer.address: offer
            for worker in self.workers()
            for offer in worker.offers
            if offer.destination == destination
        }

    def address(self, domain: str, partition: int) -> str:
        """The subject that reaches a partition's owner; where none is known, any engine of it that is there."""
        token, at = self._owners.get((domain, partition), (0, 0.0))
        if token and self._clock() - at <= SILENT_S:
            return command_subject(domain, partition, token)
        return command_subject(domain, partition)

    def hear(self, worker: Worker) -> None:
        now = self._clock()
        if worker.leaving:
            self._heard.pop(worker.id, None)
        else:
            self._heard[worker.id] = worker, now
        if len(self._heard) > WORKERS_MAX:
            self._heard = {name: heard for name, heard in self._heard.items() if now - heard[1] <= SILENT_S}
        for owned in worker.owns:
            which = owned.domain, owned.partition
            token, at = self._owners.get(which, (0, 0.0))
            if owned.serving and (owned.token >= token or now - at > SILENT_S):
                self._owners[which] = owned.token, now

    async def _arrived(self, message: Msg) -> None:
        try:
            self.hear(msgspec.json.decode(message.data, type=Worker))
        except msgspec.DecodeError as error:
            log.warning("an announcement on %s makes no sense: %s", message.subject, error)
