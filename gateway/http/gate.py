"""What every route does with a command or a query: keys, deadlines, positions, and the answers' meaning in HTTP."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, NoReturn

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.params import Parameter
from msgspec import Raw, Struct

from bus.announcements import Standings
from bus.calls.call import CallFailed, DeadlineExceeded, Reply
from bus.calls.deadline import HEADER, deadline_of
from bus.calls.path import CallPath
from bus.commands import COMMAND_BYTES_MAX, digest_of
from bus.logs.log import EPOCH_SEQUENCE, Log, LogUnreachable
from bus.outboxes.state_stored import Kept, Unanswered, ask
from bus.queues.command_queue import CommandQueue, NotQueued, Queued
from bus.reactors.observers import AnyPolicy, Process
from bus.sender import Sender
from domains.kernel import ID_PATTERN
from gateway.http.answers import Accepted
from gateway.http.commanding import (
    UNAVAILABLE,
    Commanding,
    Key,
    OutcomeUnknown,
    Written,
    given_key,
    natural_key,
    uuid7,
)
from gateway.http.consequences import Consequences
from gateway.http.degraded import lacks
from gateway.http.headers import header_of
from gateway.http.outcomes import Asked, Outcomes, asked_now, sealed
from gateway.http.problems import Problem, refused, unavailable
from gateway.http.reached import reached
from gateway.http.tokens import Principal, Tokens
from gateway.http.versions import canonical
from gateway.views.catalogue import Catalogue
from gateway.views.changes import Changes
from gateway.views.order_lists import OrderLists
from projections.feed import Decoder
from projections.history import History
from projections.order_summary import order_summary
from projections.projection import Projection
from projections.reader import Reader

WAIT_S = 2.0
WAIT_MAX_S = 30.0
OPTIONAL_S = 1.0
"""For how long a service is asked for what the answer can do without."""
ETAG_PATTERN = re.compile(r'"(\d{1,18})(?:\.\d{1,18}){0,3}"')
POSITION_PATTERN = re.compile(r"([a-z_]{1,64})(?:\.\d{1,2})?=(\d{1,18})")
WAITS_PATTERN = re.compile(r"wait=(\d{1,5}(?:\.\d{1,3})?)")
POSITIONS_MAX = 64
_NOTHING_KEPT = Reply(200, msgspec.json.encode(Kept(0, Raw(b"null"))))
"""In place of what a service keeps, where it does not say."""
_DEADLINE = HEADER.lower().encode()

log = logging.getLogger(__name__)

AnyRequest = Request[Principal, None, State]
PathId = Annotated[str, Parameter(pattern=ID_PATTERN, max_length=64)]
"""An id in a path. Litestar keeps to its own constraints there, so msgspec's have to be said again."""
QueryId = Annotated[str | None, Parameter(pattern=ID_PATTERN, max_length=64)]
"""The same in a query, where it may be left out."""


