"""What every method does with a call: who asks and in which role, until when, in which trace, and what went wrong.

The counterpart of the gateway's gate (`gateway/http/gate.py`): the same tokens, keys, limits and problems.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, cast

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext
from msgspec import Struct
from prometheus_client import Counter, Histogram

from bus import tracing
from bus.calls.deadline import HEADER, deadline_of
from bus.logs.log import LogDamaged, LogUnreachable
from gateway.grpc.statuses import status_of
from gateway.http.commanding import KEY, Key, given_key, natural_key
from gateway.http.limits import Bucket
from gateway.http.problems import Problem, unavailable
from gateway.http.tokens import InvalidToken, Principal, Role, Tokens
from projections.reader import ReadModelMissing

CALLS_MAX = 1_024
"""Under way in this process; one more is told to come again."""

log = logging.getLogger(__name__)

_calls = Counter("tally_grpc_calls_total", "Calls answered over gRPC.", ("method", "status"))
_seconds = Histogram(
    "tally_grpc_call_seconds",
    "From a call to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

Asks = TypeVar("Asks", bound=Message)
Told = TypeVar("Told", bound=Message)


class Asked(Struct, frozen=True):
    """What is known of a call beside its message. `left_s`: for how long whoever asks waits."""

    principal: Principal
    trace: str
    left_s: float
    key: str

    def natural_key(self, about: str, reused: str) -> Key:
        """The command's id: of the key that was given, else of what it is about."""
        if self.key:
            return given_key(self.principal, self.key)
        return natural_key(self.principal, about, reused)


@contextmanager
def _traced(name: str, given: str) -> Iterator[str]:
    """The traceparent of a call, which is the current one meanwhile; with a span where these are collected."""
    if tracing.collected():
        with tracing.span(name, "server", parent=given) as span:
            yield span.traceparent
    else:
        traceparent = tracing.taken_up(given)
        with tracing.standing(traceparent):
            yield traceparent


class Calls:
    """`buckets`: how much one client may ask, by role."""

    def __init__(self, tokens: Tokens, buckets: Mapping[str, Bucket], calls_max: int = CALLS_MAX) -> None:
        self._tokens = tokens
        self._buckets = buckets
        self._calls_max = calls_max
        self._under_way = 0

    def method(
        self, name: str, role: Role, handle: Callable[[Asked, Asks], Awaitable[Told]], decode: Callable[[bytes], Asks]
    ) -> grpc.RpcMethodHandler[Asks, Told]:
        """A method for this role or a higher one."""

        async def behave(message: Asks, context: ServicerContext[Asks, Told]) -> Told:
            began = time.perf_counter()
            metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
            with _traced(name, metadata.get(tracing.HEADER, "")) as trace:
                try:
                    answer = await self._admitted(role, handle, message, metadata, trace, _left_s(context))
                except asyncio.CancelledError:  # The caller went away, or its deadline came: nobody hears an answer.
                    _calls.labels(name, "CANCELLED").inc()
                    raise
                except Problem as problem:
                    await _fail(context, name, problem, trace)
                except ReadModelMissing as error:
                    await _fail(context, name, unavailable("read_model_missing", str(error)), trace)
                except LogUnreachable:
                    await _fail(context, name, unavailable("unavailable", "the log cannot be reached"), trace)
                except LogDamaged as error:
                    log.critical("%s: %s", name, error)
                    detail = "the log is not what it was; `tally doctor` says more"
                    await _fail(context, name, unavailable("log_damaged", detail, 60.0), trace)
                except Exception as error:
                    log.exception("%s failed, trace %s", name, tracing.id_of(trace), exc_info=error)
                    detail = "something went wrong here; the trace id finds it in the log"
                    await _fail(context, name, Problem(500, "internal_error", detail), trace)
                finally:
                    _seconds.observe(time.perf_counter() - began)
            context.set_trailing_metadata((("traceparent", trace),))
            _calls.labels(name, "OK").inc()
            return answer

        return grpc.unary_unary_rpc_method_handler(behave, decode, lambda answer: answer.SerializeToString())

    async def _admitted(
        self,
        role: Role,
        handle: Callable[[Asked, Asks], Awaitable[Told]],
        message: Asks,
        metadata: Mapping[str, str],
        trace: str,
        left_s: float,
    ) -> Told:
        if self._under_way >= self._calls_max:
            raise unavailable("overloaded", f"{self._under_way} calls are under way already")
        principal = self._principal(metadata.get("authorization", ""), role)
        asked = Asked(principal, trace, min(left_s, _said_s(metadata)), metadata.get(KEY.lower(), ""))
        self._under_way += 1
        try:
            return await handle(asked, message)
        finally:
            self._under_way -= 1

    def _principal(self, authorization: str, role: Role) -> Principal:
        try:
            principal = self._tokens.bearer(authorization)
        except InvalidToken as error:
            raise Problem(401, "unauthenticated", str(error)) from error
        if not principal.may(role):
            raise Problem(403, "forbidden", f"this needs the role {role}")
        bucket = self._buckets.get(principal.role)
        if bucket is not None and (wait_s := bucket.take(principal.subject).wait_s):
            wait = str(math.ceil(wait_s))
            detail = f"too much was asked in a short time; come again in {wait} s"
            raise Problem(429, "rate_limited", detail, headers={"Retry-After": wait})
        return principal


def _left_s(context: ServicerContext[Asks, Told]) -> float:
    """Until the call's own deadline."""
    left_s = cast("float | None", context.time_remaining())  # None without one, whatever its type says.
    return math.inf if left_s is None else left_s


def _said_s(metadata: Mapping[str, str]) -> float:
    """What a caller on our own call path says: the transport gives itself a little longer than that.

    Raises `Problem` for what is late, and so is not begun.
    """
    try:
        left_s = deadline_of({HEADER: metadata[HEADER.lower()]}, 0.0) if HEADER.lower() in metadata else math.inf
    except ValueError as error:
        raise Problem(422, "malformed", str(error), field=f"header:{HEADER}") from error
    if left_s <= 0:
        raise Problem(504, "deadline_exceeded", "the deadline had passed, so it was not begun")
    return left_s


async def _fail(context: ServicerContext[Asks, Told], name: str, problem: Problem, trace: str) -> None:
    """Ends the call: `abort` raises."""
    status = status_of(problem)
    _calls.labels(name, status.name).inc()
    said = {"code": problem.code, "field": problem.field, "traceparent": trace}
    said |= {name.lower(): value for name, value in problem.headers.items()}
    await context.abort(status, problem.detail, tuple((name, value) for name, value in said.items() if value))
