"""Processes beside the benchmark, on the same cores: started, and ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.rounds import BenchmarkFailed
from bench.server import Server
from bus.servers.exceptions import EXCEPTIONS
from bus.servers.lifetime import die_with_parent
from gateway.runtime.work import Part

STOP_TIMEOUT_S = 10.0


class ChildEnded(BenchmarkFailed):
    """A process beside the benchmark did not live as long as it should."""


class Child:
    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self._process = process
        self._said = said

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise `ChildEnded`, with its last words, if it has."""
        if (code := self._process.poll()) is not None:
            last = self._said.read_text(errors="replace").splitlines()[-1:]
            raise ChildEnded(f"{self._said.stem} ended with {code}: {' '.join(last)}")

    def stand_still(self) -> None:
        """For ever, until it is killed."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """`kill -9`, and wait until it is dead."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    """These processes take no time of the cores meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def child(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] = os.environ
) -> Iterator[Child]:
    """A process that writes what it says into `folder`."""
    said = folder / f"{name}.log"
    with said.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    try:
        yield Child(process, said)
    finally:
        process.terminate()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def tally_work(part: Part, server: Server) -> Iterator[Child]:
    """A worker of the product on this server, as `tally up` starts one."""
    with tally(part, ["work", "--part", part], server) as running:
        yield running


@contextmanager
def tally(name: str, arguments: Sequence[str], server: Server, **more: str) -> Iterator[Child]:
    """A verb of the product on this server; `more`: of its environment."""
    command = [sys.executable, "-m", "gateway.cli.main", *arguments]
    with child(name, command, server.folder, environment_of(server, **more)) as running:
        yield running


def environment_of(server: Server, **more: str) -> dict[str, str]:
    """Of a process of the product on this server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    return {
        **inherited,
        "TALLY_NATS_URL": server.url,
        "TALLY_NATS_SYSTEM_URL": server.system_url,
        "TALLY_REPLICAS": str(server.environment.replicas),
        "TALLY_DATA_DIR": str(data_folder(server)),
        "TALLY_LOG_LEVEL": "WARNING",
        "TALLY_UNSAFE": ",".join(EXCEPTIONS),  # How its server syncs is what a benchmark compares, and reports.
        **more,
    }


def data_folder(server: Server) -> Path:
    """Where such workers keep what is theirs."""
    return server.folder / "data"
