"""A stream whose reader does not read is cut, and nothing is held for him."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Message, Receive, Scope, Send

from gateway.http.live import Cut
from tests.bus.waiting import PATIENCE_S


async def nothing_comes() -> Any:
    await asyncio.Event().wait()


def numbers(made: list[int]) -> ASGIStreamingResponse:
    """A stream without an end; what it has made so far is in `made`."""

    async def endless() -> Any:
        while True:
            made.append(len(made))
            yield b"%d" % made[-1]

    return ASGIStreamingResponse(iterator=endless())


async def test_who_takes_nothing_is_cut_and_no_more_is_made_for_him() -> None:
    made: list[int] = []
    taken: list[Message] = []

    async def send(message: Message) -> None:
        if len(taken) == 4:
            await asyncio.Event().wait()  # The socket is full.
        taken.append(message)

    async with asyncio.timeout(PATIENCE_S):
        await Cut(numbers(made), patience_s=0.01)(cast("Scope", {"type": "http"}), nothing_comes, send)
    assert len(taken) == 4
    assert len(made) <= len(taken) + 1


async def test_what_goes_wrong_otherwise_is_not_taken_for_a_slow_reader() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no")

    async def send(message: Message) -> None: ...

    with pytest.raises(ValueError, match="no"):
        await Cut(broken)(cast("Scope", {"type": "http"}), nothing_comes, send)
