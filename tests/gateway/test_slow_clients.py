"""Clients that take a place and say nothing, or not enough, are cut; what they hold is for others again."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.servers.broker import free_port
from gateway.settings import claim
from tests.system import PATIENCE_S, REPOSITORY, environment_of, until

SERVED = """
import sys
from gateway.runtime import serve
from gateway.settings import from_environment
serve.HEAD_WITHIN_S = 1
serve.serve(from_environment(), serve.CARRIER, port=int(sys.argv[1]))
"""
WHOLE = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server as all of ours are, less patient."""
    folder: Path = tmp_path_factory.mktemp("slow") / "data"
    claim(folder)
    port = free_port()
    command = [sys.executable, "-c", SERVED, str(port)]
    with subprocess.Popen(command, env=environment_of(folder), cwd=REPOSITORY) as server:
        until(lambda: _listens(port), "the server")
        yield port
        server.terminate()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("said", [b"", b"GET /liv", b"GET /livez HTTP/1.1\r\nHost: here\r\n"])
def test_who_does_not_say_what_it_wants_is_cut(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as silent:
        silent.sendall(said)
        assert silent.recv(1_000) == b""


def test_who_asked_before_and_says_no_more_is_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as asking:
        asking.sendall(WHOLE)
        assert asking.recv(1_000).startswith(b"HTTP/1.1 200 ")
        while asking.recv(1_000):
            """What is left of the answer."""
