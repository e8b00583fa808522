"""Calls over HTTP: the transport at the end of a call path, and nothing else. No retries, no limits but on size."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from msgspec.structs import replace

from bus.calls.balancing import Balancer
from bus.calls.call import (
    BUSY_STATUSES,
    GRACE_S,
    REAL_TIME,
    AnswerTooLarge,
    Busy,
    Call,
    NoAnswer,
    Reply,
    Step,
    Time,
    Unreachable,
)
from bus.calls.deadline import HEADER, header_of

CONNECT_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 1_024
"""Of a client; how many calls there are is the bulkhead's to say."""
KEPT_ALIVE_MAX = 64
ANSWER_BYTES_MAX = 1024 * 1024
RETRY_AFTER_MAX_S = 3_600.0


def client(url: str, trust: ssl.SSLContext | bool = True) -> httpx.AsyncClient:
    """A client of one destination. Each call brings its own timeouts. `trust`: whom it takes for who they say, and as
    whom it shows itself."""
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=KEPT_ALIVE_MAX)
    return httpx.AsyncClient(base_url=url, timeout=CONNECT_TIMEOUT_S, limits=limits, verify=trust)


def instances(transport: Step) -> Callable[[str], Step]:
    """How an instance with a URL of its own is reached: all of them by one client, which bounds its connections."""

    def reach(url: str) -> Step:
        async def call_it(call: Call, deadline: float) -> Reply:
            return await transport(replace(call, target=url + call.target), deadline)

        return call_it

    return reach


@asynccontextmanager
async def balanced(
    destination: str, urls: Sequence[str], trust: ssl.SSLContext | bool = True
) -> AsyncIterator[Balancer]:
    """The end of a path to a destination with several addresses."""
    async with AsyncExitStack() as stack:
        clients = {url: await stack.enter_async_context(client(url, trust)) for url in urls}
        yield Balancer(destination, {url: HttpTransport(destination, http) for url, http in clients.items()})


class HttpTransport:
    """Connects within a second, and reads until the call's deadline and a little longer. It sends that along."""

    def __init__(self, destination: str, http: httpx.AsyncClient, time: Time = REAL_TIME) -> None:
        self._destination = destination
        self._http = http
        self._now = time.now

    async def __call__(self, call: Call, deadline: float) -> Reply:
        now = self._now()
        timeout = httpx.Timeout(max(0.0, deadline - now) + GRACE_S, connect=CONNECT_TIMEOUT_S)
        headers = {**call.headers, HEADER: header_of(deadline, now)}
        try:
            async with self._http.stream(
                call.method, call.target, content=call.body or None, headers=headers, timeout=timeout
            ) as answer:
                body = await self._body(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable(self._destination, f"cannot be reached ({_said(error)})") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise NoAnswer(self._destination, f"gave no answer ({_said(error)})") from error
        if answer.status_code in BUSY_STATUSES:
            raise Busy(self._destination, answer.status_code, retry_after_s(answer.headers.get("Retry-After", "")))
        return Reply(answer.status_code, body, answer.headers)

    async def _body(self, answer: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in answer.aiter_bytes():
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise AnswerTooLarge(self._destination, f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
            parts.append(part)
        return b"".join(parts)


def retry_after_s(text: str) -> float:
    """What a `Retry-After` asks for, in seconds or as a date; 0 for what is neither."""
    try:
        seconds = float(text) if text.isascii() and text.isdigit() else _until(text)
    except (ValueError, TypeError):
        return 0.0
    return min(RETRY_AFTER_MAX_S, max(0.0, seconds)) if math.isfinite(seconds) else RETRY_AFTER_MAX_S


def _until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
