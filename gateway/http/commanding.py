"""What every way in does with a command, over HTTP or gRPC: its id by the client's key, and what an answer means.

Knows neither protocol: what went wrong is a `Problem`, which each writes in its own words.
"""

from __future__ import annotations

import math
import os
import re
import time
from hashlib import blake2b

from msgspec import Raw, Struct

from bus.commands import Refused, Stored, Unavailable, Unchanged, Unknown
from bus.sender import COMMAND_TIMEOUT_S, Sender
from gateway.http.problems import Problem, refused, unavailable
from gateway.http.tokens import Principal

KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,128}")
KEY = "Idempotency-Key"


class Written(Struct, frozen=True):
    """What a command came to: `events` are empty when nothing had to change. `position` is empty as long as the log
    takes nothing from an outbox: it is done, and is told of later."""

    position: str
    version: int
    events: Raw | None
    repeated: bool

    @property
    def headers(self) -> dict[str, str]:
        where = {"Position": self.position} if self.position else {}
        return {**where, "ETag": f'"{self.version}"'}


class Key(Struct, frozen=True):
    """A command's id, and the code of the refusal when it was used for something else before."""

    id: str
    reused: str = "id_reused"


class OutcomeUnknown(Exception):
    """Only the log can say whether the command was written, and not yet."""


def given_key(principal: Principal, key: str) -> Key:
    """Of the key that a client gave, scoped to who asks. Raises `Problem` for what is none."""
    if not KEY_PATTERN.fullmatch(key):
        detail = "an Idempotency-Key is 1 to 128 printable ASCII characters without spaces"
        raise Problem(422, "malformed", detail, field=f"header:{KEY}")
    return Key(_hashed(principal.subject, "key", key))


def natural_key(principal: Principal, about: str, reused: str) -> Key:
    """Of a command that is the only one of its kind about something, where the client gave no key."""
    return Key(_hashed(principal.subject, "about", about), reused)


class Commanding:
    """Sends commands, and waits until they are on disk."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._running: set[str] = set()

    async def send(
        self,
        command: Struct,
        key: Key,
        *,
        digest: str,
        principal: Principal,
        correlation: str,
        trace: str,
        expect: int | None = None,
        left_s: float = math.inf,
    ) -> Written:
        """`left_s`: for how long whoever asks waits. Raises `Problem`; `OutcomeUnknown` where only the log can say."""
        if key.id in self._running:
            raise Problem(409, "still_running", f"this {KEY} is being worked on", headers={"Retry-After": "1"})
        self._running.add(key.id)
        try:
            answer = await self._sender.send(
                command,
                id=key.id,
                digest=digest,
                actor=f"{principal.role}:{principal.subject}",
                correlation=correlation,
                trace=trace,
                expect=expect,
                timeout_s=min(COMMAND_TIMEOUT_S, left_s),
            )
        finally:
            self._running.discard(key.id)
        match answer:
            case Stored(position, version, events, repeated):
                return Written(self._sender.position(command, position), version, events, repeated)
            case Unchanged(position, version):
                return Written(self._sender.position(command, position), version, None, repeated=False)
            case Refused(code, detail, field):
                if code == "id_reused":
                    code, detail = key.reused, "the same key was used with another body before"
                raise refused(code, detail, field)
            case Unavailable(code, retry_after_s):
                detail = UNAVAILABLE.get(code, "nothing was written; come again")
                raise unavailable("overloaded" if code == "overloaded" else "unavailable", detail, retry_after_s)
            case Unknown(reason):
                raise OutcomeUnknown(reason)


def uuid7() -> str:
    """A UUID version 7 (RFC 9562): the time in milliseconds, then random bits, so that ids sort by age."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return _uuid(f"{value & ~(0x3 << 62) | 0x2 << 62:032x}")


def _hashed(*parts: str) -> str:
    """Derived ids: the same for the same parts, and nobody else's."""
    return _uuid(blake2b("\n".join(parts).encode(), digest_size=16).hexdigest())


def _uuid(digits: str) -> str:
    """32 hexadecimal digits as a UUID is written; its class takes ten times as long."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


UNAVAILABLE = {
    "queue_full": "the queue is full; nothing was queued",
    "queue_unavailable": "nobody leads the queue at the moment; nothing was queued",
    "no_engine": "nobody handles these commands at the moment; nothing was written",
    "broker_unreachable": "the broker cannot be reached; nothing was written",
    "deadline_passed": "it would have come too late; nothing was written",
    "overloaded": "too much waits already; nothing was written",
    "contended": "another owner was always first; nothing was written",
    "states_unreachable": "the stored states cannot be read at the moment; nothing was written",
    "database_unavailable": "the service's database takes nothing at the moment; nothing was written",
    "log_full": "the broker's store is full; nothing was written",
    "log_unavailable": "nobody leads the log at the moment; nothing was written",
    "log_refused": "the broker does not take this block; nothing was written",
}
