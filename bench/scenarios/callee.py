"""A service that can be told how it behaves (`PUT /behaviour`): how long a request takes, and how many at once.

What waits is served in order, also when whoever asked has gone away: as most servers do.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import msgspec
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send
from msgspec import Struct

from bus.servers.lifetime import die_with_parent
from gateway.runtime.serve import serve
from gateway.settings import Settings

BEHAVIOUR = "/behaviour"
WAITING_MAX = 5_000


class Behaviour(Struct, frozen=True):
    takes_s: float
    at_once: int = 1_000


async def behave(http: httpx.AsyncClient, behaviour: Behaviour) -> None:
    """Tell it."""
    answer = await http.put(BEHAVIOUR, content=msgspec.json.encode(behaviour), timeout=10.0)
    answer.raise_for_status()


class Callee:
    def __init__(self) -> None:
        self._behaviour = Behaviour(0.0)
        self._under_way = 0
        self._waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue(WAITING_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return
        status = 200
        if scope["path"] == BEHAVIOUR:
            message = await receive()
            assert message["type"] == "http.request"
            self._behaviour = msgspec.json.decode(message["body"], type=Behaviour)
        elif self._waiting.full():
            status = 503
        else:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.put_nowait(done)
            self._begin()
            await asyncio.shield(done)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _begin(self) -> None:
        while self._under_way < self._behaviour.at_once and not self._waiting.empty():
            self._under_way += 1
            asyncio.get_running_loop().call_later(self._behaviour.takes_s, self._end, self._waiting.get_nowait())

    def _end(self, done: asyncio.Future[None]) -> None:
        self._under_way -= 1
        done.set_result(None)
        self._begin()


def callee() -> Callee:
    """What granian's worker runs."""
    die_with_parent()
    return Callee()


if __name__ == "__main__":
    serve(Settings(log_level="WARNING"), "bench.scenarios.callee:callee", port=int(sys.argv[1]))
