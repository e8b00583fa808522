"""`tally up`: the whole system from one command, on one data folder, supervised; and the same quietly, for others."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from prometheus_client.multiprocess import mark_process_dead

from bus.servers.broker import BrokerMissing, BrokerSettings, EmbeddedBroker, Guard, configure, free_port, listening
from bus.servers.connection import close, connect
from bus.servers.safety import check
from bus.servers.tls import BROKER, OPERATOR, SYSTEM, identity
from gateway import compose
from gateway.runtime.running import (
    AlreadyRunning,
    CannotStart,
    Reached,
    Running,
    identity_of,
    reachable,
    running,
    write_running,
)
from gateway.runtime.streams import make_streams
from gateway.runtime.supervisor import GIVES_WAY, Child, Supervisor, until
from gateway.settings import Settings, SettingsError, claim, secret

SANDBOX_HOST = "127.0.0.1"
"""The simulated one is for nobody else."""
BROKER_READY_S = 30.0
READY_S = 600.0
"""Workers that have a long log to read take their time; what is missing is said meanwhile."""
SAY_AGAIN_S = 5.0
ANSWER_TIMEOUT_S = 5.0
SANDBOX_ADMIN = "admin@tallystream.example"
"""Who is told of what somebody should look after, where mail reaches nobody anyway."""


@asynccontextmanager
async def started(settings: Settings, say: Callable[[str], None]) -> AsyncIterator[tuple[Supervisor, Running]]:
    """Everything, ready; ended when left. Raises `CannotStart`, `ChildFailed` or `MeshInvalid`."""
    compose.mesh(settings)  # Said before anything begins.
    with _own_folder(settings.data_dir):
        port = settings.http_port or free_port()
        _check_port(settings.http_host, port, "TALLY_HTTP_PORT")
        grpc_address = ""
        if compose.serves_grpc(settings):
            _check_port(settings.http_host, settings.grpc_port, "TALLY_GRPC_PORT")
            grpc_address = f"{reachable(settings.http_host)}:{settings.grpc_port}"
        guard = None if settings.tls_dir is None else _guarded(settings, settings.tls_dir)
        http = "http" if guard is None else "https"
        password = secret(settings.data_dir, "nats-password")
        broker = BrokerSettings(settings.data_dir / "broker", free_port(), password, guard=guard)
        where = Running(
            pid=os.getpid(),
            nats_url=settings.nats_url or broker.url,
            http_url=f"{http}://{reachable(settings.http_host)}:{port}",
            provider_url=settings.provider_url or f"{http}://{SANDBOX_HOST}:{free_port()}",
            carrier_url=settings.carrier_url or f"{http}://{SANDBOX_HOST}:{free_port()}",
            nats_system_url=_system_url(settings) if settings.nats_url else broker.system_url,
            smtp_url=settings.smtp_url or f"smtp://{SANDBOX_HOST}:{free_port()}",
            grpc_address=grpc_address,
            tls_dir=str(settings.tls_dir or ""),
        )
        shutil.rmtree(settings.metrics_dir, ignore_errors=True)
        settings.metrics_dir.mkdir(parents=True)
        try:
            children = _children(settings, broker, where, port)
        except BrokerMissing as error:
            raise CannotStart(str(error)) from error
        supervisor = Supervisor(children, settings.data_dir / "log", say, _forget_gauges(settings.metrics_dir))
        write_running(settings.run_file, where)
        try:
            if not settings.nats_url:
                supervisor.start("broker")

                async def listens() -> bool:
                    return await asyncio.to_thread(listening, broker.port, guard)

                if not await _or_failed(supervisor, until(listens, BROKER_READY_S)):
                    raise CannotStart(f"the broker was not ready after {BROKER_READY_S:.0f} s: see its log")
            await _or_failed(supervisor, _broker_is_sound(settings, where))
            for child in children:
                if child.name != "broker":
                    supervisor.start(child.name)
            await _until_ready(supervisor, _Readiness(where), say)
            yield supervisor, where
        finally:
            await supervisor.stop()
            settings.run_file.unlink(missing_ok=True)


async def _broker_is_sound(settings: Settings, where: Running) -> bool:
    """Checked here once before the workers do it again: one clear refusal, and nothing has begun.

    Raises `BrokerUnsafe`, `StreamMisconfigured`, `LogDamaged`.
    """
    await check(where.nats_url, where.nats_system_url, settings.unsafe, system=identity_of(settings, SYSTEM))
    client = await connect(where.nats_url, "up", identity=where.operator)
    try:
        if where.operator is None:
            await compose.open_logs(client, settings)
        else:
            await make_streams(client, settings)  # Nobody else may.
    finally:
        await close(client)
    return True


@asynccontextmanager
async def broker_alone(settings: Settings) -> AsyncIterator[Reached]:
    """This data folder's broker; started alone, and ended afterwards, where nothing runs."""
    if settings.nats_url:
        yield Reached(settings.nats_url, identity_of(settings, OPERATOR))
        return
    try:
        with _own_folder(settings.data_dir):
            password = secret(settings.data_dir, "nats-password")
            with EmbeddedBroker(BrokerSettings(settings.data_dir / "broker", free_port(), password)) as broker:
                yield Reached(broker.url)
    except AlreadyRunning:
        found = running(settings)
        if found is None:
            raise
        yield Reached(found.nats_url, found.operator)


