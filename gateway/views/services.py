"""What is there: processes and the partitions that they own, as they say themselves (`bus/presence.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from bus.presence import Offer, Owned, Worker


class Service(Struct, frozen=True):
    """One process. `parts`: commands, projections, processes, states, queue, or gateway; `services`: of which services,
    of all where none is named; `offers`: which calls it answers, and where."""

    id: str
    host: str
    pid: int
    parts: tuple[str, ...]
    since: datetime
    version: str
    services: tuple[str, ...] = ()
    offers: tuple[Offer, ...] = ()


class PartitionOwner(Struct, frozen=True):
    """Who owns a partition, under which token; it rises from owner to owner. `state`: serving, starting (it takes no
    commands yet) or unowned. `queue`: commands that wait to be decided; `position`: its last block."""

    domain: str
    partition: int
    state: str
    owner: str | None = None
    token: int | None = None
    queue: int = 0
    position: int = 0


class Services(Struct, frozen=True):
    services: list[Service]
    partitions: list[PartitionOwner]


def services_of(workers: Sequence[Worker], partitions: Mapping[str, int]) -> Services:
    """Of two who say that they own a partition, as there may be for a moment, the one with the higher token does."""
    owners: dict[tuple[str, int], tuple[Owned, Worker]] = {}
    for worker in workers:
        for owned in worker.owns:
            which = owned.domain, owned.partition
            if which not in owners or owners[which][0].token < owned.token:
                owners[which] = owned, worker
    return Services(
        [_service(worker) for worker in workers],
        [
            _owner(domain, partition, owners.get((domain, partition)))
            for domain, number in partitions.items()
            for partition in range(number)
        ],
    )


def _service(worker: Worker) -> Service:
    since = datetime.fromtimestamp(worker.since, UTC)
    return Service(
        worker.id, worker.host, worker.pid, worker.parts, since, worker.version, worker.services, worker.offers
    )


def _owner(domain: str, partition: int, found: tuple[Owned, Worker] | None) -> PartitionOwner:
    if found is None:
        return PartitionOwner(domain, partition, "unowned")
    owned, worker = found
    state = "serving" if owned.serving else "starting"
    return PartitionOwner(domain, partition, state, worker.id, owned.token, owned.queue, owned.position)
