"""A gate before a service over HTTP: it lets calls pass, and holds the one that it is told to hold at a certain moment.

It knows as much of HTTP as `httpx` and the call path say: a body with its length, one request after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, NamedTuple

import httpx

Moment = Literal["asked", "charged", "answered"]
"""The service has not heard of it; has done it, and its answer is on the way; the caller has the answer."""
BODY_BYTES_MAX = 1024 * 1024
HOP = ("host", "connection", "content-length", "accept-encoding")
"""What is between neighbours only."""


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Gate:
    def __init__(self, service: httpx.AsyncClient) -> None:
        self._service = service
        self._wanted: tuple[Moment, asyncio.Event, asyncio.Event] | None = None

    @asynccontextmanager
    async def holding(self, moment: Moment) -> AsyncIterator[asyncio.Event]:
        """The event comes when the next call is at that moment. It stays there until this is left; but one that is
        answered goes on."""
        reached, released = asyncio.Event(), asyncio.Event()
        self._wanted = moment, reached, released
        try:
            yield reached
        finally:
            self._wanted = None
            released.set()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """Its URL."""
        serving: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            serving.add(task)
            try:
                # Who asked may have been killed; and asyncio minds a task of its own that is cancelled.
                with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                    await self._serve(reader, writer)
            finally:
                writer.close()
                serving.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            left = list(serving)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await _read(reader)
            wanted, self._wanted = self._wanted, None
            moment, reached, released = wanted or ("", asyncio.Event(), asyncio.Event())
            if moment == "asked":
                reached.set()
                await released.wait()
                return
            answer = await self._service.request(
                request.method, request.path, content=request.body, headers=request.headers
            )
            if moment == "charged":
                reached.set()
                await released.wait()
                return
            writer.write(_written(answer))
            await writer.drain()
            reached.set()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    length = int(headers.get("content-length", "0"))
    if length > BODY_BYTES_MAX:
        raise ConnectionError(f"{length} bytes do not go through this gate")
    body = await reader.readexactly(length)
    return Request(method, path, {name: value for name, value in headers.items() if name not in HOP}, body)


def _written(answer: httpx.Response) -> bytes:
    head = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}", f"content-length: {len(answer.content)}"]
    head += [f"{name}: {answer.headers[name]}" for name in ("content-type", "retry-after") if name in answer.headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + answer.content
