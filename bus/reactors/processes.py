"""How processes and policies run: what they decide about events is sent as commands, under ids that derive from
positions.

A policy has no memory: its commands follow from the event alone. Events are observed into a process's own log, and what
it decides there is relayed as commands.

The process itself is a domain like any other: its engine records each input together with the commands that it
caused, in one commit. An input's command id derives from the event's position and a relayed command's from the
position of the commit that caused it, so a crash anywhere repeats and never doubles. So does the id of what a timer of
an instance is to tell it: however often it rings, that takes effect once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from msgspec import Raw, Struct

from bus.commands import FRAME_BYTES_MAX, Answer, Refused, Stored, Unavailable, Unchanged, Unknown
from bus.reactors.reactor import Again, Occurrence, Reaction
from bus.reactors.timers import Due, Timers
from bus.sender import Sender
from domains.kernel import Policy

PING = "processes.ping"
"""The control verb, with a service behind a dot, that whoever runs what that does about events answers."""

log = logging.getLogger(__name__)


class StepRefused(Exception):
    """A domain refused what a process or policy told it to do: it is stuck and somebody has to look."""


def observe(sender: Sender, wrap: Callable[[object], tuple[str, Struct]]) -> Reaction:
    """A reaction that hands an event to a process. `wrap` gives the instance's id and the command that tells it."""

    async def react(what: Occurrence) -> None:
        instance, command = wrap(what.event)
        answer = await sender.send(
            command,
            id=what.id,
            actor="process",
            cause=what.position,
            correlation=what.commit.correlation or instance,
            bytes_max=FRAME_BYTES_MAX,  # It holds an event, which may be larger than the command that caused it.
        )
        _told(answer)

    return react


def relay(sender: Sender, steps: Callable[[object], Sequence[Struct]], actor: str) -> Reaction:
    """A reaction that sends what a process decided upon, all at once: a command that is refused withholds no other."""

    async def react(what: Occurrence) -> None:
        await _send_all(sender, steps(what.event), what, what.id, actor, what.commit.occurred_at)

    return react


async def ring(sender: Sender, timers: Timers, decode: Callable[[Raw], Struct], actor: str) -> None:
    """Tell instances what they wanted to be told by now, until cancelled. What cannot be told yet comes again."""

    async def tell(due: Due) -> None:
        timer = due.timer
        try:
            answer = await sender.send(
                decode(timer.command),
                id=timer.id,
                actor=actor,
                cause=timer.cause,
                correlation=timer.correlation,
                trace=timer.trace,
            )
            _told(answer)
        except Again as trouble:
            log.info("%s: %s must wait: %s", actor, timer.id, trouble)
        except (StepRefused, msgspec.DecodeError) as error:
            log.error("%s: %s is refused: %s", actor, timer.id, error)
        else:
            await due.done()

    async for batch in timers.due():
        await asyncio.gather(*map(tell, batch))


def _told(answer: Answer) -> None:
    """As `settled`, and a reused id is final, too: it names a place in a log, so what was sent under it before was
    this, as an earlier version of the code put it."""
    if not (isinstance(answer, Refused) and answer.code == "id_reused"):
        settled(answer)


def follow(sender: Sender, policy: Policy[object]) -> Reaction:
    """A reaction that sends what a policy says about an event. Its name is in the ids, for another policy may have
    something else to say to the same domain about the same event."""

    async def react(what: Occurrence) -> None:
        occurred_at = what.at if policy.dated else what.commit.occurred_at
        commands = policy.react(what.event)
        await _send_all(sender, commands, what, f"{policy.name}-{what.id}", policy.name, occurred_at)

    return react


async def _send_all(
    sender: Sender, commands: Sequence[Struct], what: Occurrence, id: str, actor: str, occurred_at: datetime | None
) -> None:
    answers = await asyncio.gather(
        *(
            sender.send(
                command,
                id=f"{id}-{number}",
                actor=actor,
                cause=what.position,
                correlation=what.commit.correlation,
                occurred_at=occurred_at,  # What follows from a record of the past is of that time, too.
                bytes_max=FRAME_BYTES_MAX,  # It may hold what the command held that caused the event, and more.
            )
            for number, command in enumerate(commands)
        )
    )
    for answer in answers:
        _told(answer)


def settled(answer: Answer) -> None:
    """Return when an answer is final; raise `Again` when the command must be sent again, `StepRefused` when not."""
    match answer:
        case Stored() | Unchanged():
            return
        case Unavailable(code):
            raise Again(code)
        case Unknown(reason):
            raise Again(reason)
        case Refused(code, detail):
            raise StepRefused(f"{code}: {detail}")
