"""How this process is connected to NATS: reconnecting for ever, pinging often, saying what goes wrong.

With an `Identity` over TLS both ways, and with inboxes that nobody else may listen to.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import TypedDict
from urllib.parse import unquote, urlsplit

import nats
from nats.aio.client import Client

from bus.servers.tls import BROKER, Identity, host_of, inbox_of

CONNECT_TIMEOUT_S = 10.0
PENDING_BYTES_MAX = 8 * 1024 * 1024

__all__ = ["BrokerUnreachable", "Client", "close", "connect", "servers_of", "without_secrets"]

log = logging.getLogger(__name__)


class _Expected(logging.Filter):
    """Leaves out what the event loop says of the client whenever a connection over TLS ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("returning true from eof_received()")


_EXPECTED = _Expected()


class _Credentials(TypedDict, total=False):
    user: str
    password: str
    token: str


class _Secured(TypedDict, total=False):
    tls: ssl.SSLContext
    tls_hostname: str
    tls_handshake_first: bool
    inbox_prefix: str


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
    url: str,
    name: str,
    *,
    identity: Identity | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
    closed: Callable[[], None] | None = None,
) -> Client:
    """Connect to a server, or to one of several, comma-separated; or raise `BrokerUnreachable`.

    Who has an `identity` speaks to no server without TLS, nor to one that is not the broker of the same authority.

    A connection that closes for good calls `closed`, once. When a server goes the connection moves to the next.
    """

    trouble: Exception | None = None
    beginning = True
    deadline = asyncio.get_running_loop().time() + timeout_s

    async def on_error(error: Exception) -> None:
        nonlocal trouble
        trouble = error
        log.warning("nats: %s", str(error) or type(error).__name__)
        if beginning and asyncio.get_running_loop().time() >= deadline:
            raise TimeoutError  # Its waits may have swallowed that it was cancelled (see `still_wanted`).

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("nats: disconnected")

    async def on_reconnect() -> None:
        log.info("nats: connected again")

    async def on_closed() -> None:
        if closed is not None:
            closed()

    client = _Client()
    while True:
        try:
            # The client retries a dead server for long, whatever its own timeouts say: bound it from outside.
            async with asyncio.timeout_at(deadline):
                await client.connect(
                    servers_of(url),
                    name=name,
                    **(_credentials(url) if identity is None else _secured(identity)),
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
            beginning = False
            return client
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if client._transport is not None:  # It leaves open what nothing came of.
                client._transport.close()  # type: ignore[no-untyped-call]  # The client's own.
                await asyncio.sleep(0)
            if asyncio.get_running_loop().time() >= deadline:
                raise BrokerUnreachable(_unreachable(url, trouble or error)) from error
            await asyncio.sleep(0.1)


def _secured(identity: Identity) -> _Secured:
    """The handshake comes first: asked whether it speaks TLS, somebody between could say that the server does not."""
    logging.getLogger("asyncio").addFilter(_EXPECTED)  # It is there once, however often it is added.
    return {
        "tls": identity.inside,
        "tls_hostname": host_of(BROKER),
        "tls_handshake_first": True,
        "inbox_prefix": inbox_of(identity.name),
    }


def _unreachable(url: str, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"the server at {without_secrets(url)} is not our broker: {error.verify_message}"
        return f"{detail}; its certificate is not of the authority in TALLY_TLS_DIR"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with the server at {without_secrets(url)}: {error.reason}"
    return f"no NATS server at {without_secrets(url)} ({str(error) or type(error).__name__})"


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
