"""Around every HTTP application of ours: the trace that a request belongs to, its span, its count and its time."""

from __future__ import annotations

import asyncio
import time
from functools import cache

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPDisconnectEvent, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from bus import tracing
from gateway.http.answers import HEADERS
from gateway.http.headers import header_of

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Those that are counted by name: a client may make up any others."""

_requests = Counter("tally_http_requests_total", "Requests answered.", ("method", "status"))
_seconds = Histogram(
    "tally_http_request_seconds",
    "From the first byte in to the last byte out.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


@cache
def _answered(method: str, status: int) -> Counter:
    """The counter of both: to have it found by its labels costs more than to count."""
    return _requests.labels(method, str(status))


def _head(scope: HTTPScope, send: Send) -> tuple[Receive, Send]:
    """Ask as a GET, and end its answer behind the headers: what would go on, as a stream, hears that nobody listens."""
    scope["method"] = "GET"
    answered = asyncio.Event()

    async def receiving() -> HTTPDisconnectEvent:
        await answered.wait()
        return {"type": "http.disconnect"}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            answered.set()

    return receiving, sending


class Traced:
    """Takes up or begins a trace (W3C Trace Context), counts and times the request, and puts on its answer what every
    answer to it bears."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "other"
        if method == "HEAD":
            receive, send = _head(scope, send)
        given = header_of(scope, b"traceparent") or ""
        if tracing.collected():
            with tracing.span(method, "server", parent=given) as span:
                status = await self._answer(scope, receive, send, method, span.traceparent)
                span.name(f"{method} {scope.get('path_template', '')}".rstrip())
                span.tell("http.request.method", method)
                span.tell("url.path", scope["path"])
                span.tell("http.response.status_code", status)
                if status >= 500:
                    span.failed(f"answered {status}")
            return
        traceparent = tracing.taken_up(given)
        token = tracing.stand(traceparent)
        try:
            await self._answer(scope, receive, send, method, traceparent)
        finally:
            tracing.leave(token)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send, method: str, traceparent: str) -> int:
        """The status that it was answered with; 0: with none."""
        scope["state"]["trace_id"] = tracing.id_of(traceparent)
        scope["state"]["traceparent"] = traceparent
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                of_route = getattr(scope.get("route_handler"), "opt", {}).get(
                    HEADERS, ()
                )  # None where no route takes it.
                more = (*of_route, *scope["state"].get(HEADERS, ()), (b"traceparent", traceparent.encode()))
                message["headers"] = [*message["headers"], *more]
                _answered(method, status).inc()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            _seconds.observe(time.perf_counter() - began)
        return status
