"""Routes that are answered with a constant: what the web server and framework take.

A POST whose body is decoded, and a GET of a page that was handed over. Served as the gateway is: the same server, loop
and number of processes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from litestar import Litestar, MediaType, Response, get, post
from msgspec import Struct

from bench.children import child
from bus.servers.broker import free_port
from bus.servers.lifetime import die_with_parent
from gateway.runtime.serve import serve
from gateway.settings import Settings

PATH = "/static"
ANSWER: dict[str, str | int] = {"order_id": "o-1", "status": "placed", "version": 1, "total_cents": 1_250}
PAGE_FILE = "BENCH_STATIC_PAGE"
"""The variable that names the file of the page."""
READY_TIMEOUT_S = 20.0


class Body(Struct, frozen=True):
    order_id: str


@asynccontextmanager
async def static_server(folder: Path, page: bytes = b"{}") -> AsyncIterator[str]:
    """The URL of a server with both routes at `PATH`."""
    port = free_port()
    file = folder / "page.json"
    file.write_bytes(page)
    command = [sys.executable, "-m", "bench.static_route", str(port)]
    with child("static", command, folder, {**os.environ, PAGE_FILE: str(file)}) as process:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not listens(port):
                process.check()
                await asyncio.sleep(0.1)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url) as http:
            (await http.post(PATH, json={"order_id": "o-1"})).raise_for_status()
            assert (await http.get(PATH)).raise_for_status().content == page
        yield url


@post(PATH)
async def answer(data: Body) -> Response[dict[str, str | int]]:
    return Response(ANSWER, status_code=201)


def served() -> Litestar:
    """What granian's workers run."""
    die_with_parent()
    content = Path(os.environ[PAGE_FILE]).read_bytes()

    @get(PATH)
    async def page() -> Response[bytes]:
        return Response(content, media_type=MediaType.JSON)

    return Litestar([answer, page], openapi_config=None, logging_config=None)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    serve(Settings(log_level="WARNING"), "bench.static_route:served", port=int(sys.argv[1]))
