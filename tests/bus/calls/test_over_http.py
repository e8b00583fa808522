"""HTTP at the end of the path, against a server that says what it is told: errors are ours, nothing is unbounded."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from bus.calls.breaker import State
from bus.calls.call import GRACE_S, AnswerTooLarge, Busy, CallFailed, DeadlineExceeded, NoAnswer, Unreachable, http_call
from bus.calls.deadline import HEADER
from bus.calls.over_http import ANSWER_BYTES_MAX, CONNECT_TIMEOUT_S, HttpTransport, balanced, client, retry_after_s
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.servers.broker import free_port

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(converse: Conversation) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that treats each connection so, and then closes it."""
    connections: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        try:
            await converse(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as http:
        yield http
    server.close()
    if conversing := [each for each in connections if each is not None]:  # Who was in a hurry may never have come.
        await asyncio.wait(conversing)


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[HttpTransport, list[bytes]]]:
    """A transport to a server that gives these answers, one a connection, and what it was sent."""
    heard: list[bytes] = []
    left = list(answers)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
        heard.append(head + await reader.readexactly(size))
        writer.write(left.pop(0))

    async with serving(converse) as http:
        yield HttpTransport("d", http), heard


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def soon() -> float:
    return time.monotonic() + 5


@pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 409, 501])
async def test_an_answer_is_an_answer_whatever_it_says(status: int) -> None:
    body = b"" if status == 204 else b"said"
    async with answering(answer(status, body, "X-Thing: 1")) as (transport, heard):
        reply = await transport(http_call("POST", "/a?b=1", b"body", {"Idempotency-Key": "k"}), soon())
    assert (reply.status, reply.body, reply.headers["x-thing"]) == (status, body, "1")
    assert heard[0].startswith(b"POST /a?b=1 HTTP/1.1\r\n")
    assert heard[0].endswith(b"\r\n\r\nbody")
    assert b"idempotency-key: k" in heard[0].lower()


async def test_what_is_left_of_the_time_is_told() -> None:
    async with answering(answer(200)) as (transport, heard):
        await transport(http_call("GET", "/"), soon())
    (left,) = (line for line in heard[0].decode().splitlines() if line.lower().startswith(HEADER.lower()))
    assert 4_000 < int(left.partition(":")[2]) <= 5_000


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_answer_that_asks_to_come_again_is_a_failure_that_passes(status: int) -> None:
    async with answering(answer(status, b"busy", "Retry-After: 7")) as (transport, _):
        with pytest.raises(Busy) as failed:
            await transport(http_call("GET", "/"), soon())
    assert (failed.value.status, failed.value.retry_after_s, failed.value.passing) == (status, 7.0, True)


async def test_nobody_there_is_told_from_nobody_answering() -> None:
    async with client(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(Unreachable):
            await HttpTransport("d", http)(http_call("GET", "/"), soon())
    async with answering(b"") as (transport, _):
        with pytest.raises(NoAnswer):
            await transport(http_call("GET", "/"), soon())
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as (transport, _):
        with pytest.raises(NoAnswer):
            await transport(http_call("GET", "/"), soon())


async def test_an_answer_without_end_is_given_up() -> None:
    async with answering(answer(200, b"x" * (ANSWER_BYTES_MAX + 1))) as (transport, _):
        with pytest.raises(AnswerTooLarge):
            await transport(http_call("GET", "/"), soon())


async def test_a_silent_server_is_given_up_when_the_time_is_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # Until the client is gone.

    async with serving(silent) as http:
        path = CallPath("d", CallPolicy(timeout_s=0.05, try_timeout_s=0.05), HttpTransport("d", http))
        with pytest.raises(CallFailed) as failed:
            await path.call(http_call("GET", "/"))
    assert failed.value.code == "deadline_exceeded"


async def test_callers_in_a_hurry_do_not_close_a_destination_to_others() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as http:
        path = CallPath("d", CallPolicy(), HttpTransport("d", http))
        asked = (path.call(http_call("GET", "/"), deadline=time.monotonic() + 0.1) for _ in range(25))
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(end) for end in ends} == {DeadlineExceeded}
        assert path.breaker.state is State.CLOSED


async def test_along_the_path_a_busy_server_is_asked_again() -> None:
    async with answering(answer(503, b"", "Retry-After: 0"), answer(200, b"now")) as (transport, heard):
        reply = await CallPath("d", CallPolicy(backoff_s=0), transport).call(http_call("GET", "/"))
    assert (reply.body, len(heard)) == (b"now", 2)


async def test_to_connect_takes_a_second_at_most_and_the_answer_what_is_left() -> None:
    asked: list[dict[str, float]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request.extensions["timeout"])
        raise httpx.ConnectTimeout("")

    async with httpx.AsyncClient(base_url="http://nowhere", transport=httpx.MockTransport(answers)) as http:
        with pytest.raises(Unreachable):
            await HttpTransport("d", http)(http_call("GET", "/"), soon())
    assert asked[0]["connect"] == CONNECT_TIMEOUT_S
    assert 5 < asked[0]["read"] <= 5 + GRACE_S


async def test_of_several_addresses_the_one_that_answers_is_called() -> None:
    async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200, b"well"))

    async with serving(well) as http, balanced("d", [f"http://127.0.0.1:{free_port()}", str(http.base_url)]) as both:
        path = CallPath("d", CallPolicy(backoff_s=0), both)
        assert [(await path.call(http_call("GET", "/"))).body for _ in range(5)] == [b"well"] * 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("7", 7), ("0", 0), ("-3", 0), ("soon", 0), ("1.5", 0), ("9" * 30, 3_600), ("9" * 400, 3_600)],
)
def test_retry_after_in_seconds(text: str, seconds: float) -> None:
    assert retry_after_s(text) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after_s(format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)) == 0
    soon = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True))
    assert math.isclose(soon, 600, abs_tol=60)
