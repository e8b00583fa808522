"""How this process is connected to NATS: reconnecting for ever, pinging often, saying what goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypedDict
from urllib.parse import unquote, urlsplit

import nats
from nats.aio.client import Client

CONNECT_TIMEOUT_S = 10.0
PENDING_BYTES_MAX = 8 * 1024 * 1024

__all__ = ["BrokerUnreachable", "Client", "close", "connect", "servers_of", "without_secrets"]

log = logging.getLogger(__name__)


class _Credentials(TypedDict, total=False):
    user: str
    password: str
    token: str


class _Client(Client):
    """The client, which takes most of the time that it spends on a small block for the block's headers."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As the client does it, for what a server sends, but without a look at each character of each name."""
        found: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                found[name.strip()] = value.strip()
        return found


class BrokerUnreachable(Exception):
    """No NATS server answered in time."""


async def connect(
    url: str, name: str, *, timeout_s: float = CONNECT_TIMEOUT_S, closed: Callable[[], None] | None = None
) -> Client:
    """Connect to a server, or to one of several, comma-separated; or raise `BrokerUnreachable`.

    A connection that closes for good calls `closed`, once. When a server goes the connection moves to the next.
    """

    async def on_error(error: Exception) -> None:
        log.warning("nats: %s", str(error) or type(error).__name__)

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("nats: disconnected")

    async def on_reconnect() -> None:
        log.info("nats: connected again")

    async def on_closed() -> None:
        if closed is not None:
            closed()

    client = _Client()
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            # The client retries a dead server for long, whatever its own timeouts say: bound it from outside.
            async with asyncio.timeout_at(deadline):
                await client.connect(
                    servers_of(url),
                    name=name,
                    **_credentials(url),
                    connect_timeout=2,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,  # type: ignore[arg-type]  # It sleeps for any number of seconds.
                    ping_interval=5,
                    max_outstanding_pings=2,
                    pending_size=PENDING_BYTES_MAX,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                    closed_cb=on_closed,
                )
            still_wanted()
            return client
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise BrokerUnreachable(f"no NATS server at {without_secrets(url)} ({error})") from error
            await asyncio.sleep(0.1)


async def close(client: Client, timeout_s: float = 1.0) -> None:
    """Flush what is pending and close; a broker that is gone is not waited for."""
    finish: Callable[[], Awaitable[None]] = client.close
    try:
        async with asyncio.timeout(timeout_s):
            if client.is_connected:
                await client.flush()
            await finish()
    except (nats.errors.Error, OSError, TimeoutError) as error:
        log.debug("nats: closed without a flush (%s)", error)


def still_wanted() -> None:
    """Raise the cancellation that a request may have swallowed.

    On Python 3.11 `asyncio.wait_for`, with which the client waits, forgets that its task was cancelled when the answer
    comes in the same turn of the loop; the task would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def without_secrets(url: str) -> str:
    return ",".join(_bare(each) for each in servers_of(url))


def servers_of(url: str) -> list[str]:
    """The URL of each server, of one or of several that are comma-separated."""
    return [each.strip() for each in url.split(",") if each.strip()]


def _bare(url: str) -> str:
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else url


def _credentials(url: str) -> _Credentials:
    """Those of the first server for all of them: a cluster names its other servers to the client, without any."""
    parts = urlsplit(servers_of(url)[0])
    if parts.username is None:
        return {}
    if parts.password is None:
        return {"token": unquote(parts.username)}
    return {"user": unquote(parts.username), "password": unquote(parts.password)}
