"""A PostgreSQL server of our own for the length of a benchmark, and a plain event table in it.

Every commit waits for its fsync (the server's default, stated again). Clients reach it over a Unix socket, which is
the shorter way. It refuses to run as root: it then runs as a user who has few rights.
"""

from __future__ import annotations

import asyncio
import ctypes  # noqa: F401  # What `die_with_parent` needs, for a user who may not read our interpreter's files.
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.load import order_commit
from bench.rounds import Round
from bench.stored import expect
from bus.servers.lifetime import die_with_parent

USER = "bench"
DATABASE = "postgres"
PORT = 5432
"""Of the socket's name only: nothing listens on the network."""
CONNECTIONS_MAX = 300
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
UNPRIVILEGED = ("postgres", "nobody")
TABLE = """
CREATE TABLE event (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aggregate TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
    UNIQUE (aggregate, version)
)
"""


class Missing(Exception):
    """Why there is no PostgreSQL to measure."""


class Postgres(NamedTuple):
    programs: Path
    socket: Path

    @property
    def where(self) -> tuple[str, ...]:
        """How a client is told to reach it."""
        return "-h", str(self.socket), "-U", USER, "-d", DATABASE

    def ask(self, sql: str) -> str:
        psql = [str(self.programs / "psql"), *self.where, "-X", "-q", "-A", "-t", "-c", sql]
        return subprocess.run(psql, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Raises `Missing`, with the reason."""
    programs = _programs()
    user = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-postgres-") as name:
        folder = Path(name)
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        run_as = partial(_run_as, user)
        data = folder / "data"
        with (folder / "initdb.log").open("wb") as said:
            options = ("-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            initdb = [str(programs / "initdb"), "-D", str(data), *options]
            made = subprocess.run(initdb, stdout=said, stderr=said, preexec_fn=run_as, cwd=folder, check=False)
        if made.returncode:
            last = (folder / "initdb.log").read_text(errors="replace").splitlines()[-1:]
            raise Missing(f"initdb failed: {' '.join(last)}")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "max_connections": str(CONNECTIONS_MAX),
            "fsync": "on",
            "synchronous_commit": "on",
        }
        chosen = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (folder / "postgres.log").open("wb") as said:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", str(PORT), *chosen],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=folder,
                preexec_fn=run_as,
            )
        try:
            running = Postgres(programs, folder)
            _wait_until_ready(running, server)
            running.ask(TABLE)
            yield running
        finally:
            server.send_signal(signal.SIGINT)  # The fast shutdown: clients are not waited for.
            try:
                server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def inserting(server: Postgres, folder: Path) -> Callable[[int, int], Awaitable[Round]]:
    """pgbench: one INSERT of one event a transaction, a fresh aggregate each, as many clients as are in flight."""
    script = folder / "insert.sql"
    body = order_commit("")[1].decode().replace(":", ": ")  # pgbench would take `:name` for a variable.
    script.write_text(
        f"INSERT INTO event (aggregate, version, body) VALUES (gen_random_uuid(), 1, $body${body}$body$);\n"
    )

    async def do(in_flight: int, n: int) -> Round:
        before = int(server.ask("SELECT count(*) FROM event"))
        done = await asyncio.to_thread(_pgbench, server, script, in_flight, max(1, n // in_flight))
        expect(int(server.ask("SELECT count(*) FROM event")) - before, done.n, "the event table")
        return done

    return do


def _pgbench(server: Postgres, script: Path, clients: int, transactions: int) -> Round:
    with tempfile.TemporaryDirectory(dir=script.parent) as logs:
        load = ("-n", "-M", "prepared", "-f", str(script), "-c", str(clients), "-j", "1", "-t", str(transactions), "-l")
        pgbench = [str(server.programs / "pgbench"), *server.where, *load]
        ran = subprocess.run(pgbench, cwd=logs, capture_output=True, text=True, check=True)
        # client, transaction, microseconds, script, and when it ended: a line each.
        lines = [line for path in Path(logs).iterdir() for line in path.read_text().splitlines()]
    times_s = array("d", (int(line.split()[2]) / 1e6 for line in lines))
    (tps,) = (line.split()[2] for line in ran.stdout.splitlines() if line.startswith("tps"))
    return Round(len(times_s) / float(tps), times_s, len(times_s))


def _programs() -> Path:
    """The folder of the newest server that is installed."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    for place in places:
        if all((place / program).exists() for program in ("initdb", "postgres", "psql", "pgbench")):
            return place
    raise Missing("no PostgreSQL server with pgbench is installed")


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom to run it as: nobody else, unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Missing("PostgreSQL does not run as root, and there is no other user to run it as")


def _run_as(user: pwd.struct_passwd | None) -> None:
    if user is not None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    die_with_parent()


def _wait_until_ready(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            server.ask("SELECT 1")
        except subprocess.CalledProcessError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"PostgreSQL did not start: {error.stderr.strip()}") from error
            time.sleep(0.05)
        else:
            return