class Gate:
    """The gateway's ways to the inside: senders for commands, read models for queries, the logs for
    the past, standings for positions and changes."""

    def __init__(
        self,
        sender: Sender,
        reader: Reader,
        standings: Standings,
        logs: Mapping[str, Log],
        decoders: Mapping[str, Decoder],
        tokens: Tokens,
        processes: Sequence[Process],
        policies: Sequence[AnyPolicy],
        services: Mapping[str, CallPath],
        queue: CommandQueue,
    ) -> None:
        """`services` are the paths to those that are asked what they keep."""
        self._tokens = tokens
        self._services = services
        self._queue = queue
        self.sender = sender
        self.commanding = Commanding(sender)
        self.reader = reader
        self.standings = standings
        self.logs = logs
        self.history = History(reader, logs, decoders)
        self.outcomes = Outcomes(self.history, logs, decoders, self.reached, self._queue)
        self.changes = Changes(standings, reader)
        orders = order_summary.stream
        self.lists = OrderLists(logs[orders], decoders[orders], standings, reader, self.changes)
        self.catalogue = Catalogue(reader, standings)
        self._consequences = Consequences(processes, policies, logs, standings, self.reached)

    def key(self, request: AnyRequest) -> Key:
        """The id of the command that a request stands for, scoped to who asks."""
        given = header(request, b"idempotency-key")
        return Key(uuid7()) if given is None else given_key(request.user, given)

    def natural_key(self, request: AnyRequest, about: str, reused: str) -> Key:
        """The same, for a command that is the only one of its kind about something, whether the client has a key."""
        given = header(request, b"idempotency-key")
        return natural_key(request.user, about, reused) if given is None else given_key(request.user, given)

    async def execute(
        self, request: AnyRequest, key: Key, command: Struct, *, correlation: str, location: str
    ) -> Written:
        """Send a command and wait until it is on disk. `location`: where what it did is to be seen.

        Raises `Problem` for everything else; `Accepted` where only the log can say, and where the client prefers not
        to wait: then the command is in the queue.
        """
        digest = digest_of(
            f"{request.method} {canonical(request.scope['path'])}\n".encode() + request.scope["state"].get("body", b"")
        )
        left_s = time_left_s(request)
        if responds_async(request):
            await self._enqueue(request, key, command, digest, correlation, location)
        try:
            return await self.commanding.send(
                command,
                key,
                digest=digest,
                principal=request.user,
                correlation=correlation,
                trace=request.scope["state"]["traceparent"],
                expect=expected_version(request),
                left_s=left_s,
            )
        except OutcomeUnknown as error:
            detail = "whether this was written is not known yet; under its Idempotency-Key it may also be repeated"
            asked = asked_now(self.sender.domain_of(command), key.id, digest)
            raise Accepted(sealed(asked, self._tokens, request.user.subject), detail) from error

    async def _enqueue(
        self, request: AnyRequest, key: Key, command: Struct, digest: str, correlation: str, location: str
    ) -> NoReturn:
        """Put a command into the queue. Raises `Accepted`, or `Problem` when it is not there."""
        queued = Queued(
            id=key.id,
            command=Raw(msgspec.json.encode(command)),
            digest=digest,
            actor=f"{request.user.role}:{request.user.subject}",
            correlation=correlation,
            trace=request.scope["state"]["traceparent"],
            expect=expected_version(request),
            location=location,
        )
        if len(queued.command) > COMMAND_BYTES_MAX:
            raise refused("command_too_large", f"a command is at most {COMMAND_BYTES_MAX} bytes")
        domain = self.sender.domain_of(command)
        try:
            place = await self._queue.put(domain, queued)
        except NotQueued as error:
            maybe = "it may be in the queue; under its Idempotency-Key it can be sent again"
            raise unavailable(error.code, maybe if error.maybe else UNAVAILABLE[error.code]) from error
        asked = Asked(domain, 0, key.id, digest, place)
        raise Accepted(sealed(asked, self._tokens, request.user.subject), "it waits in the queue", applied=True)

    async def kept(self, request: AnyRequest, service: str, aggregate: str) -> Kept:
        """What a state-stored service keeps, from itself: never older than any answer that it gave.

        Raises `Problem` 503 where it does not say, 504 where the client's time is up.
        """
        deadline = time.monotonic() + time_left_s(request)
        try:
            return await ask(self._services[service], aggregate, deadline)
        except CallFailed as error:
            if isinstance(error, DeadlineExceeded) and time.monotonic() >= deadline:
                raise Problem(504, "deadline_exceeded", str(error)) from error
            raise unavailable("unavailable", str(error), error.retry_after_s) from error
        except Unanswered as error:
            raise unavailable("unavailable", str(error)) from error

    async def kept_if_told(self, request: AnyRequest, service: str, aggregate: str) -> Kept | None:
        """The same for an answer that can do without, and says so: None where the service does not tell it soon."""

        told = True

        def without(_: CallFailed) -> Reply:
            nonlocal told
            told = False
            return _NOTHING_KEPT

        deadline = time.monotonic() + min(OPTIONAL_S, time_left_s(request))
        try:
            kept = await ask(self._services[service], aggregate, deadline, without)
        except Unanswered as error:
            log.warning("%s", error)
            told = False
        if told:
            return kept
        lacks(request, service)
        return None

    async def fresh(self, request: AnyRequest, *models: Projection) -> dict[str, str]:
        """Wait until these read models show what `Min-Position` asks for. Headers to add: a warning when stale.

        A position of a log that feeds none of them asks for what processes and policies did upon it (`Consequences`).

        Raises `Problem` 503 `position_not_reached` unless the client takes a stale answer.
        """
        left_s = time_left_s(request)
        asked = header(request, b"min-position")
        if not asked:
            return {}
        wanted = positions(asked, self.logs)
        prefer = header(request, b"prefer") or ""
        waits = WAITS_PATTERN.search(prefer)
        wait_s = min(float(waits[1]), WAIT_MAX_S) if waits else WAIT_S
        wait_s = min(wait_s, left_s)
        elsewhere = wanted.keys() - {model.stream for model in models}
        try:
            shown = await asyncio.gather(
                *(self.reached(model, wanted[model.stream], wait_s) for model in models if model.stream in wanted),
                *(
                    self._consequences.shown(domain, wanted[domain], model, wait_s)
                    for domain in elsewhere
                    if wanted[domain] > EPOCH_SEQUENCE
                    for model in models
                ),
            )
        except LogUnreachable as error:
            log.info("what %s led to cannot be told: %s", asked, error)
            shown = [False]
        if all(shown):
            return {}
        if "handling=stale" in prefer:
            return {"Warning": '110 - "Response is Stale"'}
        raise unavailable("position_not_reached", f"{asked} was not reached in {wait_s:g} s")

    async def reached(self, model: Projection, sequence: int, wait_s: float) -> bool:
        return await reached(self.standings, self.reader, model, sequence, wait_s)

    async def up_to_date(self, model: Projection, wait_s: float = WAIT_S) -> None:
        """Wait, bounded, until a read model shows all that its log holds now."""
        try:
            head = await self.logs[model.stream].head()
        except LogUnreachable as error:
            raise unavailable("unavailable", "the log cannot be reached") from error
        if not await self.reached(model, head, wait_s):
            raise unavailable("position_not_reached", f"{model.name} lags behind its log")


