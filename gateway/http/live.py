"""Server-sent events: how long a stream may be, be silent, and wait for a reader who does not read.

Nothing is buffered for a slow reader but what the server and the socket hold: sending waits for him, and who takes
nothing for `SEND_S_MAX` is cut. He comes again with `Last-Event-ID` and goes on where he was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, cast

from litestar import Litestar, Request
from litestar.response import ServerSentEvent, ServerSentEventMessage
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Message, Receive, Scope, Send

EVENTS = "text/event-stream"
HEARTBEAT_S = 15.0
"""How long a stream says nothing at most, so that whoever is between the two ends keeps it open."""
STREAM_S_MAX = 3_600.0
"""A stream ends then, and its client comes again, with a token that is still good."""
SEND_S_MAX = 10.0

Messages = AsyncGenerator[ServerSentEventMessage, None]

log = logging.getLogger(__name__)


class LiveStream(ServerSentEvent):
    """A stream of these messages, cut when its reader is too slow."""

    def __init__(self, messages: Messages) -> None:
        super().__init__(messages)

    def to_asgi_response(
        self, app: Litestar | None, request: Request[Any, Any, Any], **given: Any
    ) -> ASGIResponse:  # What the framework hands through is none of ours.
        made = super().to_asgi_response(app, request, **given)
        return cast("ASGIResponse", Cut(made))  # It is only called.


class Cut:
    """An ASGI response that ends when a message is not taken in time."""

    def __init__(self, response: ASGIApp, patience_s: float = SEND_S_MAX) -> None:
        self._response = response
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._patience_s):
                    await send(message)
            except TimeoutError as error:
                raise _TooSlow from error

        try:
            await self._response(scope, receive, send_in_time)
        except* _TooSlow:
            log.info("a stream is cut: its reader took nothing for %g s", self._patience_s)


class _TooSlow(Exception):
    """The reader takes nothing."""


async def woken(changed: asyncio.Event) -> bool:
    """Wait for a change, not longer than a stream may be silent: whether there was one."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            await changed.wait()
    except TimeoutError:
        return False
    return True


def still_here() -> ServerSentEventMessage:
    """Says nothing, and keeps the connection open."""
    return ServerSentEventMessage(data=None, comment="still here")
