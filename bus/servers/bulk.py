"""A connection that hears one inbox, and takes what comes there in bulk: for reading long stretches of a log.

The client makes a message an object of its own, with a dictionary of its headers, in a coroutine: some 9 us, half of
all that a small block costs. Here the frames of whatever the socket gave are cut in one loop, and headers are looked at
only where the server itself says something by them. It speaks just enough of the protocol for that. It never
reconnects, and does not ask whether the server is still there: whoever reads misses its heartbeats, and begins again
where he stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client

LINE_BYTES_MAX = 64 * 1024
"""What comes before a frame's payload: subjects and sizes, or all that a server says of itself."""
DEFAULT_PORT = 4222
_END = b"\r\n"
_SID = "1"


class Frame(Struct, frozen=True, gc=False):
    """One message. `headers` are those of a status, which is a message that no stream holds: it has no `reply`."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None = None


class _Info(Struct, frozen=True):
    """What matters of that which a server says first."""

    max_payload: int
    tls_required: bool = False


class BulkConnection(asyncio.Protocol):
    """Make it with `open`, and `close` it. `arrived` is called with what came, `lost` once if the connection ends."""

    def __init__(self, arrived: Callable[[Sequence[Frame]], None], lost: Callable[[Exception], None]) -> None:
        self._arrived = arrived
        self._lost = lost
        self._transport: asyncio.Transport
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = 1
        """So many bytes are held at least before there is something to cut."""
        self._info: asyncio.Future[_Info] = asyncio.get_running_loop().create_future()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._payload_max = 0
        self._ended = False

    @classmethod
    async def open(
        cls, client: Client, arrived: Callable[[Sequence[Frame]], None], lost: Callable[[Exception], None]
    ) -> BulkConnection:
        """To the server that a client is connected to, as the client is. Raises `OSError` or the client's errors."""
        server, options = client.connected_url, client.options
        if server is None or server.hostname is None:
            raise nats.errors.StaleConnectionError
        loop = asyncio.get_running_loop()
        host = options.get("tls_hostname") or server.hostname
        secured: dict[str, Any] = {"ssl": client.ssl_context, "server_hostname": host}
        first = options["tls_handshake_first"]
        async with asyncio.timeout(options["connect_timeout"]):
            _, connection = await loop.create_connection(
                lambda: cls(arrived, lost), server.hostname, server.port or DEFAULT_PORT, **(secured if first else {})
            )
            try:
                info = await connection._info
                if not first and (info.tls_required or server.scheme == "tls"):
                    await connection._secure(**secured)
                connection._greet(options)
                await connection._ready
            except BaseException:  # Raised again; no connection is left open, however it ended.
                connection.close()
                raise
        return connection

    def subscribe(self, subject: str) -> None:
        self._transport.write(f"SUB {subject} {_SID}\r\n".encode())

    def publish(self, subject: str, data: bytes, reply: str) -> None:
        self._transport.write(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data))

    def close(self) -> None:
        self._ended = True
        self._transport.abort()  # What is not sent yet is of no use to anybody.

    # -- what the loop calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._wanted or self._ended:
            return
        buffer = b"".join(self._parts)
        try:
            frames, at = self._cut(buffer)
        except (nats.errors.Error, ValueError, IndexError, msgspec.DecodeError) as error:
            self._end(error if isinstance(error, nats.errors.Error) else nats.errors.ProtocolError())
            return
        self._parts = [buffer[at:]]
        self._held = len(buffer) - at
        if frames:
            self._arrived(frames)

    # -- the protocol --------------------------------------------------------------------------------------------------

    def _cut(self, buffer: bytes) -> tuple[list[Frame], int]:
        """The whole frames at its beginning, and where the rest begins; then `_wanted` says how long that will be."""
        frames: list[Frame] = []
        at = 0
        while (end := buffer.find(_END, at)) >= 0:
            tokens = buffer[at:end].decode().split(" ")
            verb = tokens[0]
            headed = verb == "HMSG"
            if not headed and verb != "MSG":
                self._control(buffer[at:end])
                at = end + 2
                continue
            begin = end + 2
            after = begin + self._size(tokens[-1])
            if after + 2 > len(buffer):
                self._wanted = after + 2 - at
                return frames, at
            data = begin + int(tokens[-2]) if headed else begin
            if len(tokens) == (6 if headed else 5):
                frames.append(Frame(tokens[1], tokens[3], buffer[data:after]))
            else:
                frames.append(Frame(tokens[1], "", buffer[data:after], _headers(buffer[begin:data])))
            at = after + 2
        if len(buffer) - at > LINE_BYTES_MAX:
            raise nats.errors.ProtocolError
        self._wanted = len(buffer) - at + 1
        return frames, at

    def _size(self, told: str) -> int:
        """A payload's, with its headers: a number that no server means would have this end hold whatever comes."""
        size = int(told)
        if not 0 <= size <= self._payload_max:
            raise nats.errors.ProtocolError
        return size

    def _control(self, line: bytes) -> None:
        verb, _, told = line.partition(b" ")
        if verb == b"PING":
            self._transport.write(b"PONG\r\n")
        elif verb == b"PONG":
            if not self._ready.done():
                self._ready.set_result(None)
        elif verb == b"INFO":  # Also later, when the cluster changes.
            info = msgspec.json.decode(told, type=_Info)
            self._payload_max = info.max_payload
            if not self._info.done():
                self._info.set_result(info)
        elif verb == b"-ERR":
            raise nats.errors.Error(told.decode("utf-8", "replace"))

    async def _secure(self, **secured: Any) -> None:
        transport = await asyncio.get_running_loop().start_tls(
            self._transport, self, secured["ssl"], server_hostname=secured["server_hostname"]
        )
        assert transport is not None  # As it is only where the connection was lost meanwhile.
        self._transport = transport

    def _greet(self, options: dict[str, Any]) -> None:
        said = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "0",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "name": options["name"],
            "user": options["user"],
            "pass": options["password"],
            "auth_token": options["token"],
        }
        told = msgspec.json.encode({name: value for name, value in said.items() if value is not None})
        self._transport.write(b"CONNECT %b\r\nPING\r\n" % told)

    def _end(self, error: Exception) -> None:
        if self._ended:
            return
        self.close()
        for waited in (self._info, self._ready):
            if not waited.done():
                waited.set_exception(error)
                waited.exception()  # Where nobody waits, nobody misses it.
        self._lost(error)


def _headers(raw: bytes) -> dict[str, str]:
    """Those of a status, as the client has them: `NATS/1.0 409 Message Size Exceeds MaxBytes`, and lines of names."""
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    _, status, description = [*first.split(" ", 2), "", ""][:3]
    named = (line.partition(":") for line in lines if line)
    found = {name.strip(): value.strip() for name, _, value in named}
    return {**found, "Status": status, "Description": description}