@asynccontextmanager
async def system(settings: Settings, say: Callable[[str], None] = lambda line: None) -> AsyncIterator[Running]:
    """The system that runs on this data folder; one of our own, ended afterwards, where none does."""
    unannounced = msgspec.structs.replace(settings, http_port=0)  # Nobody is told its address: any free port will do.
    try:
        async with started(unannounced, say) as (_, where):
            yield where
    except AlreadyRunning:
        found = running(settings)
        if found is None:
            raise
        yield found


def _forget_gauges(folder: Path) -> Callable[[int], None]:
    """What a process was holding when it died, a queue's length say, must not be counted for ever."""

    def forget(pid: int) -> None:
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # Untyped in the library.

    return forget


def _children(settings: Settings, broker: BrokerSettings, where: Running, port: int) -> list[Child]:
    tally = [sys.executable, "-m", "gateway.cli.main"]
    environment = {
        "TALLY_DATA_DIR": str(settings.data_dir),
        "TALLY_NATS_URL": where.nats_url,
        "TALLY_NATS_SYSTEM_URL": where.nats_system_url,
        "TALLY_UNSAFE": ",".join(sorted(settings.unsafe)),
        "TALLY_PROVIDER_URL": where.provider_url,
        "TALLY_SMTP_URL": where.smtp_url,
        "TALLY_MAIL_FROM": settings.mail_from,
        "TALLY_ALERTS_TO": ",".join(settings.alerts_to) or ("" if settings.smtp_url else SANDBOX_ADMIN),
        "TALLY_CARRIER_URL": where.carrier_url,
        "TALLY_LOG_LEVEL": settings.log_level,
        "TALLY_HTTP_HOST": settings.http_host,
        "TALLY_HTTP_PORT": str(port),
        "TALLY_GRPC_PORT": str(settings.grpc_port),
        "TALLY_REPLICAS": str(settings.replicas),
        "TALLY_MESH_FILE": str(settings.mesh_file or ""),
        "TALLY_PARTITIONS": ",".join(f"{name}={number}" for name, number in settings.partitions.items()),
        "TALLY_RATE_LIMITS": ",".join(f"{role}={rate}" for role, rate in settings.rates.items()),
        "TALLY_RATE_LIMITS_SHARED": str(int(settings.rates_shared)),
        "TALLY_ROUTE_LIMITS": ",".join(f"{route}={number}" for route, number in settings.at_once.items()),
        "TALLY_TLS_DIR": where.tls_dir,
        "PROMETHEUS_MULTIPROC_DIR": str(settings.metrics_dir),
    }
    if settings.webhook_secret:
        environment["TALLY_WEBHOOK_SECRET"] = settings.webhook_secret
    if settings.jwt_secret:
        environment["TALLY_JWT_SECRET"] = settings.jwt_secret
    children: list[Child] = []
    if not settings.nats_url:
        children.append(Child("broker", configure(broker), rank=0))
    children += _workers([*tally, "work"], settings, environment)
    loopback = {**environment, "TALLY_HTTP_HOST": SANDBOX_HOST}
    sandbox = (
        (["provider"], settings.provider_url, where.provider_url),
        (["carrier"], settings.carrier_url, where.carrier_url),
        (["mail", "serve"], settings.smtp_url, where.smtp_url),
    )
    for verb, own, url in sandbox:
        if not own:
            command = [*tally, *verb, "--port", url.rpartition(":")[2]]
            children.append(Child(verb[0], command, loopback, rank=2))
    serve = [*tally, "serve", "--workers", str(settings.gateways)]
    children.append(Child("gateway", serve, environment, rank=2))
    return children


