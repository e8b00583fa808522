"""The start-up check: refuses a broker that may lose what it acknowledged, or that strangers may write to.

What a server tells everybody who connects: where it listens, whether it wants TLS and users. What it tells the system
account only: whether it syncs every write, and how much it may store. What it tells nobody: how large its disk is; that
is looked up where the server runs on this machine. How the streams are configured is checked where they are opened
(`bus/logs/streams.py`).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
from collections.abc import Set as AbstractSet
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
import nats.errors
from msgspec import Struct

from bus.servers.connection import (
    CONNECT_TIMEOUT_S,
    BrokerUnreachable,
    Client,
    close,
    connect,
    servers_of,
    without_secrets,
)
from bus.servers.tls import BROKER, Identity, host_of

ANSWERS_WITHIN_S = 0.5
ALL_WITHIN_S = 2.0
INFO_WITHIN_S = 5.0

log = logging.getLogger(__name__)


class BrokerUnsafe(Exception):
    """A line for each thing that is wrong, with what to do about it."""


class Problem(NamedTuple):
    exception: str
    """The name under which it may be allowed, see `bus/servers/exceptions.py`."""
    detail: str


class _Info(Struct, frozen=True):
    """What a server tells everybody."""

    server_id: str
    host: str
    auth_required: bool = False
    tls_required: bool = False


class _Storage(Struct, frozen=True):
    max_storage: int = 0
    store_dir: str = ""
    sync_always: bool = False


class _Peers(Struct, frozen=True):
    cluster_size: int = 1


class _JetStream(Struct, frozen=True):
    config: _Storage | None = None
    meta: _Peers | None = None


class _Routes(Struct, frozen=True):
    addr: str = ""
    urls: tuple[str, ...] = ()
    tls_required: bool = False


class Varz(Struct, frozen=True):
    """What a server tells the system account; only what is asked for here."""

    server_id: str
    server_name: str
    host: str
    auth_required: bool = False
    tls_required: bool = False
    jetstream: _JetStream = _JetStream()
    cluster: _Routes = _Routes()

    @property
    def servers(self) -> int:
        """How many servers there should be, as far as this one knows."""
        return max(self.jetstream.meta.cluster_size if self.jetstream.meta else 1, len(self.cluster.urls))


Told = TypeVar("Told")


class _Reply(Struct, Generic[Told], frozen=True):
    data: Told


_decode_info = msgspec.json.Decoder(_Info).decode
_decode_varz = msgspec.json.Decoder(_Reply[Varz]).decode


async def check(
    url: str,
    system_url: str = "",
    allowed: AbstractSet[str] = frozenset(),
    *,
    system: Identity | None = None,
) -> None:
    """Raise `BrokerUnsafe` for what is wrong with these servers and not allowed; say loudly what is allowed.

    `system_url` has the credentials of their system account, or `system` has its certificate. Raises
    `BrokerUnreachable` when no server answers.
    """
    infos = await _infos(url, system)
    problems = [problem for each in infos for problem in exposed(without_secrets(each), infos[each])]
    if system_url:
        asked = {info.server_id for info in infos.values()}
        for varz in await _look(system_url, asked, system):
            problems += [] if varz.server_id in asked else exposed(varz.server_name, varz)
            problems += unsound(varz)
    else:
        what = f"how {without_secrets(url)} syncs and what it may store is told to its system account only"
        problems.append(Problem("unverified", f"{what}: set TALLY_NATS_SYSTEM_URL"))
    refused = [problem for problem in problems if problem.exception not in allowed]
    if refused:
        lines = (f"{detail}, or allow it with --unsafe-{exception}" for exception, detail in refused)
        raise BrokerUnsafe("\n".join(lines))
    for exception, detail in problems:
        log.warning("UNSAFE, allowed by --unsafe-%s: %s", exception, detail)


def exposed(name: str, server: _Info | Varz) -> list[Problem]:
    """What is wrong with where a server listens."""
    if _loopback(server.host):
        return []
    missing = [what for what, there in (("TLS", server.tls_required), ("users", server.auth_required)) if not there]
    if not missing:
        return []
    return [Problem("no-tls", f"{name} listens beyond loopback without {' and '.join(missing)}: configure that")]


def unsound(server: Varz) -> list[Problem]:
    """What is wrong with how a server is configured."""
    name = server.server_name
    problems: list[Problem] = []
    if server.cluster.addr and not _loopback(server.cluster.addr) and not server.cluster.tls_required:
        problems.append(Problem("no-tls", f"{name} has routes beyond loopback without TLS: configure it"))
    storage = server.jetstream.config
    if storage is None:
        return problems  # It keeps no stream.
    if not storage.sync_always:
        detail = f"{name} acknowledges writes before they are on disk: set `sync_interval: always`"
        problems.append(Problem("lazy-sync", detail))
    disk = _disk(server.host, storage.store_dir)
    if storage.max_storage <= 0:
        problems.append(Problem("no-file-limit", f"{name} has no limit for what it stores: set `max_file_store`"))
    elif disk is not None and storage.max_storage >= disk:
        detail = f"{name} may store {storage.max_storage:,} bytes on a disk of {disk:,}: lower `max_file_store`"
        problems.append(Problem("no-file-limit", detail))
    return problems


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _disk(host: str, store: str) -> int | None:
    """The size of a server's disk, where that is one of this machine."""
    try:
        return shutil.disk_usage(store).total if _loopback(host) and Path(store).is_dir() else None
    except OSError:
        return None


