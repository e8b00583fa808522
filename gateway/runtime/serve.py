"""HTTP servers: granian, a process or more a server, as children of whoever calls."""

from __future__ import annotations

import os
from pathlib import Path

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from bus.servers.tls import Identity
from gateway.settings import Settings

GATEWAY = "gateway.app:served"
PROVIDER = "gateway.sandbox.provider:served"
CARRIER = "gateway.sandbox.carrier:served"
WORKERS_KILL_TIMEOUT_S = 2
HEAD_WITHIN_S = 30
"""A connection that has not said by then what it wants is closed, a new one and one that was of use before."""


def serve(
    settings: Settings,
    target: str = GATEWAY,
    *,
    port: int,
    workers: int = 1,
    identity: Identity | None = None,
    mutual: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Workers that die are started again. With an `identity` over TLS; `mutual`: to
    those only who show a certificate of our authority."""
    if target == GATEWAY:
        os.environ["TALLY_HTTP_PORT"] = str(port)  # Its workers tell it: they are where calls to it go.
    Granian(
        target,
        address=settings.http_host,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        http=HTTPModes.http1,  # Where it would be told from HTTP/2 first, who says nothing is waited for without end.
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_WITHIN_S * 1_000),
        loop=Loops.uvloop,
        factory=True,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=WORKERS_KILL_TIMEOUT_S,
        log_level=LogLevels(settings.log_level.lower()),
        log_access=False,
        websockets=False,
        working_dir=Path.cwd(),
        ssl_cert=identity.certificate if identity else None,
        ssl_key=identity.key if identity else None,
        ssl_ca=identity.ca if identity else None,
        ssl_client_verify=identity is not None and mutual,
    ).serve()
