"""The gateway's ASGI application: routes, authentication, tracing, errors, and what it opens at its start."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version

from litestar import Litestar
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp, HTTPDisconnectEvent, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from bus.announcements import Standings
from bus.calls.over_nats import NatsTransport
from bus.presence import Announcing, Present, this_process
from bus.queues.command_queue import CommandQueue, ensure_queue
from bus.servers.connection import close, connect
from bus.servers.lifetime import die_with_parent
from gateway import compose
from gateway.contracts import docs
from gateway.contracts.openapi import kinds_of
from gateway.http.answers import HEADERS
from gateway.http.bodies import BODY_BYTES_MAX
from gateway.http.direct import Direct
from gateway.http.gate import Gate
from gateway.http.limits import Limits, buckets_of, unknown_routes
from gateway.http.problems import handle
from gateway.http.security import Authentication
from gateway.http.tokens import Tokens
from gateway.runtime.collector import calm_the_collector
from gateway.runtime.logs import log_to_stderr
from gateway.runtime.running import nats_url
from gateway.settings import Settings, SettingsError, from_environment, home, jwt_secret, webhook_secret
from projections.reader import Reader

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Those that are counted by name: a client may make up any others."""

log = logging.getLogger(__name__)

_requests = Counter("tally_http_requests_total", "Requests answered.", ("method", "status"))
_seconds = Histogram(
    "tally_http_request_seconds",
    "From the first byte in to the last byte out.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; what it needs is opened when it starts."""
    settings = settings or from_environment()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        stopping = False

        def closed() -> None:
            if not stopping:
                _end()

        client = await connect(nats_url(settings), "gateway", closed=closed)
        logs = await compose.open_logs(client, settings)
        await ensure_queue(client, settings.replicas)
        standings = Standings(client, home(settings))
        await standings.start()
        reader = Reader(settings.read_models)
        present = Present(client)
        await present.start()
        announcing = asyncio.create_task(Announcing(client, this_process(("gateway",), version("tallystream"))).run())
        app.state.client = client
        app.state.present = present
        app.state.tokens = tokens = Tokens(jwt_secret(settings))
        app.state.reacting = sorted(compose.reacting())
        app.state.webhook_secret = webhook_secret(settings)
        app.state.projections = {projection.name: projection for projection in compose.PROJECTIONS}
        sender = compose.sender(client, logs, present)
        mesh = compose.mesh(settings)
        services = {each.name: mesh.path(each.name, NatsTransport(each.name, client)) for each in compose.STATE_STORED}
        app.state.gate = gate = Gate(
            sender,
            reader,
            standings,
            logs,
            compose.decoders(),
            tokens,
            compose.PROCESSES,
            compose.POLICIES,
            services,
            CommandQueue(client),
        )
        watching = asyncio.create_task(mesh.watch())
        calm_the_collector()
        try:
            yield
        finally:
            stopping = True
            announcing.cancel()
            watching.cancel()
            await gate.lists.close()
            await gate.changes.close()
            await reader.close()
            await close(client)

    app = Litestar(
        route_handlers=[*compose.routes(), docs.page, docs.asyncapi, docs.messages_page, docs.files()],
        lifespan=[lifespan],
        state=State(),
        middleware=[DefineMiddleware(Authentication), *_limits(settings), DefineMiddleware(Direct)],
        exception_handlers={Exception: handle},
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=docs.openapi,
        debug=False,
        logging_config=None,
    )
    if missing := unknown_routes(settings.at_once, {f"{method.upper()} {path}" for path, method in kinds_of(app)}):
        raise SettingsError(f"TALLY_ROUTE_LIMITS has {missing[0]!r}, and there is no such route")
    app.asgi_handler = Traced(app.asgi_handler)  # Around everything: what no route takes is answered with a trace, too.
    return app


def _limits(settings: Settings) -> list[DefineMiddleware]:
    """Nothing where nothing is limited: then it costs nothing."""
    if not settings.rates and not settings.at_once:
        return []
    return [DefineMiddleware(Limits, buckets=buckets_of(settings.rates), at_once=settings.at_once)]


def served() -> Litestar:
    """What granian's workers run."""
    die_with_parent()
    log_to_stderr(from_environment())
    return create_app()


def _end() -> None:
    """The connection is closed for good: end, so that whoever supervises starts a fresh process."""
    log.critical("the connection to the broker is closed for good")
    os._exit(70)


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
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"").decode("latin-1")
        parsed = TRACEPARENT.fullmatch(given)
        fresh = os.urandom(24).hex()
        trace_id = parsed[1] if parsed else fresh[:32]
        traceparent = f"00-{trace_id}-{fresh[32:]}-{parsed[3] if parsed else '01'}"
        scope["state"]["trace_id"] = trace_id
        scope["state"]["traceparent"] = traceparent
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                of_route = getattr(scope.get("route_handler"), "opt", {}).get(
                    HEADERS, ()
                )  # None where no route takes it.
                more = (*of_route, *scope["state"].get(HEADERS, ()), (b"traceparent", traceparent.encode()))
                message["headers"] = [*message["headers"], *more]
                _answered(method, message["status"]).inc()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            _seconds.observe(time.perf_counter() - began)
