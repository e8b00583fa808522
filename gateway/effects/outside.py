"""What every effect over HTTP does: ask a service outside under an id of its own, and tell its answer as a command."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from bus.calls.call import AnswerTooLarge, CallFailed, http_call
from bus.calls.path import CallPath
from bus.reactors.processes import settled
from bus.reactors.reactor import Again, Occurrence
from bus.sender import Sender
from bus.tracing import current, standing

NOWHERE = "http://127.0.0.1:9"
"""Where nobody answers: what a missing service looks like."""

Answer = TypeVar("Answer")


class Cause(Struct, frozen=True):
    """What an effect is about: the event's own id, and what places it in a conversation."""

    id: str
    position: str
    correlation: str
    trace: str


def cause_of(what: Occurrence) -> Cause:
    return Cause(what.id, what.position, what.commit.correlation, current() or what.commit.trace)


class Outside:
    """One service outside; `actor` is who tells what it answered.

    The call path gives up soon, and says when to come again; the reactor, or the queue, comes again until it is done.
    """

    def __init__(self, service: CallPath, sender: Sender, actor: str) -> None:
        self._service = service
        self._sender = sender
        self._actor = actor

    async def ask(self, path: str, key: str, body: object, kind: type[Answer], cause: Cause) -> Answer:
        """Its answer. Raises `Again` where it may answer later."""
        name = self._service.destination
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        try:
            with standing(cause.trace):
                reply = await self._service.call(http_call("POST", path, msgspec.json.encode(body), headers))
        except AnswerTooLarge:
            raise
        except CallFailed as failure:
            raise Again(str(failure), failure.retry_after_s) from failure
        if reply.status in (408, 425):
            raise Again(f"the {name} answered {reply.status}")
        if not 200 <= reply.status < 300:
            raise ValueError(f"the {name} answered {reply.status}")
        return msgspec.json.decode(reply.body, type=kind)

    async def tell(self, command: Struct, cause: Cause) -> None:
        settled(
            await self._sender.send(
                command,
                id=f"{cause.id}-answer",
                actor=self._actor,
                cause=cause.position,
                correlation=cause.correlation,
                trace=cause.trace,
            )
        )
