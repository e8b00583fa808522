"""The gateway's ASGI application: routes, authentication, errors, and what it opens at its start."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from litestar import Litestar
from litestar.datastructures import State
from litestar.middleware import DefineMiddleware

from bus.allowances import Allowances
from bus.announcements import Standings
from bus.calls.discovery import Discovery
from bus.presence import Announcing, Present, this_process
from bus.queues.command_queue import CommandQueue, ensure_queue
from bus.servers.connection import close, connect
from bus.servers.lifetime import die_with_parent
from gateway import compose
from gateway.contracts import docs
from gateway.contracts.openapi import kinds_of
from gateway.http.bodies import BODY_BYTES_MAX
from gateway.http.direct import Direct
from gateway.http.gate import Gate
from gateway.http.limits import Buckets, Limits, buckets_of, unknown_routes
from gateway.http.problems import handle
from gateway.http.security import Authentication
from gateway.http.shared_limits import SharedBucket
from gateway.http.tokens import Tokens
from gateway.http.traced import Traced
from gateway.http.unread import cut_unread
from gateway.runtime.collector import calm_the_collector
from gateway.runtime.logs import log_to_stderr
from gateway.runtime.running import announced, identity_of, nats_url
from gateway.runtime.telemetry import collect_spans
from gateway.settings import Settings, SettingsError, from_environment, home, jwt_secret, webhook_secret
from projections.reader import Reader

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; what it needs is opened when it starts."""
    settings = settings or from_environment()
    buckets = _buckets(settings)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        stopping = False

        def closed() -> None:
            if not stopping:
                _end()

        own = identity_of(settings, "gateway")
        client = await connect(nats_url(settings), "gateway", identity=own, closed=closed)
        logs = await compose.open_logs(client, settings, make=own is None)
        if own is None:
            await ensure_queue(client, settings.replicas)
        standings = Standings(client, home(settings))
        await standings.start()
        reader = Reader(settings.read_models)
        present = Present(client)
        await present.start()
        announcing = Announcing(client, this_process(("gateway",), version("tallystream")))
        if settings.http_port:
            scheme = "http" if own is None else "https"
            announcing.offer("gateway", f"{scheme}://{announced(settings.http_host)}:{settings.http_port}")
        allowances = Allowances(client, settings.replicas)
        for bucket, _ in buckets.values():
            if isinstance(bucket, SharedBucket):
                bucket.allowances = allowances
        app.state.client = client
        app.state.present = present
        app.state.tokens = tokens = Tokens(jwt_secret(settings))
        app.state.reacting = sorted(compose.reacting())
        app.state.webhook_secret = webhook_secret(settings)
        app.state.projections = {projection.name: projection for projection in compose.PROJECTIONS}
        sender = compose.sender(client, logs, present)
        mesh = compose.mesh(settings)
        discovery = Discovery(present)
        services = {
            each.name: mesh.path(each.name, discovery.over_nats(each.name, client)) for each in compose.STATE_STORED
        }
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
        watching = [asyncio.create_task(each) for each in (announcing.run(), mesh.watch(), discovery.watch())]
        if settings.http_port:
            watching.append(asyncio.create_task(cut_unread(settings.http_port)))
        calm_the_collector()
        try:
            yield
        finally:
            stopping = True
            for task in watching:
                task.cancel()
            await announcing.leave()
            await gate.lists.close()
            await gate.changes.close()
            await reader.close()
            await close(client)

    app = Litestar(
        route_handlers=[*compose.routes(), docs.page, docs.asyncapi, docs.messages_page, docs.files()],
        lifespan=[lifespan],
        state=State(),
        middleware=[DefineMiddleware(Authentication), *_limits(settings, buckets)],
        exception_handlers={Exception: handle},
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=docs.openapi,
        debug=False,
        logging_config=None,
    )
    if missing := unknown_routes(settings.at_once, {f"{method.upper()} {path}" for path, method in kinds_of(app)}):
        raise SettingsError(f"TALLY_ROUTE_LIMITS has {missing[0]!r}, and there is no such route")
    # Around everything: what no route takes is answered with a trace, too.
    app.asgi_handler = Traced(Direct(app.asgi_handler, app.routes))
    return app


def _buckets(settings: Settings) -> Buckets:
    return buckets_of(settings.rates, SharedBucket) if settings.rates_shared else buckets_of(settings.rates)


def _limits(settings: Settings, buckets: Buckets) -> list[DefineMiddleware]:
    """Nothing where nothing is limited: then it costs nothing."""
    if not settings.rates and not settings.at_once:
        return []
    return [DefineMiddleware(Limits, buckets=buckets, at_once=settings.at_once)]


def served() -> Litestar:
    """What granian's workers run."""
    die_with_parent()
    log_to_stderr(from_environment())
    collect_spans("gateway")
    return create_app()


def _end() -> None:
    """The connection is closed for good: end, so that whoever supervises starts a fresh process."""
    log.critical("the connection to the broker is closed for good")
    os._exit(70)
