"""Bodies as they come in: bounded in size and in time, and received to their end where the answer could get lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from litestar.types import HTTPReceiveMessage, HTTPScope

from gateway.http.bodies import BODY_BYTES_MAX, DISCARDED_BYTES_MAX, read_body
from gateway.http.problems import Problem


class Client:
    """Sends so many bytes in chunks, then nothing more; or stops before the end."""

    def __init__(self, size: int, *, announced: bool = False, stops: bool = False) -> None:
        headers = [(b"content-length", b"%d" % size)] if announced else []
        self.scope = cast("HTTPScope", {"headers": headers, "state": {}})
        self.left = size
        self._stops = stops

    async def receive(self) -> HTTPReceiveMessage:
        if self._stops and self.left <= 0:
            await asyncio.Event().wait()
        chunk = b"x" * min(self.left, 64 * 1024)
        self.left -= len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": self._stops or self.left > 0}


async def refusal_of(client: Client) -> Problem:
    with pytest.raises(Problem) as raised:
        await read_body(client.scope, client.receive)
    return raised.value


@pytest.mark.parametrize("size", [0, 1, BODY_BYTES_MAX])
async def test_a_body_is_kept_as_it_came(size: int) -> None:
    client = Client(size)
    assert await read_body(client.scope, client.receive) == b"x" * size == client.scope["state"]["body"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_received_to_its_end_before_it_is_refused(announced: bool) -> None:
    client = Client(BODY_BYTES_MAX + 1_000_000, announced=announced)
    assert (await refusal_of(client)).status == 413
    assert client.left == 0


async def test_a_body_without_an_end_is_not_received_for_ever() -> None:
    client = Client(10 * DISCARDED_BYTES_MAX)
    assert (await refusal_of(client)).status == 413
    assert client.left > 8 * DISCARDED_BYTES_MAX


async def test_what_is_announced_beyond_all_measure_is_not_received_at_all() -> None:
    client = Client(DISCARDED_BYTES_MAX + 1, announced=True)
    assert (await refusal_of(client)).status == 413
    assert client.left == DISCARDED_BYTES_MAX + 1


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.bodies.BODY_WAIT_S", 0.01)
    assert (await refusal_of(Client(10, stops=True))).status == 408