async def _infos(url: str, known: Identity | None) -> dict[str, _Info]:
    """What each server that answers says of itself; those that do not are others' to miss."""
    found: dict[str, _Info] = {}
    deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT_S
    while not found:
        for server in servers_of(url):
            try:
                found[server] = await _info(server, known)
            except (OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
                log.info("%s did not say how it is configured: %s", without_secrets(server), error)
        if not found:
            if asyncio.get_running_loop().time() > deadline:
                raise BrokerUnreachable(f"no NATS server at {without_secrets(url)}")
            await asyncio.sleep(0.1)
    return found


async def _info(server: str, known: Identity | None) -> _Info:
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port or 4222
    async with asyncio.timeout(INFO_WITHIN_S):
        if known is not None:
            return await _ours(host, port, known)
        reader, writer = await asyncio.open_connection(host, port)
        try:
            info = await _read(reader)
            if _loopback(info.host):
                return info
            # It says that it wants users although strangers get into its default account: see for ourselves.
            return msgspec.structs.replace(info, auth_required=not await _admits_anybody(reader, writer, info, server))
        finally:
            await _hang_up(writer)


async def _read(reader: asyncio.StreamReader) -> _Info:
    verb, _, told = (await reader.readline()).partition(b" ")
    if verb != b"INFO":
        raise ValueError("it does not speak NATS")
    return _decode_info(told)


async def _ours(host: str, port: int, known: Identity) -> _Info:
    """What one of our authority says, after the handshake; it says nothing to who shows no certificate."""
    reader, writer = await asyncio.open_connection(host, port, ssl=known.inside, server_hostname=host_of(BROKER))
    try:
        info = await _read(reader)
    finally:
        await _hang_up(writer)
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=known.nobody, server_hostname=host_of(BROKER))
    except OSError:
        return info
    try:
        return msgspec.structs.replace(info, auth_required=not await reader.read(1))
    except OSError:
        return info
    finally:
        await _hang_up(writer)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """At once: to close over TLS waits for the other side's goodbye, long after we are gone."""
    writer.transport.abort()
    with suppress(OSError):  # That is what the transport says of its end.
        await writer.wait_closed()


async def _admits_anybody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, info: _Info, server: str) -> bool:
    try:
        if info.tls_required:
            await writer.start_tls(ssl.create_default_context(), server_hostname=urlsplit(server).hostname)
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        return (await reader.readline()).startswith(b"PONG")
    except OSError:  # A TLS error, too: it does not get as far as being asked who it is.
        return False


async def _look(system_url: str, ids: AbstractSet[str], system: Identity | None) -> list[Varz]:
    """What all servers tell their system account. Those that are away, or have only just started, are waited for a
    moment, and then missed, loudly: a cluster must be usable without one of them."""
    client = await connect(system_url, "start-up check", identity=system)
    deadline = asyncio.get_running_loop().time() + ALL_WITHIN_S
    try:
        found = await _ask(client)
        while _away(found) > 0 and asyncio.get_running_loop().time() < deadline:
            found = await _ask(client)
    finally:
        await close(client)
    if not ids & {varz.server_id for varz in found}:
        raise BrokerUnsafe("TALLY_NATS_SYSTEM_URL is not the system account of the servers in TALLY_NATS_URL")
    if away := _away(found):
        log.warning("%d of %d servers are away: how they are configured is not known", away, len(found) + away)
    return found


def _away(found: list[Varz]) -> int:
    return max(0, max((varz.servers for varz in found), default=0) - len(found))


async def _ask(client: Client) -> list[Varz]:
    found: list[Varz] = []
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish("$SYS.REQ.SERVER.PING.VARZ", b"", reply=inbox)
    try:
        while not found or _away(found):
            told = (await replies.next_msg(timeout=ANSWERS_WITHIN_S)).data
            if not told:
                break  # "No responders": this is no system account.
            found.append(_decode_varz(told).data)
    except nats.errors.TimeoutError:
        return found  # Some are away.
    return found
