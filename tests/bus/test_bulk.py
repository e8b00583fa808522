"""The connection that takes messages in bulk: whatever pieces they come in, whatever a server says, with TLS or not.

That logs are read over it is for `tests/bus/test_log_contract.py`, that users may is for `tests/gateway/test_users.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from bus.servers.bulk import LINE_BYTES_MAX, BulkConnection, Frame
from bus.servers.certificates import make
from bus.servers.tls import BROKER, Identity, Party, host_of
from tests.bus.waiting import PATIENCE_S

INFO = b'INFO {"server_id":"test","max_payload":1000,"headers":true%b}\r\n'
HEADERS = b"NATS/1.0\r\nNats-Msg-Id: 0f\r\n\r\n"
HEARTBEAT = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n"
OVER = b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Messages: 3\r\n\r\n"
FRAMES = [
    Frame("log.orders.0", "$JS.ACK.orders.c.1.2.1.3.4", b"plain"),
    Frame("log.orders.1", "$JS.ACK.orders.c.1.3.1.3.4", b"\r\nMSG a 1 b 3\r\n"),
    Frame("log.orders.2", "$JS.ACK.orders.c.1.4.1.3.4", b""),
    Frame("inbox", "", b"", {"Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Consumer": "7"}),
    Frame(
        "inbox",
        "",
        b"",
        {"Status": "409", "Description": "Message Size Exceeds MaxBytes", "Nats-Pending-Messages": "3"},
    ),
]
WIRE = b"".join(
    (
        INFO % b"",
        b"MSG log.orders.0 1 $JS.ACK.orders.c.1.2.1.3.4 5\r\nplain\r\n",
        b"PING\r\n",
        b"HMSG log.orders.1 1 $JS.ACK.orders.c.1.3.1.3.4 %d %d\r\n" % (len(HEADERS), len(HEADERS) + 15),
        HEADERS + b"\r\nMSG a 1 b 3\r\n\r\n",
        b"PONG\r\n",
        b"HMSG log.orders.2 1 $JS.ACK.orders.c.1.4.1.3.4 %d %d\r\n%b\r\n" % (len(HEADERS), len(HEADERS), HEADERS),
        b"HMSG inbox 1 %d %d\r\n%b\r\n" % (len(HEARTBEAT), len(HEARTBEAT), HEARTBEAT),
        b"HMSG inbox 1 %d %d\r\n%b\r\n" % (len(OVER), len(OVER), OVER),
    )
)


class Heard:
    """What a connection has told of."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lost: list[Exception] = []
        self.some = asyncio.Event()

    def arrived(self, frames: Sequence[Frame]) -> None:
        self.frames += frames
        self.some.set()

    def gone(self, error: Exception) -> None:
        self.lost.append(error)
        self.some.set()

    async def something(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.some.wait()
        self.some.clear()


class Sent(asyncio.Transport):
    """What is on the other side of a connection that has no socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.written += b"aborted"


async def told(*pieces: bytes) -> tuple[Heard, Sent]:
    """A connection that was given these."""
    heard, sent = Heard(), Sent()
    connection = BulkConnection(heard.arrived, heard.gone)
    connection.connection_made(sent)
    for piece in pieces:
        connection.data_received(piece)
    return heard, sent


@given(st.lists(st.integers(1, len(WIRE) - 1), max_size=30, unique=True))
def test_in_whatever_pieces_they_come_the_messages_are_the_same(cuts: list[int]) -> None:
    ends = [*sorted(cuts), len(WIRE)]
    pieces = [WIRE[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    heard, sent = asyncio.run(told(*pieces))
    assert heard.frames == FRAMES
    assert heard.lost == []
    assert sent.written == b"PONG\r\n"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"-ERR 'Authorization Violation'\r\n", r"'Authorization Violation'"),
        (b"MSG inbox 1 reply 1001\r\n", "protocol"),
        (b"MSG inbox 1 reply -1\r\n", "protocol"),
        (b"MSG inbox 1 reply many\r\n", "protocol"),
        (b"HMSG 7\r\n", "protocol"),
        (b"INFO {\r\n", "protocol"),
        (b"x" * (LINE_BYTES_MAX + 1), "protocol"),
    ],
)
async def test_what_makes_no_sense_or_says_no_ends_it_once(said: bytes, error: str) -> None:
    heard, sent = await told(INFO % b"", b"MSG inbox 1 reply 2\r\nhi\r\n", said, b"MSG inbox 1 reply 2\r\nhi\r\n")
    assert heard.frames == [Frame("inbox", "reply", b"hi")]
    (lost,) = heard.lost
    assert isinstance(lost, nats.errors.Error)
    assert error in str(lost)
    assert sent.written == b"aborted"


@asynccontextmanager
async def server(tls: ssl.SSLContext | None, *, refuses: bytes = b"") -> AsyncIterator[str]:
    """Says that it wants TLS, if it does, and sends one message to whoever subscribes; the URL. What it `refuses` to
    hear a second time ends the connection."""
    known = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal known
        known += 1
        try:
            writer.write(INFO % (b"" if tls is None else b',"tls_required":true'))
            if tls is not None:
                await writer.start_tls(tls)
            while line := await reader.readline():
                if refuses and line.startswith(refuses) and known > 1:
                    writer.write(b"-ERR 'Authorization Violation'\r\n")
                elif line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                elif line.startswith(b"SUB inbox "):
                    writer.write(b"MSG inbox 1 reply 2\r\nhi\r\n")
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def hears(client: Client) -> list[Frame]:
    heard = Heard()
    connection = await BulkConnection.open(client, heard.arrived, heard.gone)
    connection.subscribe("inbox")
    await heard.something()
    connection.close()
    assert heard.lost == []
    return heard.frames


async def test_a_server_that_asks_for_tls_only_after_it_was_greeted_gets_it(tmp_path: Path) -> None:
    make(tmp_path, (Party(BROKER, serves=True), Party("orders")))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / f"{BROKER}.pem", tmp_path / f"{BROKER}.key")
    async with server(serving) as url:
        trusting = Identity(tmp_path, "orders").inside
        client = await nats.connect(url, tls=trusting, tls_hostname=host_of(BROKER), allow_reconnect=False)
        assert await hears(client) == [Frame("inbox", "reply", b"hi")]
        await client.close()


async def test_whoever_is_not_let_in_is_told_why() -> None:
    async with server(None, refuses=b"CONNECT") as url:
        client = await nats.connect(url, allow_reconnect=False)
        heard = Heard()
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await BulkConnection.open(client, heard.arrived, heard.gone)
        await client.close()


async def test_a_server_that_ends_it_is_missed() -> None:
    async with server(None, refuses=b"SUB gone ") as url:
        client = await nats.connect(url, allow_reconnect=False)
        heard = Heard()
        connection = await BulkConnection.open(client, heard.arrived, heard.gone)
        connection.subscribe("gone")
        await heard.something()
        assert [str(error) for error in heard.lost] == ["'Authorization Violation'"]
        await client.close()


async def test_a_client_without_a_server_has_none_to_offer() -> None:
    async with server(None) as url:
        client = await nats.connect(url, allow_reconnect=False)
        await client.close()
        with pytest.raises(nats.errors.Error):
            await BulkConnection.open(client, Heard().arrived, Heard().gone)
