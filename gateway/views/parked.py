"""What is parked, wherever: keys of read models, queued commands and reactions that were given up. One list, one way to
mend.

A parked command looks like a key of one commit of a read model called `commands`: it is redriven by being queued again,
and what comes of that its status tells. Parked reactions look like a key of a read model called as what reacts, such as
`payment-effects`; each is tried once more when it is redriven.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from bus.control import Reply, ask
from bus.queues import command_queue_worker
from bus.queues.command_queue_worker import ParkedCommands
from bus.reactors import mending as reactions
from bus.reactors.mending import ParkedReactions
from bus.servers.connection import Client
from gateway import compose
from projections import mending
from projections.mending import Parked, ParkedKeys, id_of
from projections.parking import Redriven
from projections.projection import timestamp

COMMANDS = "commands"
COMMAND_ID = "command-"
REACTION_ID = "reaction-"
AWAY = ("nobody_there", "no_answer")


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
    of_models, of_queue, of_services = await asyncio.gather(
        _asked(client, mending.PARKED, key=key),
        _asked(client, command_queue_worker.PARKED, key=key),
        asyncio.gather(*(_reactions(client, service, key) for service in services)),
    )
    keys = msgspec.json.decode(of_models, type=ParkedKeys)
    commands = msgspec.json.decode(of_queue, type=ParkedCommands)
    told = {service: found for service, found in zip(services, of_services, strict=True) if found is not None}
    reacting = [_reaction(service, one) for service, found in told.items() for one in found.items]
    return AllParked(
        [*keys.items, *map(_command, commands.items), *reacting],
        keys.left_out + commands.left_out + sum(found.left_out for found in told.values()),
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


def _command(one: command_queue_worker.Listed) -> Parked:
    return Parked(
        id=f"{COMMAND_ID}{one.sequence}",
        read_model=COMMANDS,
        stream=one.domain,
        key=one.key,
        commits=1,
        sequence=one.sequence,
        offset=0,
        at=timestamp(datetime.fromtimestamp(one.at, UTC)),
        error=f"{one.command}: {one.error}",
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
    """Raises `NotMended`: a command or a reaction cannot be tried without being done."""
    if id.startswith(COMMAND_ID):
        if dry_run:
            raise NotMended(Reply("malformed", "what would come of a command can only be seen by sending it"))
        await _asked(client, command_queue_worker.REDRIVE, sequence=id.removeprefix(COMMAND_ID))
        return Redriven(1, 0)
    if id.startswith(REACTION_ID):
        if dry_run:
            raise NotMended(Reply("malformed", "what would come of a reaction can only be seen by doing it"))
        return await _mend_reaction(client, reactions.REDRIVE, id)
    detail = await _asked(client, mending.REDRIVE, id=id, dry_run="yes" if dry_run else "no")
    return msgspec.json.decode(detail, type=Redriven)


async def discard(client: Client, id: str, sequence: int, offset: int, reason: str) -> Redriven:
    """Give up the first that waits. Raises `NotMended`."""
    if id.startswith(COMMAND_ID):
        if id != f"{COMMAND_ID}{sequence}" or offset:
            raise NotMended(Reply("not_parked", f"{sequence}, offset {offset} is not the place of {id}"))
        await _asked(client, command_queue_worker.DISCARD, sequence=str(sequence), reason=reason)
        return Redriven(0, 0)
    place = {"sequence": str(sequence), "offset": str(offset)}
    if id.startswith(REACTION_ID):
        return await _mend_reaction(client, reactions.DISCARD, id, reason=reason, **place)
    return msgspec.json.decode(await _asked(client, mending.DISCARD, id=id, reason=reason, **place), type=Redriven)


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
