"""HTTP servers: granian, a process or more a server, as children of whoever calls."""

from __future__ import annotations

import os
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

from gateway.settings import Settings

GATEWAY = "gateway.app:served"
PROVIDER = "gateway.sandbox.provider:served"
CARRIER = "gateway.sandbox.carrier:served"
WORKERS_KILL_TIMEOUT_S = 2


def serve(settings: Settings, target: str = GATEWAY, *, port: int, workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT. Workers that die are started again."""
    if target == GATEWAY:
        os.environ["TALLY_HTTP_PORT"] = str(port)  # Its workers tell it: they are where calls to it go.
    Granian(
        target,
        address=settings.http_host,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        loop=Loops.uvloop,
        factory=True,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=WORKERS_KILL_TIMEOUT_S,
        log_level=LogLevels(settings.log_level.lower()),
        log_access=False,
        websockets=False,
        working_dir=Path.cwd(),
    ).serve()
