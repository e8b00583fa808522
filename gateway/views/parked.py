"""What is parked, wherever: keys of read models, and queued commands that were given up. One list, one way to mend.

A parked command looks like a key of one commit of a read model called `commands`: it is redriven by being queued again,
and what comes of that its status tells.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec

from bus.control import Reply, ask
from bus.queues import command_queue_worker
from bus.queues.command_queue_worker import ParkedCommands
from bus.servers.connection import Client
from projections import mending
from projections.mending import Parked, ParkedKeys
from projections.parking import Redriven
from projections.projection import timestamp

COMMANDS = "commands"
COMMAND_ID = "command-"


class NotMended(Exception):
    """Why it could not be done."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.detail} ({reply.code})")
        self.code = reply.code
        self.detail = reply.detail


async def parked(client: Client, key: str = "") -> ParkedKeys:
    """All of it, or what waits for one key. Raises `NotMended`."""
    of_models, of_queue = await asyncio.gather(
        _asked(client, mending.PARKED, key=key), _asked(client, command_queue_worker.PARKED, key=key)
    )
    keys = msgspec.json.decode(of_models, type=ParkedKeys)
    commands = msgspec.json.decode(of_queue, type=ParkedCommands)
    listed = [
        Parked(
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
        for one in commands.items
    ]
    return ParkedKeys([*keys.items, *listed], keys.left_out + commands.left_out)


async def redrive(client: Client, id: str, *, dry_run: bool = False) -> Redriven:
    """Raises `NotMended`: a command cannot be tried without being done."""
    if id.startswith(COMMAND_ID):
        if dry_run:
            raise NotMended(Reply("malformed", "what would come of a command can only be seen by sending it"))
        await _asked(client, command_queue_worker.REDRIVE, sequence=id.removeprefix(COMMAND_ID))
        return Redriven(1, 0)
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
    return msgspec.json.decode(await _asked(client, mending.DISCARD, id=id, reason=reason, **place), type=Redriven)


async def _asked(client: Client, verb: str, **parameters: str) -> str:
    reply = await ask(client, verb, **parameters)
    if reply.code:
        raise NotMended(reply)
    return reply.detail