def gate_of(request: AnyRequest) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


def header(request: AnyRequest, name: bytes) -> str | None:
    """A header by its name in lower case, without a parsed map of all of them."""
    return header_of(request.scope, name)


def time_left_s(request: AnyRequest) -> float:
    """For how long whoever asks waits, where he says so (`Deadline-Ms`); else `inf`.

    Raises `Problem` 504 for what is late, and so is not begun, 422 for what makes no sense.
    """
    given = header(request, _DEADLINE)
    if given is None:
        return math.inf
    try:
        left_s = deadline_of({HEADER: given}, 0.0)
    except ValueError as error:
        raise Problem(422, "malformed", str(error), field=f"header:{HEADER}") from error
    if left_s <= 0:
        raise Problem(504, "deadline_exceeded", "the deadline had passed, so it was not begun")
    return left_s


def responds_async(request: AnyRequest) -> bool:
    """Whether the client would rather ask later than wait (`Prefer: respond-async`, RFC 7240)."""
    prefers = header(request, b"prefer")
    return prefers is not None and "respond-async" in (each.strip().lower() for each in prefers.split(","))


def expected_version(request: AnyRequest) -> int | None:
    """The version that `If-Match` asks for."""
    given = header(request, b"if-match")
    if given is None or given == "*":
        return None
    match = ETAG_PATTERN.fullmatch(given.strip())
    if match is None:
        raise Problem(412, "version_conflict", f"no version has the ETag {given[:64]}", field="header:If-Match")
    return int(match[1])


def is_known(request: AnyRequest, etag: str) -> bool:
    """Whether the client has what this ETag stands for already (`If-None-Match`)."""
    given = header(request, b"if-none-match")
    if given is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags


def positions(header: str, logs: Collection[str]) -> dict[str, int]:
    """`orders=12,inventory=7` as a dict; `orders.2=12` is the same place, for a sequence is the stream's. Raises
    `Problem` for anything else, and for a log that there is not."""
    wanted: dict[str, int] = {}
    parts = header.split(",")
    if len(parts) > POSITIONS_MAX:
        raise _no_position(f"at most {POSITIONS_MAX} positions are waited for")
    for part in parts:
        match = POSITION_PATTERN.fullmatch(part.strip())
        if match is None:
            raise _no_position("positions look like orders=12,inventory=7, or orders.2=12 of a partition")
        log, sequence = match[1], int(match[2])
        if log not in logs:
            raise _no_position(f"there is no log {log}")
        wanted[log] = max(sequence, wanted.get(log, 0))
    return wanted


def _no_position(detail: str) -> Problem:
    return Problem(422, "malformed", detail, field="header:Min-Position")
