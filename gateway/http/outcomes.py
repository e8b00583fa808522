"""What became of a command whose outcome was unknown when its request was answered.

Nothing is kept here for it: `/v1/commands/{id}` names all that is needed, sealed with who asked. A queued command's
outcome is where its place in the queue says (`bus/queues/command_queue.py`), and until it has left the queue it is
pending.
What the log says comes before a refusal: a command that was refused by a worker which then died, and not by its
successor, is done.

Of a command that no engine answered in time the log alone can say what became. Three answers:

- done: a commit in the log bears its id. Found by the index of commits, in any process and at any later time.
- rejected: it was definitely not written, and will not be. An engine begins no command after its deadline, and one
  decided before that went into a block which was sent either at once or right after the block then in flight, which
  itself was sent before the deadline. Whenever an engine has to decide again it looks at the deadline anew. And a block
  that is stored late must follow the block that its engine knew as the last: any block stored since fences it off. So
  behind a block that was written after the deadline none follows that holds it for the first time. Once every
  partition ends with such a block, and the index shows all of them and not this id, it is not there.
  For an outbox, which tells of what was written before, it holds as well: a block bears the time at which its last row
  was written, rows are told in their order, and none is written whose deadline had passed.
- pending: all else. On a log that is at rest this lasts until the next write, for a late block may still come.

Clocks of gateways and engines may differ by `CLOCKS_DIFFER_S`. To send the request again under its Idempotency-Key is
another attempt: it takes effect at most once, whatever was said of the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from bus.commands import partition_of, position_in
from bus.logs.log import Log
from bus.queues.command_queue import CommandQueue, Done, GivenUp, Place, Rejected
from bus.sender import COMMAND_TIMEOUT_S
from gateway.http.answers import CommandStatus
from gateway.http.problems import Problem, details_of, refused
from gateway.http.tokens import Tokens
from projections.commit_index import commit_index
from projections.feed import Decoder
from projections.history import History
from projections.projection import Projection, Recorded

CLOCKS_DIFFER_S = 5.0
WAIT_S = 2.0
ID_PATTERN = re.compile(
    r"(?:queued\.(\d{1,18})\.(\d{1,4})\.)?([a-z_]{1,64})\.(\d{1,15})\.([0-9a-f-]{36})\.([0-9a-f]{32})\.([0-9a-f]{32})"
)
"""Of a queued one its place; log, deadline in ms since the epoch, command, digest, seal."""
PLACES = {
    "orders": "/v1/orders/{}",
    "inventory": "/v1/stock/{}",
    "inventory/reservation": "/v1/reservations/{}",
    "catalogue": "/v1/products/{}",
    "customers": "/v1/customers/{}",
}
"""Where what a command did is to be seen, by what it belongs to; of a log, or of one kind of its aggregates."""


class Asked(Struct, frozen=True):
    """A command that was sent: to which log, what it is known by, and when at the latest it was begun; or where it was
    put into the queue."""

    log: str
    deadline_ms: int
    command_id: str
    digest: str
    place: Place | None = None


def asked_now(log: str, command_id: str, digest: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Asked:
    """For a command that is on its way: its deadline is no later than this says."""
    return Asked(log, int((time.time() + timeout_s) * 1_000), command_id, digest)


def sealed(asked: Asked, tokens: Tokens, subject: str) -> str:
    """The id by which who asked, and nobody else, may ask again."""
    queued = f"queued.{asked.place}." if asked.place else ""
    plain = f"{queued}{asked.log}.{asked.deadline_ms}.{asked.command_id}.{asked.digest}"
    return f"{plain}.{tokens.seal(subject, plain)}"


def opened(id: str, tokens: Tokens, subject: str) -> Asked | None:
    """What an id names, if it was given to this subject."""
    match = ID_PATTERN.fullmatch(id)
    if match is None:
        return None
    place = Place(int(match[1]), int(match[2])) if match[1] else None
    asked = Asked(match[3], int(match[4]), match[5], match[6], place)
    return asked if tokens.is_seal(match[7], subject, id.rpartition(".")[0]) else None


class Outcomes:
    """`reached` waits until a read model shows a position, for so many seconds, and says whether it does."""

    def __init__(
        self,
        history: History,
        logs: Mapping[str, Log],
        decoders: Mapping[str, Decoder],
        reached: Callable[[Projection, int, float], Awaitable[bool]],
        queue: CommandQueue,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._logs = logs
        self._decoders = decoders
        self._reached = reached
        self._queue = queue
        self._now = now

    async def of(self, id: str, asked: Asked) -> CommandStatus:
        """Raises `LogUnreachable`, `ReadModelMissing`, `QueueUnreachable`, `Problem` 410."""
        if asked.place is not None:
            return await self._of_queued(id, asked, asked.place)
        found = await self._history.of_command(asked.log, asked.command_id)
        if not found:
            if not await self._closed(asked):
                return CommandStatus(id, "pending", detail="it may still be written")
            found = await self._history.of_command(asked.log, asked.command_id)
        return _told(id, asked, found, self._logs[asked.log].partitions)

    async def _of_queued(self, id: str, asked: Asked, place: Place) -> CommandStatus:
        outcome = await self._queue.outcome(place)
        waits = outcome is None and await self._queue.waits(place)
        if outcome is None and not waits:
            outcome = await self._queue.outcome(place)  # Told before it left the queue.
        if isinstance(outcome, Done):
            partitions = self._logs[asked.log].partitions
            position = position_in(asked.log, outcome.position, outcome.partition, partitions)
            return CommandStatus(id, "done", position, outcome.version, outcome.location)
        if waits:
            return CommandStatus(id, "pending", detail="it waits in the queue")
        if found := await self._history.of_command(asked.log, asked.command_id):
            return _told(id, asked, found, self._logs[asked.log].partitions)
        match outcome:
            case Rejected(code, detail, field):
                return _rejected(id, code, detail, field)
            case GivenUp(error):
                detail = f"it failed again and again and is parked ({error}): `tally redrive` has it tried anew"
                return CommandStatus(id, "pending", detail=detail)
        raise Problem(410, "outcome_forgotten", "it was not written, or changed nothing; that is kept for some days")

    async def _closed(self, asked: Asked) -> bool:
        """Whether the index shows all blocks that could hold it, and no other may come."""
        closes_at = asked.deadline_ms / 1_000 + CLOCKS_DIFFER_S
        if self._now() <= closes_at:
            return False
        log, upto = self._logs[asked.log], 0
        for partition in range(log.partitions):
            last = await log.last(partition)
            if last is None or self._decoders[asked.log].decode(last.data).at.timestamp() <= closes_at:
                return False
            upto = max(upto, last.sequence)
        return await self._reached(commit_index(asked.log), upto, WAIT_S)


def _told(id: str, asked: Asked, found: list[Recorded], partitions: int) -> CommandStatus:
    if not found:
        return _rejected(id, "not_written", "it was not written, and will not be")
    first = found[0]
    if first.commit.digest and first.commit.digest != asked.digest:  # An outbox keeps it to itself.
        return _rejected(id, "id_reused", "the same key was used with another body before")
    kind = first.commit.aggregate.partition(":")[0]
    location = PLACES.get(f"{asked.log}/{kind}", PLACES.get(asked.log, "")).format(first.commit.correlation)
    position = position_in(asked.log, first.sequence, partition_of(first.commit.aggregate, partitions), partitions)
    return CommandStatus(id, "done", position, first.commit.version, location)


def _rejected(id: str, code: str, detail: str, field: str = "") -> CommandStatus:
    return CommandStatus(id, "rejected", problem=details_of(refused(code, detail, field)))
