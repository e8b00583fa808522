"""What goes along the call path: a call, its reply or the failure that it ends in, and the time that is passed in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar

from msgspec import Struct

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
BUSY_STATUSES = frozenset((429, 500, 502, 503, 504))
"""What an answer says when it is worth asking again."""


class Call(Struct, frozen=True):
    """One request. `target` is a path or a subject, `method` is for HTTP. `repeatable`: asked twice it has no second
    effect; only such a call is ever sent again."""

    target: str
    body: bytes = b""
    method: str = ""
    headers: Mapping[str, str] = {}
    repeatable: bool = False


def http_call(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Call:
    """Repeatable by its method, or because it has an `Idempotency-Key`."""
    headers = headers or {}
    return Call(path, body, method, headers, method in SAFE_METHODS or "Idempotency-Key" in headers)


class Reply(Struct, frozen=True):
    """An answer, whatever it says; `status` is 200 where the transport has none."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


Step = Callable[[Call, float], Awaitable[Reply]]
"""Takes a call and when its time is up, on the clock of `Time`. Raises `CallFailed`."""


@dataclass(frozen=True, slots=True)
class Time:
    """How a step knows what time it is, pauses, and cuts short what takes too long (`TimeoutError`). Seconds."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    within: Callable[[float], AbstractAsyncContextManager[object]] = asyncio.timeout


REAL_TIME = Time()
GRACE_S = 0.25
"""A transport has so much longer than the deadline: whose time was up is to be said by the step that knows."""


class CallFailed(Exception):
    """A call that brought no answer worth having. Each kind has a stable `code`.

    `passing`: it may be over in a moment. `retry_after_s`: not before that.
    """

    code: ClassVar[str] = "call_failed"
    passing: ClassVar[bool] = False

    def __init__(self, destination: str, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{destination}: {detail}")
        self.destination = destination
        self.detail = detail
        self.retry_after_s = retry_after_s


class DeadlineExceeded(CallFailed):
    """Its time was up. Whether it had an effect is not known, unless it was not begun."""

    code = "deadline_exceeded"


class Overloaded(CallFailed):
    """Too many calls wait for their turn here: it was not sent."""

    code = "overloaded"


class BreakerOpen(CallFailed):
    """The destination has been failing: it was not sent."""

    code = "breaker_open"


class Unreachable(CallFailed):
    """Nobody was there to take it: it had no effect."""

    code = "unreachable"
    passing = True


class NoAnswer(CallFailed):
    """It was sent and not answered in time, or the connection broke. Whether it had an effect is not known."""

    code = "no_answer"
    passing = True


class Busy(CallFailed):
    """The answer was one of `BUSY_STATUSES`."""

    code = "busy"
    passing = True

    def __init__(self, destination: str, status: int, retry_after_s: float = 0.0) -> None:
        super().__init__(destination, f"answered {status}", retry_after_s)
        self.status = status


class AnswerTooLarge(CallFailed):
    """The answer is longer than anybody here wants to hold."""

    code = "answer_too_large"
