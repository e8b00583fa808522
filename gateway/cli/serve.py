"""`tally serve`: the HTTP API, alone."""

from __future__ import annotations

import asyncio

import click

from gateway import compose
from gateway.cli.unsafe import settings_with_flags
from gateway.runtime.broker import check_broker
from gateway.runtime.logs import log_to_stderr
from gateway.runtime.running import identity_of
from gateway.runtime.serve import serve as serve_http
from gateway.settings import Settings


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), help="Gateway processes. Default: TALLY_GATEWAYS, else 1.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Default: TALLY_HTTP_PORT, else 8000.")
@settings_with_flags
def serve(settings: Settings, workers: int | None, port: int | None) -> None:
    """Serve the HTTP API alone; broker and workers run elsewhere."""
    log_to_stderr(settings)
    compose.mesh(settings)  # Said here once, and clearly.
    if settings.at_once:
        from gateway.app import create_app  # Only its processes need the web framework.

        create_app(settings)  # A route that is not there is said here once, not by each of them again and again.
    asyncio.run(check_broker(settings))
    own = identity_of(settings, "gateway")
    serve_http(settings, port=port or settings.http_port, workers=workers or settings.gateways, identity=own)
