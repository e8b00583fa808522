"""What is running on this data folder, and how to reach it."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bus.servers.tls import OPERATOR, Identity, identity
from gateway.settings import Settings, SettingsError


class CannotStart(Exception):
    """One line that says why, and what to do."""


class AlreadyRunning(CannotStart):
    """Somebody else's `tally up` has this folder."""


class WorkerFailed(Exception):
    """A part of a worker halted and cannot go on by itself."""


class Reached(NamedTuple):
    """A broker, and as whom it is spoken to."""

    nats_url: str
    operator: Identity | None = None


class Running(Struct, frozen=True):
    """Written by `tally up` into the data folder (0600: the broker's URL holds its password)."""

    pid: int
    nats_url: str
    http_url: str
    provider_url: str
    carrier_url: str
    nats_system_url: str = ""
    smtp_url: str = ""
    grpc_address: str = ""
    tls_dir: str = ""

    @property
    def operator(self) -> Identity | None:
        """As whom the command line speaks to a secured system. Raises `CertificateUnusable`."""
        return identity(Path(self.tls_dir), OPERATOR) if self.tls_dir else None

    @property
    def trust(self) -> ssl.SSLContext | bool:
        """With what an HTTP client of its servers verifies them."""
        return True if (operator := self.operator) is None else operator.inside


def running(settings: Settings) -> Running | None:
    """What the last `tally up` on this folder wrote down, if it has not cleaned up since."""
    try:
        return msgspec.json.decode(settings.run_file.read_bytes(), type=Running)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{settings.run_file} makes no sense: {error}") from error


def write_running(path: Path, what: Running) -> None:
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(what))
    fresh.replace(path)


def nats_url(settings: Settings) -> str:
    """The broker of this system. Raises `SettingsError` when none is named and none runs."""
    return nats_urls(settings)[0]


def tls_dir(settings: Settings) -> Path | None:
    """Where the certificates of this system are; None: it is not secured."""
    if settings.tls_dir is not None or settings.nats_url:
        return settings.tls_dir
    found = running(settings)
    return Path(found.tls_dir) if found is not None and found.tls_dir else None


def identity_of(settings: Settings, name: str) -> Identity | None:
    """Who a process of this system is, where it is secured. Raises `CertificateUnusable`, `SettingsError`."""
    folder = tls_dir(settings)
    return None if folder is None else identity(folder, name)


def nats_urls(settings: Settings) -> tuple[str, str]:
    """The same, and that of its system account."""
    if settings.nats_url:
        return settings.nats_url, settings.nats_system_url
    found = running(settings)
    if found is None:
        raise SettingsError(f"nothing runs on {settings.data_dir}: start it with `just up`, or set TALLY_NATS_URL")
    return found.nats_url, found.nats_system_url


def reachable(host: str) -> str:
    """A host to listen on as it is written in a URL, to be reached from here."""
    address = ip_address(host)
    if address.is_unspecified:
        return "[::1]" if address.version == 6 else "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)


def announced(host: str) -> str:
    """The same as it is told to other machines."""
    return socket.gethostname() if ip_address(host).is_unspecified else reachable(host)
