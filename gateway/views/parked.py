"""What is parked, wherever: keys of read models, and queued commands, jobs of work queues and reactions that were given
up. One list, one way to mend.

A parked command looks like a key of one commit of a read model called `commands`: it is redriven by being queued again,
and what comes of that its status tells. A job is one of `jobs`, under its own id. Parked reactions look like a key of a
read model called as what reacts, such as `payment-effects`; each is tried once more when it is redriven.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bus.control import Reply, ask
from bus.queues import parked_commands, parked_jobs
from bus.queues.mending import Listed, ParkedMessages, Verbs
from bus.reactors import mending as reactions
from bus.reactors.mending import ParkedReactions
from bus.servers.connection import Client
from gateway import compose
from projections import mending
from projections.mending import Parked, ParkedKeys, id_of
from projections.parking import Redriven
from projections.projection import timestamp

REACTION_ID = "reaction-"
AWAY = ("nobody_there", "no_answer")


class Queue(NamedTuple):
    """What is parked of queues: the read model that it looks like one of, how its ids begin, and what is asked."""

    read_model: str
    prefix: str
    verbs: Verbs


QUEUES = (Queue("commands", "command-", parked_commands.VERBS), Queue("jobs", "job-", parked_jobs.VERBS))


class NotMended(Exception):
    """Why it could not be done."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.detail} ({reply.code})")
        self.code = reply.code
        self.detail = reply.detail


class AllParked(Struct, frozen=True):
    """`left_out`: keys for which there is no room in one list; `silent`: services that do not say at the moment what
    reactions they have parked."""

    items: list[Parked]
    left_out: int = 0
    silent: list[str] = []


async def parked(client: Client, key: str = "") -> AllParked:
    """All of it, or what waits for one key. Raises `NotMended`."""
    services = sorted(compose.reacting())
    of_models, of_queues, of_services = await asyncio.gather(
        _asked(client, mending.PARKED, key=key),
        asyncio.gather(*(_asked(client, queue.verbs.parked, key=key) for queue in QUEUES)),
        asyncio.gather(*(_reactions(client, service, key) for service in services)),
    )
    keys = msgspec.json.decode(of_models, type=ParkedKeys)
    messages = [msgspec.json.decode(each, type=ParkedMessages) for each in of_queues]
    queued = [_message(queue, one) for queue, of_it in zip(QUEUES, messages, strict=True) for one in of_it.items]
    told = {service: found for service, found in zip(services, of_services, strict=True) if found is not None}
    reacting = [_reaction(service, one) for service, found in told.items() for one in found.items]
    left_out = (keys.left_out, *(found.left_out for found in messages), *(found.left_out for found in told.values()))
    return AllParked(
        [*keys.items, *queued, *reacting],
        sum(left_out),
        [service for service in services if service not in told],
    )


async def _reactions(client: Client, service: str, key: str) -> ParkedReactions | None:
    """None: nobody says."""
    try:
        detail = await _asked(client, reactions.verb_of(reactions.PARKED, service), key=key)
    except NotMended as error:
        if error.code in AWAY:
            return None
        raise
    return msgspec.json.decode(detail, type=ParkedReactions)


def _message(queue: Queue, one: Listed) -> Parked:
    return Parked(
        id=f"{queue.prefix}{one.sequence}",
        read_model=queue.read_model,
        stream=one.queue,
        key=one.key,
        commits=1,
        sequence=one.sequence,
        offset=0,
        at=timestamp(datetime.fromtimestamp(one.at, UTC)),
        error=one.error,
    )


def _reaction(service: str, one: reactions.ParkedKey) -> Parked:
    return Parked(
        id=f"{REACTION_ID}{service}-{id_of(one.reactor, one.key)}",
        read_model=one.reactor,
        stream=one.log,
        key=one.key,
        commits=one.reactions,
        sequence=one.sequence,
        offset=one.offset,
        at=timestamp(datetime.fromtimestamp(one.at, UTC)),
        error=one.error,
    )


async def redrive(client: Client, id: str, *, dry_run: bool = False) -> Redriven:
    """Raises `NotMended`: what is no key of a read model cannot be tried without being done."""
    queue = _queue_of(id)
    if dry_run and (queue is not None or id.startswith(REACTION_ID)):
        raise NotMended(Reply("malformed", "what would come of it can only be seen by doing it"))
    if queue is not None:
        await _asked(client, queue.verbs.redrive, sequence=id.removeprefix(queue.prefix))
        return Redriven(1, 0)
    if id.startswith(REACTION_ID):
        return await _mend_reaction(client, reactions.REDRIVE, id)
    detail = await _asked(client, mending.REDRIVE, id=id, dry_run="yes" if dry_run else "no")
    return msgspec.json.decode(detail, type=Redriven)


async def discard(client: Client, id: str, sequence: int, offset: int, reason: str) -> Redriven:
    """Give up the first that waits. Raises `NotMended`."""
    if (queue := _queue_of(id)) is not None:
        if id != f"{queue.prefix}{sequence}" or offset:
            raise NotMended(Reply("not_parked", f"{sequence}, offset {offset} is not the place of {id}"))
        await _asked(client, queue.verbs.discard, sequence=str(sequence), reason=reason)
        return Redriven(0, 0)
    place = {"sequence": str(sequence), "offset": str(offset)}
    if id.startswith(REACTION_ID):
        return await _mend_reaction(client, reactions.DISCARD, id, reason=reason, **place)
    return msgspec.json.decode(await _asked(client, mending.DISCARD, id=id, reason=reason, **place), type=Redriven)


def _queue_of(id: str) -> Queue | None:
    return next((queue for queue in QUEUES if id.startswith(queue.prefix)), None)


async def _mend_reaction(client: Client, verb: str, id: str, **parameters: str) -> Redriven:
    service, _, key_id = id.removeprefix(REACTION_ID).rpartition("-")
    found = await _reactions(client, service, "") if service in compose.reacting() else ParkedReactions([])
    if found is None:
        raise NotMended(Reply("nobody_there", f"nobody reacts for {service}"))
    for one in found.items:
        if id_of(one.reactor, one.key) == key_id:
            which = {"reactor": one.reactor, "key": one.key}
            detail = await _asked(client, reactions.verb_of(verb, service), **which, **parameters)
            return msgspec.json.decode(detail, type=Redriven)
    raise NotMended(Reply("parked_unknown", "nothing is parked under this id"))


async def _asked(client: Client, verb: str, **parameters: str) -> str:
    reply = await ask(client, verb, **parameters)
    if reply.code:
        raise NotMended(reply)
    return reply.detail
