"""Parked reactions, for whoever looks after them: listed, tried again, given up.

Asked over the control channel, done by the process that runs them.

Each request is bounded: of a queue that is long, or slow, it deals with the first part, and says how many are left.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from bus.control import Reply
from bus.logs.log import LogDamaged, LogUnreachable
from bus.reactors.checkpoints import Place, Queue
from bus.reactors.reactor import Again, Reactor

PARKED = "reactions.parked"
"""The control verb that lists, of one service; parameter `key`, to see no other one. Its reply's `detail` is a
`ParkedReactions`."""
REDRIVE = "reactions.redrive"
"""Parameters `reactor` and `key`. Its reply's `detail` is a `RedrivenReactions`."""
DISCARD = "reactions.discard"
"""The same, `reason`, and where the first that waits lies, `sequence` and `offset`. Its reply is that of a redrive."""
LISTED_MAX = 200
"""Keys in one list, of one service."""
ERROR_CHARS_MAX = 1_000
REASON_CHARS_MAX = 500
REDRIVE_MAX = 200
"""Reactions that one request has tried."""
REDRIVE_S = 3.0
"""How long that may take: whoever asks waits for it."""

log = logging.getLogger(__name__)


class ParkedKey(Struct, frozen=True):
    """What waits for one key of a reactor: how many reactions; the first is to the event at `sequence` and `offset` of
    `log`, which happened at `at` (seconds since the epoch), and failed with `error`."""

    reactor: str
    log: str
    key: str
    reactions: int
    sequence: int
    offset: int
    at: float
    error: str


class ParkedReactions(Struct, frozen=True):
    """`left_out`: keys for which there is no room in one list."""

    items: list[ParkedKey]
    left_out: int = 0


class RedrivenReactions(Struct, frozen=True):
    """How many were done, how many are left, and why the first of those is."""

    redriven: int
    left: int
    error: str = ""


def verb_of(verb: str, service: str) -> str:
    """Each service is asked for its own."""
    return f"{verb}.{service}"


class Mending:
    """Of the reactors of one service."""

    def __init__(self, reactors: Sequence[Reactor[object]]) -> None:
        self._reactors = {reactor.name: reactor for reactor in reactors}
        self._at_work: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def keys(self) -> int:
        """How many keys are parked."""
        return sum(len(reactor.parking.keys) for reactor in self._reactors.values())

    async def parked(self, parameters: dict[str, str]) -> Reply:
        """What waits, of all reactors, each one's longest waiting first."""
        key = parameters.get("key", "")
        found: list[ParkedKey] = []
        left_out = 0
        try:
            for reactor in self._reactors.values():
                queues = await reactor.parking.queues(key)
                room = LISTED_MAX - len(found)
                found += [await _told(reactor, queue) for queue in queues[:room]]
                left_out += max(0, len(queues) - room)
        except (LogDamaged, LogUnreachable, msgspec.DecodeError, sqlite3.Error) as error:
            return _failed(error)
        return Reply(detail=msgspec.json.encode(ParkedReactions(found, left_out)).decode())

    async def redrive(self, parameters: dict[str, str]) -> Reply:
        """Try again what waits for a key, each once and in order, up to the first that fails."""
        reactor, key = self._reactors.get(parameters.get("reactor", "")), parameters.get("key", "")
        if reactor is None:
            return _NOTHING
        async with self._at_work[reactor.name]:
            return await self._redrive(reactor, key)

    async def discard(self, parameters: dict[str, str]) -> Reply:
        """Give up for ever what waits first for a key, and try what is behind it."""
        reactor, key = self._reactors.get(parameters.get("reactor", "")), parameters.get("key", "")
        reason = parameters.get("reason", "").strip()
        if reactor is None:
            return _NOTHING
        if not 1 <= len(reason) <= REASON_CHARS_MAX:
            return Reply("malformed", f"a reason has 1 to {REASON_CHARS_MAX} characters")
        try:
            place = Place(int(parameters.get("sequence", "")), int(parameters.get("offset", "")))
        except ValueError:
            return Reply("malformed", "the event's sequence and offset are numbers")
        async with self._at_work[reactor.name]:
            try:
                queue = await reactor.parking.queue(key)
                if queue is None:
                    return _NOTHING
                if queue.first != place:
                    return Reply("not_parked", f"{place.sequence}, offset {place.offset} is not what waits first")
                await reactor.parking.discard(place, key, reason)
            except sqlite3.Error as error:
                return _failed(error)
            log.warning("%s discards %s at %d, offset %d: %s", reactor.name, key, *place, reason)
            outcome = await self._redrive(reactor, key)
            return _done(RedrivenReactions(0, 0)) if outcome == _NOTHING else outcome

    async def _redrive(self, reactor: Reactor[object], key: str) -> Reply:
        done, error = 0, ""
        try:
            if await reactor.parking.queue(key) is None:
                return _NOTHING
            try:
                async with asyncio.timeout(REDRIVE_S):
                    while done < REDRIVE_MAX and not error and (queue := await reactor.parking.queue(key)):
                        error = await _tried(reactor, queue)
                        done += not error
            except TimeoutError:
                error = f"it was not done within {REDRIVE_S:g} s"
            queue = await reactor.parking.queue(key)
        except (LogDamaged, LogUnreachable, msgspec.DecodeError, sqlite3.Error) as trouble:
            return _failed(trouble)
        left = queue.reactions if queue is not None else 0
        log.info("%s: %d reactions for %s redriven, %d left", reactor.name, done, key, left)
        return _done(RedrivenReactions(done, left, error if left else ""))


async def _tried(reactor: Reactor[object], queue: Queue) -> str:
    """Why the first of a queue could not be done; empty: it was, and waits no more."""
    found = await reactor.find(queue.first)
    if found is None:
        return "this version of the code does nothing about it"
    try:
        await reactor.react(found.what)
    except Again as trouble:
        return f"it must wait: {trouble}"
    except Exception as error:  # Whatever it is, it is told, logged and kept.
        log.exception("%s: %s fails again", reactor.name, found.what.id)
        await reactor.parking.failed_again(queue, repr(error))
        return repr(error)
    await reactor.parking.done(queue.first)
    return ""


async def _told(reactor: Reactor[object], queue: Queue) -> ParkedKey:
    found = await reactor.find(queue.first)
    return ParkedKey(
        reactor=reactor.name,
        log=reactor.observes,
        key=queue.key,
        reactions=queue.reactions,
        sequence=queue.first.sequence,
        offset=queue.first.offset,
        at=found.what.at.timestamp() if found is not None else 0.0,
        error=queue.error[:ERROR_CHARS_MAX],
    )


def _done(outcome: RedrivenReactions) -> Reply:
    return Reply(detail=msgspec.json.encode(outcome).decode())


def _failed(error: Exception) -> Reply:
    return Reply("not_done", f"{type(error).__name__}: {error}")


_NOTHING = Reply("parked_unknown", "nothing is parked under this id")
