"""Messages that workers gave up, for whoever looks after them: listed, put back into their queue, discarded.

Each lies in the stream of its queue, on a subject that no consumer takes, until one of these is done about it. Asked
over the control channel, by any process that may read that stream.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from bus.control import Reply, serve
from bus.queues.command_queue import REQUEST_S, NotQueued

LISTED_MAX = 500
SEQUENCE_MAX = 10**18
REASON_CHARS_MAX = 500
_NOTHING = Reply("parked_unknown", "nothing is parked under this id")

log = logging.getLogger(__name__)

Parked = TypeVar("Parked")


class Verbs(NamedTuple):
    """Control verbs: `parked` lists, with the parameter `key` what is about it only; its reply's `detail` is a
    `ParkedMessages`. `redrive` has the parameter `sequence`, `discard` that and `reason`."""

    parked: str
    redrive: str
    discard: str


def verbs_of(what: str) -> Verbs:
    return Verbs(f"{what}.parked", f"{what}.redrive", f"{what}.discard")


class Listed(Struct, frozen=True):
    """A parked message as it is listed: `sequence` names it, `key` is what it is about, `at` is in seconds since the
    epoch."""

    sequence: int
    queue: str
    key: str
    at: float
    error: str


class ParkedMessages(Struct, frozen=True):
    """`left_out`: those for which there is no room in one list."""

    items: list[Listed]
    left_out: int = 0


class Mending(ABC, Generic[Parked]):
    """Of one kind, whose messages lie in `stream` on `subjects`."""

    def __init__(self, client: Client, stream: str, subjects: Sequence[str], kind: type[Parked]) -> None:
        self._client = client
        self._context = client.jetstream(timeout=REQUEST_S)
        self._stream = stream
        self._subjects = subjects
        self._decode = msgspec.json.Decoder(kind).decode

    @abstractmethod
    def queue_of(self, subject: str) -> str:
        """Whose queue's it is; empty: nothing is parked on this subject."""

    @abstractmethod
    def listed(self, sequence: int, queue: str, parked: Parked) -> Listed: ...

    @abstractmethod
    async def put_back(self, sequence: int, queue: str, parked: Parked) -> None:
        """Into its queue, to be tried as if it were new."""

    @abstractmethod
    async def reject(self, queue: str, parked: Parked, reason: str) -> None:
        """Tell whoever may ask that it is discarded."""

    async def serve(self, verbs: Verbs) -> None:
        await serve(self._client, verbs.parked, self.parked)
        await serve(self._client, verbs.redrive, self.redrive)
        await serve(self._client, verbs.discard, self.discard)

    async def parked(self, parameters: dict[str, str]) -> Reply:
        """Those that were given up, of each subject the longest waiting first."""
        key = parameters.get("key", "")
        found: list[Listed] = []
        left_out = 0
        try:
            async for sequence, queue, parked in self._all():
                one = self.listed(sequence, queue, parked)
                if key not in ("", one.key):
                    continue
                if len(found) == LISTED_MAX:
                    left_out += 1
                    continue
                found.append(one)
        except (nats.errors.Error, APIError, OSError) as error:
            return _not_done(error)
        return Reply(detail=msgspec.json.encode(ParkedMessages(found, left_out)).decode())

    async def redrive(self, parameters: dict[str, str]) -> Reply:
        """Into the queue again, then away from the parked ones: twice in the queue does no harm, nowhere would."""
        try:
            found = await self._find(parameters)
            if found is None:
                return _NOTHING
            sequence, queue, parked = found
            await self.put_back(sequence, queue, parked)
            await self._context.delete_msg(self._stream, sequence)
        except (nats.errors.Error, APIError, NotQueued, OSError) as error:
            return _not_done(error)
        log.info("%s of %s is redriven", self.listed(sequence, queue, parked).key, queue)
        return Reply()

    async def discard(self, parameters: dict[str, str]) -> Reply:
        """For ever, and said so."""
        reason = parameters.get("reason", "").strip()
        if not 1 <= len(reason) <= REASON_CHARS_MAX:
            return Reply("malformed", f"a reason has 1 to {REASON_CHARS_MAX} characters")
        try:
            found = await self._find(parameters)
            if found is None:
                return _NOTHING
            sequence, queue, parked = found
            await self.reject(queue, parked, reason)
            await self._context.delete_msg(self._stream, sequence)
        except (nats.errors.Error, APIError, NotQueued, OSError) as error:
            return _not_done(error)
        log.warning("%s of %s is discarded: %s", self.listed(sequence, queue, parked).key, queue, reason)
        return Reply()

    async def _all(self) -> AsyncIterator[tuple[int, str, Parked]]:
        for subject in self._subjects:
            after = 0
            while True:
                try:
                    found = await self._context.get_msg(self._stream, after + 1, subject=subject, next=True)
                except NotFoundError:
                    break
                after = found.seq or 0
                yield after, self._queue(found), self._decode(found.data or b"")

    async def _find(self, parameters: dict[str, str]) -> tuple[int, str, Parked] | None:
        sequence = parameters.get("sequence", "")
        if not sequence.isdecimal() or not 1 <= int(sequence) <= SEQUENCE_MAX:
            return None
        try:
            found = await self._context.get_msg(self._stream, int(sequence))
        except NotFoundError:
            return None
        queue = self._queue(found)
        return (int(sequence), queue, self._decode(found.data or b"")) if queue else None

    def _queue(self, found: RawStreamMsg) -> str:
        return self.queue_of(found.subject or "")


def _not_done(error: Exception) -> Reply:
    return Reply("not_done", f"the queue cannot be reached: {str(error) or type(error).__name__}")
