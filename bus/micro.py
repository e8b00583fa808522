"""The NATS micro protocol: this process as a service that `nats micro ls`, `info` and `stats` find, and what it served.

Only the three questions of the protocol (`$SRV.PING`, `.INFO`, `.STATS`, to all, to a name, to an instance). Its
endpoints are ours (`bus/engines/endpoint.py`), which come and go with what a process owns, so the client's own service,
which would serve them itself, is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

PREFIX = "$SRV"
TYPE = "io.nats.micro.v1.{}_response"
ERROR_CHARACTERS_MAX = 256


class Served:
    """An endpoint, and what became of its requests since it began."""

    __slots__ = ("errors", "last_error", "name", "queue_group", "requests", "seconds", "subject")

    def __init__(self, name: str, subject: str, queue_group: str) -> None:
        self.name = re.sub(r"[^A-Za-z0-9_-]", "-", name)
        self.subject = subject
        self.queue_group = queue_group
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.seconds = 0.0

    def answered(self, took_s: float) -> None:
        self.requests += 1
        self.seconds += took_s

    def failed(self, reason: str) -> None:
        self.requests += 1
        self.errors += 1
        self.last_error = reason[:ERROR_CHARACTERS_MAX]


class EndpointInfo(Struct, frozen=True):
    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str] = {}


class EndpointStats(Struct, frozen=True):
    """Times are in nanoseconds."""

    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int
    data: dict[str, str] = {}


class Identity(Struct, frozen=True):
    """What every answer says. `version` is a semantic one, as the protocol asks for."""

    name: str
    id: str
    version: str
    metadata: Mapping[str, str]


class Ping(Identity, frozen=True):
    type: str = TYPE.format("ping")


class Info(Identity, frozen=True, kw_only=True):
    description: str
    endpoints: list[EndpointInfo]
    type: str = TYPE.format("info")


class Stats(Identity, frozen=True, kw_only=True):
    started: datetime
    endpoints: list[EndpointStats]
    type: str = TYPE.format("stats")


class Micro:
    """Answers for one process. `endpoints` may change at any time."""

    def __init__(self, client: Client, identity: Identity, description: str) -> None:
        self.endpoints: dict[str, Served] = {}
        self._client = client
        self._who = identity
        self._description = description
        self._started = datetime.now(UTC)

    async def start(self) -> None:
        for whom in ("*", f"*.{self._who.name}", f"*.{self._who.name}.{self._who.id}"):
            await self._client.subscribe(f"{PREFIX}.{whom}", cb=self._asked)

    async def _asked(self, message: Msg) -> None:
        answer = self._answer(message.subject.split(".")[1])
        if answer is None or not message.reply:
            return  # Not a question of this protocol.
        try:
            await self._client.publish(message.reply, msgspec.json.encode(answer))
        except nats.errors.Error:  # The connection is gone for good, which is noticed elsewhere.
            return

    def _answer(self, verb: str) -> Identity | None:
        who = self._who
        match verb:
            case "PING":
                return Ping(who.name, who.id, who.version, who.metadata)
            case "INFO":
                infos = [EndpointInfo(each.name, each.subject, each.queue_group) for each in self._served()]
                return Info(who.name, who.id, who.version, who.metadata, description=self._description, endpoints=infos)
            case "STATS":
                stats = [_stats(each) for each in self._served()]
                return Stats(who.name, who.id, who.version, who.metadata, started=self._started, endpoints=stats)
            case _:
                return None

    def _served(self) -> Iterable[Served]:
        return [served for _, served in sorted(self.endpoints.items())]


def _stats(served: Served) -> EndpointStats:
    spent_ns = int(served.seconds * 1e9)
    answered = served.requests - served.errors
    return EndpointStats(
        served.name,
        served.subject,
        served.queue_group,
        served.requests,
        served.errors,
        served.last_error,
        spent_ns,
        spent_ns // answered if answered else 0,
    )
