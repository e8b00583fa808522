"""Queued commands that were given up, and what becomes of them; whoever asked for one is told in its status."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from nats.aio.client import Client

from bus.commands import encode
from bus.queues.command_queue import (
    QUEUE,
    Queued,
    Rejected,
    outcome_subject,
    parked_subject,
    publish_once,
    queue_subject,
)
from bus.queues.mending import Listed, Mending, verbs_of

VERBS = verbs_of("commands")


class ParkedCommand(Struct, frozen=True):
    """A command that was given up: of which domain, its place, since when (seconds since the epoch), and why."""

    queued: Queued
    place: str
    at: float
    error: str


class _Tagged(Struct):
    type: str = ""


class ParkedCommands(Mending[ParkedCommand]):
    def __init__(self, client: Client) -> None:
        super().__init__(client, QUEUE, [parked_subject("*")], ParkedCommand)

    def queue_of(self, subject: str) -> str:
        return subject.removeprefix(parked_subject("")) if subject.startswith(parked_subject("")) else ""

    def listed(self, sequence: int, queue: str, parked: ParkedCommand) -> Listed:
        kind = msgspec.json.decode(parked.queued.command, type=_Tagged).type
        return Listed(sequence, queue, parked.queued.correlation, parked.at, f"{kind}: {parked.error}")

    async def put_back(self, sequence: int, queue: str, parked: ParkedCommand) -> None:
        again = msgspec.structs.replace(parked.queued, origin=parked.place)
        await publish_once(self._client, queue_subject(queue), encode([again]))

    async def reject(self, queue: str, parked: ParkedCommand, reason: str) -> None:
        rejected = encode([Rejected("discarded", reason)])
        await publish_once(self._client, outcome_subject(parked.place), rejected)
