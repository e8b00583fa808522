"""How much may be asked: by one client in a while (a token bucket), and of one route at once. Both are off unless set.

Counted in this process. Where several gateways run, each counts for itself, so a client that reaches all of them may
ask that many times as much, unless they share their buckets (`shared_limits.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.http.answers import HEADERS
from gateway.http.live import EVENTS
from gateway.http.problems import Problem, unavailable
from gateway.http.tokens import Principal
from gateway.settings import ANY_ROUTE, Rate

CLIENTS_MAX = 100_000
"""Whose buckets are remembered. Beyond it those that are full are forgotten, which changes nothing, then the oldest."""


class Taken(NamedTuple):
    """What a bucket says: `left` requests now, all of them again in `full_s`; none before `wait_s`, 0 where there was
    one."""

    left: int
    full_s: float
    wait_s: float


class Bucket:
    """The buckets of one role's clients, each a number: when it is full again. What is taken fills up evenly."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = float(rate.window_s)
        self._each_s = rate.window_s / rate.requests
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._swept_at = -math.inf

    def take(self, client: str) -> Taken:
        now = self._clock()
        before = self._full_at.get(client)
        if before is None and len(self._full_at) >= CLIENTS_MAX:
            self._make_room(now)
        full_at = max(now, before or now) + self._each_s
        over_s = full_at - now - self._window_s
        if over_s > 1e-9:
            return Taken(0, full_at - self._each_s - now, over_s)
        self._full_at[client] = full_at
        return Taken(int((self._window_s - (full_at - now)) / self._each_s + 1e-9), full_at - now, 0.0)

    def _make_room(self, now: float) -> None:
        if now - self._swept_at >= self._window_s:  # To look at all of them is dear: by then many are full again.
            self._swept_at = now
            self._full_at = {client: full_at for client, full_at in self._full_at.items() if full_at > now}
        if len(self._full_at) >= CLIENTS_MAX:
            del self._full_at[next(iter(self._full_at))]


class Shared(Protocol):
    """Buckets that are not this process's alone."""

    def take(self, client: str) -> Taken | None:
        """None where others have to be asked."""

    async def ask(self, client: str) -> Taken: ...


Buckets = Mapping[str, tuple[Bucket | Shared, bytes]]
"""Of each role with a rate its buckets, and how its policy is written."""


class Limits:
    """Around every route, behind the check of the token: `rates` by role, `at_once` by route, such as `GET /v1/orders`.

    Headers as in the IETF's draft-ietf-httpapi-ratelimit-headers.
    """

    def __init__(self, app: ASGIApp, buckets: Buckets, at_once: Mapping[str, int]) -> None:
        self._app = app
        self._buckets = buckets
        self._at_once = at_once
        self._max: int | None = None
        self._running = 0
        self._seen = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        if not self._seen:  # Of a middleware there is one a route and method.
            self._max, self._seen = _limit_of(scope, self._at_once), True
        user: Principal | None = scope.get("user")
        if user is not None and (found := self._buckets.get(user.role)) is not None:
            bucket, policy = found
            taken = bucket.take(user.subject)
            if taken is None:
                assert not isinstance(bucket, Bucket)
                taken = await bucket.ask(user.subject)
            self._tell(scope, user, taken, policy)
        if self._max is None:
            await self._app(scope, receive, send)
            return
        if self._running >= self._max:
            raise unavailable("overloaded", f"{self._max} such requests are under way already")
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1

    @staticmethod
    def _tell(scope: Scope, user: Principal, taken: Taken, policy: bytes) -> None:
        standing = b'"%s";r=%d;t=%d' % (user.role.encode(), taken.left, math.ceil(taken.full_s))
        scope["state"].setdefault(HEADERS, []).extend(((b"ratelimit-policy", policy), (b"ratelimit", standing)))
        if taken.wait_s:
            wait_s = math.ceil(taken.wait_s)
            detail = f"too much was asked in a short time; come again in {wait_s} s"
            raise Problem(429, "rate_limited", detail, headers={"Retry-After": str(wait_s)})


def buckets_of(
    rates: Mapping[str, Rate], bucket: Callable[[str, Rate], Bucket | Shared] = lambda role, rate: Bucket(rate)
) -> Buckets:
    return {
        role: (bucket(role, rate), f'"{role}";q={rate.requests};w={rate.window_s}'.encode())
        for role, rate in rates.items()
    }


def unknown_routes(at_once: Mapping[str, int], routes: set[str]) -> list[str]:
    """What is limited and is not there."""
    return sorted(at_once.keys() - routes - {ANY_ROUTE})


def _limit_of(scope: Scope, at_once: Mapping[str, int]) -> int | None:
    """A limit for any route does not count what stays open for long: streams have a bound of their own."""
    handler = scope["route_handler"]
    named = at_once.get(f"{scope['method']} {scope['path_template']}")  # type: ignore[typeddict-item]  # Of HTTP.
    if named is not None or getattr(handler, "media_type", "") == EVENTS:
        return named
    return at_once.get(ANY_ROUTE)
