"""The simulated payment provider, which can be told how long it takes for a charge: `PUT /slowness`."""

from __future__ import annotations

import asyncio
import random
import sys

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from gateway.serve import serve
from gateway.settings import Settings

CHARGES = "/charges"
SLOWNESS = "/slowness"


class Slowness(Struct, frozen=True):
    """A charge takes by chance from `low_s` to `high_s` longer."""

    low_s: float = 0.0
    high_s: float = 0.0


class Slowed:
    def __init__(self, provider: ASGIApp) -> None:
        self._provider = provider
        self._slowness = Slowness()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] == SLOWNESS:
            message = await receive()
            assert message["type"] == "http.request"
            self._slowness = msgspec.json.decode(message["body"], type=Slowness)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if scope["type"] == ScopeType.HTTP and scope["path"] == CHARGES:
            await asyncio.sleep(random.uniform(self._slowness.low_s, self._slowness.high_s))
        await self._provider(scope, receive, send)


def provider() -> Slowed:
    """What granian's worker runs. It alone needs the provider itself; others only say how slow it is to be."""
    from gateway.sandbox.provider import served

    return Slowed(served())


if __name__ == "__main__":
    serve(Settings(log_level="WARNING"), "bench.scenarios.slow_provider:provider", port=int(sys.argv[1]))
