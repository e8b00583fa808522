"""HTTP servers beside a scenario, each a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bench.children import Child, child
from bench.static_route import listens
from bus.servers.broker import free_port

READY_TIMEOUT_S = 60.0


@asynccontextmanager
async def served(module: str, folder: Path, environment: Mapping[str, str], *arguments: str) -> AsyncIterator[str]:
    """The URL of `python -m MODULE [ARGUMENTS] PORT`."""
    async with serving(module, folder, environment, *arguments) as (url, _):
        yield url


@asynccontextmanager
async def serving(
    module: str, folder: Path, environment: Mapping[str, str], *arguments: str
) -> AsyncIterator[tuple[str, Child]]:
    """The same, and the process, for whoever has to kill it."""
    port = free_port()
    command = [sys.executable, "-m", module, *arguments, str(port)]
    with child(
        arguments[0] if arguments else module.rpartition(".")[2], command, folder, {**os.environ, **environment}
    ) as process:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await asyncio.to_thread(listens, port):
                process.check()
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
