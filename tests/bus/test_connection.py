"""Our client reads headers as its library does, for it reads those of every block."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from bus.servers.connection import _Client


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