def _workers(work: Sequence[str], settings: Settings, environment: Mapping[str, str]) -> list[Child]:
    """A process a part; where it is secured, a process a service, for each has a user of its own."""
    kept = [service.name for service in compose.STATE_STORED]
    more = range(2, settings.workers + 1)
    if settings.tls_dir is None:
        commands = ["commands", *(f"commands-{n}" for n in more)]
        children = [Child(name, [*work, "--part", "commands"], environment, rank=1) for name in commands]
        children += [Child(name, [*work, "--part", "states", "--service", name], environment, rank=1) for name in kept]
    else:
        children = [Child(name, [*work, "--service", name], environment, rank=1) for name in compose.SERVICES]
        for name in (domain.name for domain in compose.DOMAINS):
            deciding = [*work, "--part", "commands", "--service", name]
            children += [Child(f"{name}-{n}", deciding, environment, rank=1) for n in more]
    parts = ["projections", "queue", *(["processes"] if settings.tls_dir is None else [])]
    if settings.grpc_port:
        parts.append("grpc")
    later = {"processes", "queue"}  # What a burst of commands leads to: it is taken in first.
    return children + [
        Child(part, [*work, "--part", part], environment, rank=2, niceness=GIVES_WAY if part in later else 0)
        for part in parts
    ]


def _system_url(settings: Settings) -> str:
    """Of a broker of somebody's own; where certificates say who one is, the URL is the same for all."""
    return settings.nats_system_url or (settings.nats_url if settings.tls_dir is not None else "")


def _guarded(settings: Settings, folder: Path) -> Guard:
    """The certificates of this system, made or renewed where that is due. Raises `CertificateUnusable`."""
    from gateway.runtime.users import made, users  # Only a secured system needs what makes certificates.

    made(folder, [reachable(settings.http_host).strip("[]")])
    return Guard(identity(folder, BROKER), tuple(users()))


class _Readiness:
    """Asks the gateway whether every part is ready, looks whether gRPC is served, and remembers why not."""

    def __init__(self, where: Running) -> None:
        self._address = urlsplit(where.http_url).netloc
        self._trust = where.trust
        self._grpc = where.grpc_address
        self.reason = "the gateway does not answer yet"

    async def __call__(self) -> bool:
        try:
            status, body = await asyncio.to_thread(self._ask)
        except (OSError, HTTPException):
            return False
        if status == 200:
            self.reason = "gRPC is not served yet"
            return not self._grpc or await _accepts(self._grpc)
        self.reason = str(msgspec.json.decode(body, type=dict[str, object]).get("detail", status))
        return False

    def _connection(self) -> HTTPConnection:
        if isinstance(self._trust, ssl.SSLContext):
            return HTTPSConnection(self._address, timeout=ANSWER_TIMEOUT_S, context=self._trust)
        return HTTPConnection(self._address, timeout=ANSWER_TIMEOUT_S)

    def _ask(self) -> tuple[int, bytes]:
        with closing(self._connection()) as connection:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read()


async def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return False
    writer.close()
    return True


async def _until_ready(supervisor: Supervisor, ready: _Readiness, say: Callable[[str], None]) -> None:
    deadline = asyncio.get_running_loop().time() + READY_S
    while not await _or_failed(supervisor, until(ready, SAY_AGAIN_S)):
        if asyncio.get_running_loop().time() > deadline:
            raise CannotStart(f"not ready after {READY_S:.0f} s: {ready.reason}")
        say(f"waiting: {ready.reason}")


async def _or_failed(supervisor: Supervisor, waiting: Coroutine[None, None, bool]) -> bool:
    """What was waited for, unless a child is given up meanwhile: then that is raised."""
    task = asyncio.create_task(waiting)
    try:
        return await supervisor.healthy_until(task)
    finally:
        task.cancel()


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Hold a data folder: ours, or a new one. Raises `CannotStart` for anything else."""
    try:
        claim(folder)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except SettingsError as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"{folder} cannot be written to: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"{folder} is in use by another `tally up`: stop that one first") from error
        yield
    finally:
        os.close(lock)


def _check_port(host: str, port: int, variable: str) -> None:
    try:
        address = ip_address(host)
    except ValueError as error:
        raise CannotStart(f"{host!r} is no address to listen on: set TALLY_HTTP_HOST to one, of IPv4 or 6") from error
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(f"port {port} on {host} cannot be had ({error.strerror}): set {variable}") from error
