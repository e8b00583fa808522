"""Our client reads headers as its library does, for it reads those of every block; and it leaves nothing open."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from bus.servers.connection import BrokerUnreachable, _Client, connect
from tests.bus.waiting import PATIENCE_S


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"Nats-Msg-Id: 0f\r\nNats-Expected-Last-Subject-Sequence: 17\r\n\r\n",
        b"Nats-Pending-Messages:256\r\nNats-Pending-Bytes:\t0\r\n\r\n",
        b"Description: consumer: deleted\r\nNo colon\r\n\r\n",
        "Name: h\u00e9 \u20ac\r\n\r\n".encode(),
        b"Name: \xff\xfe\r\n\r\n",
    ],
)
def test_headers_are_what_the_library_makes_of_them(raw: bytes) -> None:
    assert _Client._parse_header_lines(raw) == Client._parse_header_lines(raw)


async def test_a_connection_on_which_nothing_came_of_it_is_not_left_open() -> None:
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnreachable):
            await connect(f"nats://127.0.0.1:{port}", "test", timeout_s=0.3)
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
