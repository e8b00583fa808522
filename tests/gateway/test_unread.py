"""Clients that ask and do not read are cut; slow ones, idle ones and whatever is no client are not."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from bus.servers.broker import free_port
from gateway.http.unread import Unread, cut_unread
from tests.system import PATIENCE_S, REPOSITORY, System, environment_of, until

SERVED = """
import sys
from gateway.runtime.serve import serve
from gateway.settings import from_environment
serve(from_environment(), "tests.gateway.impatient:served", port=int(sys.argv[1]))
"""
ASKED = b"GET /schema/openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 200
"""More than the system takes for a client, whatever it takes."""


def is_cut(client: socket.socket, within_s: float = 0.0) -> bool:
    """Seen without reading what there is to read."""
    ended = select.poll()
    ended.register(client, 0)
    return bool(ended.poll(within_s * 1_000))


class Ends:
    """A server of this process and connections to it, each with more written on it than its client takes."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self._open = [self.listening]

    def connected(self, *, written: bool = True) -> tuple[socket.socket, socket.socket]:
        """The client's end, and the server's."""
        client = _client(self.port)
        served, _ = self.listening.accept()
        self._open += [client, served]
        if written:
            fill(served)
        return client, served

    def close(self) -> None:
        for each in self._open:
            each.close()


def fill(end: socket.socket) -> None:
    end.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            end.send(bytes(100_000))


def _client(port: int) -> socket.socket:
    client = socket.socket()
    client.settimeout(PATIENCE_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect(("127.0.0.1", port))
    return client


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


async def test_who_takes_nothing_for_too_long_is_cut_and_nobody_else(ends: Ends) -> None:
    (silent, end), (slow, _), (idle, _) = ends.connected(), ends.connected(), ends.connected(written=False)
    unread = Unread(ends.port, patience_s=30.0)
    for now_s in (0.0, 10.0, 29.9):
        await unread.look(now_s)
        assert not is_cut(silent)
        slow.recv(20_000)
    await unread.look(30.0)
    with pytest.raises(BrokenPipeError):
        end.send(b"more")
    end.close()  # As a server does when that fails.
    assert is_cut(silent, PATIENCE_S)
    slow.recv(20_000)
    await unread.look(60.0)
    assert not is_cut(slow)
    assert not is_cut(idle)
    assert ends.connected(written=False)


async def test_time_counts_from_when_a_client_took_something_last(ends: Ends) -> None:
    client, end = ends.connected()
    unread = Unread(ends.port, patience_s=30.0)
    await unread.look(0.0)
    client.recv(20_000)
    await unread.look(29.0)
    await unread.look(58.0)
    fill(end)
    await unread.look(59.0)
    with pytest.raises(BrokenPipeError):
        end.send(b"more")


async def test_connections_to_others_are_left_alone(ends: Ends) -> None:
    """What this process itself has asked for at that port, and at any other."""
    client, end = ends.connected(written=False)
    fill(client)
    unread = Unread(ends.port, patience_s=30.0)
    for now_s in (0.0, 100.0):
        await unread.look(now_s)
    assert not is_cut(end)
    elsewhere, end = ends.connected()
    unread = Unread(ends.port + 1, patience_s=30.0)
    for now_s in (0.0, 100.0):
        await unread.look(now_s)
    assert not is_cut(elsewhere)


async def test_where_the_kernel_tells_too_little_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "platform", "elsewhere")
    await cut_unread(1)
    assert [record.message for record in caplog.records] == [
        "clients that do not read their answers are not cut: that takes Linux 4.1 or later"
    ]


@pytest.fixture
def port(system: System) -> Iterator[int]:
    """One more gateway of this system, less patient."""
    port = free_port()
    reached = {"TALLY_NATS_URL": system.running.nats_url, "TALLY_HTTP_PORT": str(port)}
    command = [sys.executable, "-c", SERVED, str(port)]
    with subprocess.Popen(command, env=environment_of(system.folder, **reached), cwd=REPOSITORY) as server:
        until(lambda: _answers(port), "the gateway")
        yield port
        server.terminate()


def _answers(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
    return False


def test_a_gateway_cuts_who_does_not_read_what_it_asked_for(port: int) -> None:
    silent, slow, idle = (_client(port) for _ in range(3))
    with silent, slow, httpx.Client(base_url=f"http://127.0.0.1:{port}") as served, idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        assert idle.recv(4_096).startswith(b"HTTP/1.1 200 ")
        for asking in (silent, slow):
            asking.sendall(ASKED)
        while not is_cut(silent, within_s=0.05):
            assert slow.recv(20_000)
        assert "tally_unread_connections_cut_total 1.0\n" in served.get("/metrics").text
        assert slow.recv(20_000)
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"HTTP/1.1 200 " in idle.recv(4_096)
