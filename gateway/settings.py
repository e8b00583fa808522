"""Settings: what the environment says, read once at start. `X_FILE` names a file that holds the value of `X`."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from bus.servers.exceptions import EXCEPTIONS

MARKER = "tallystream.json"
"""Lies in every data folder of ours, so that nobody else's is ever written into."""
PARTITIONS_MAX = 64
ALERTS_TO_MAX = 50
ROLES = ("customer", "staff", "admin")
RATE_PATTERN = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,4})")
ROUTE_PATTERN = re.compile(r"(?:GET|POST|PUT|DELETE) /\S*")
ANY_ROUTE = "*"
"""Each route that is not named."""
AT_ONCE_MAX = 1_000_000


class SettingsError(Exception):
    """The environment asks for something that cannot be."""


class Rate(Struct, frozen=True):
    """So many requests in so many seconds, all of them at once if one likes."""

    requests: int
    window_s: int

    def __str__(self) -> str:
        return f"{self.requests}/{self.window_s}"


class Settings(Struct, frozen=True):
    """`nats_url` empty: the embedded server; several servers are comma-separated. Times in seconds, sizes in bytes
    where the name says so."""

    http_host: str = "127.0.0.1"
    http_port: int = 8000
    data_dir: Path = Path("var")
    nats_url: str = ""
    replicas: int = 1
    log_level: str = "INFO"
    gateways: int = 1
    jwt_secret: str = ""
    provider_url: str = ""
    carrier_url: str = ""
    nats_system_url: str = ""
    unsafe: frozenset[str] = frozenset()
    """What the start-up check of the broker lets pass, see `bus/servers/exceptions.py`."""
    partitions: dict[str, int] = {}
    """Of the logs that are yet to be made, by domain; 1 where it is not named."""
    workers: int = 1
    """How many processes `tally up` runs for commands: the first owns partitions, and so does each other, evenly."""
    mesh_file: Path | None = None
    """How calls to other services and to the outside are made, see `bus/calls/mesh.py`."""
    smtp_url: str = ""
    mail_from: str = "shop@tallystream.example"
    alerts_to: tuple[str, ...] = ()
    """Whom to mail what somebody should look after, such as stock that runs low."""
    webhook_secret: str = ""
    rates: dict[str, Rate] = {}
    """How much one client may ask, by its role; a role that is not named may ask anything."""
    at_once: dict[str, int] = {}
    """How many requests one gateway process handles at once, by route; `*`: of each other route."""
    grpc_port: int = 0
    """Where the stock is served over gRPC; 0: nowhere."""
    tls_dir: Path | None = None
    """The certificates; without them everything is plain, on loopback. See `bus/servers/tls.py`."""
    rates_shared: bool = False
    """Whether all gateways count a client's requests together, else each process for itself."""

    @property
    def read_models(self) -> Path:
        return self.data_dir / "read"

    @property
    def witness(self) -> Path:
        """Where the command worker remembers what was acknowledged, see `bus/logs/witness.py`."""
        return self.data_dir / "witness"

    @property
    def own_tls_dir(self) -> Path:
        """Where certificates are looked for, and made, where nothing else is said."""
        return self.tls_dir or self.data_dir / "tls"

    @property
    def mailbox(self) -> Path:
        """What the simulated mail server was given."""
        return self.data_dir / "mail.db"

    @property
    def metrics_dir(self) -> Path:
        return self.data_dir / "metrics"

    @property
    def run_file(self) -> Path:
        """Where a running system says how to reach it."""
        return self.data_dir / "run.json"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises `SettingsError` with the variable's name for what makes no sense."""

    def text(name: str, default: str) -> str:
        if path := environment.get(f"{name}_FILE"):
            try:
                return Path(path).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{name}_FILE: {error}") from error
        return environment.get(name, default)

    def number(name: str, default: int, low: int, high: int) -> int:
        value = text(name, str(default))
        if not value.isdecimal() or not low <= int(value) <= high:
            raise SettingsError(f"{name} is {value!r}, wanted a number from {low} to {high}")
        return int(value)

    level = text("TALLY_LOG_LEVEL", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise SettingsError(f"TALLY_LOG_LEVEL is {level!r}, wanted DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return Settings(
        http_host=text("TALLY_HTTP_HOST", "127.0.0.1"),
        http_port=number("TALLY_HTTP_PORT", 8000, 0, 65_535),
        data_dir=Path(text("TALLY_DATA_DIR", "var")).resolve(),
        nats_url=text("TALLY_NATS_URL", ""),
        replicas=number("TALLY_REPLICAS", 1, 1, 5),
        log_level=level,
        gateways=number("TALLY_GATEWAYS", 1, 1, 64),
        jwt_secret=text("TALLY_JWT_SECRET", ""),
        provider_url=text("TALLY_PROVIDER_URL", ""),
        carrier_url=text("TALLY_CARRIER_URL", ""),
        nats_system_url=text("TALLY_NATS_SYSTEM_URL", ""),
        unsafe=_unsafe(text("TALLY_UNSAFE", "")),
        partitions=_partitions(text("TALLY_PARTITIONS", "")),
        workers=number("TALLY_WORKERS", 1, 1, 64),
        mesh_file=Path(mesh).resolve() if (mesh := text("TALLY_MESH_FILE", "")) else None,
        smtp_url=_smtp_url(text("TALLY_SMTP_URL", "")),
        mail_from=_address("TALLY_MAIL_FROM", text("TALLY_MAIL_FROM", "shop@tallystream.example")),
        webhook_secret=text("TALLY_WEBHOOK_SECRET", ""),
        alerts_to=_alerts_to(text("TALLY_ALERTS_TO", "")),
        rates=_rates(text("TALLY_RATE_LIMITS", "")),
        rates_shared=number("TALLY_RATE_LIMITS_SHARED", 0, 0, 1) == 1,
        at_once=_at_once(text("TALLY_ROUTE_LIMITS", "")),
        grpc_port=number("TALLY_GRPC_PORT", 0, 0, 65_535),
        tls_dir=Path(tls).resolve() if (tls := text("TALLY_TLS_DIR", "")) else None,
    )


def _smtp_url(url: str) -> str:
    """The URL holds a password, perhaps: it is not told."""
    try:
        parts = urlsplit(url)
        makes_sense = not url or (parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0)
    except ValueError:
        makes_sense = False
    if not makes_sense:
        raise SettingsError("TALLY_SMTP_URL makes no sense, wanted smtp:// or smtps://[user:password@]host[:port]")
    return url


def _alerts_to(addresses: str) -> tuple[str, ...]:
    found = tuple(_address("TALLY_ALERTS_TO", each.strip()) for each in addresses.split(",") if each.strip())
    if len(found) > ALERTS_TO_MAX:
        raise SettingsError(f"TALLY_ALERTS_TO has {len(found)} addresses, wanted at most {ALERTS_TO_MAX}")
    return found


def _address(name: str, address: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,189}", address):
        raise SettingsError(f"{name} has {address!r}, wanted an address such as shop@example.com")
    return address


def _unsafe(names: str) -> frozenset[str]:
    found = frozenset(name.strip() for name in names.split(",") if name.strip())
    if unknown := found - EXCEPTIONS.keys():
        wanted = ", ".join(EXCEPTIONS)
        raise SettingsError(f"TALLY_UNSAFE has {sorted(unknown)[0]!r}, wanted some of {wanted}, comma-separated")
    return found


def _partitions(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in text.split(","):
        name, equals, number = (each.strip() for each in part.partition("="))
        if not (name or equals):
            continue
        if not name or not number.isdecimal() or not 1 <= int(number) <= PARTITIONS_MAX:
            wanted = f"wanted domains with a number from 1 to {PARTITIONS_MAX}, such as orders=4,payments=2"
            raise SettingsError(f"TALLY_PARTITIONS has {part.strip()!r}, {wanted}")
        found[name] = int(number)
    return found


def _rates(text: str) -> dict[str, Rate]:
    found: dict[str, Rate] = {}
    for part, name, value in _pairs(text):
        match = RATE_PATTERN.fullmatch(value)
        if name not in ROLES or match is None:
            wanted = "wanted roles with requests/seconds, such as customer=600/60,staff=6000/60"
            raise SettingsError(f"TALLY_RATE_LIMITS has {part!r}, {wanted}")
        found[name] = Rate(int(match[1]), int(match[2]))
    return found


def _at_once(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part, name, value in _pairs(text):
        is_route = name == ANY_ROUTE or ROUTE_PATTERN.fullmatch(name)
        if not is_route or not value.isdecimal() or not 1 <= int(value) <= AT_ONCE_MAX:
            wanted = f"wanted routes with a number from 1 to {AT_ONCE_MAX}, such as GET /v1/reports/sales=4,*=500"
            raise SettingsError(f"TALLY_ROUTE_LIMITS has {part!r}, {wanted}")
        found[name] = int(value)
    return found


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    """Each `name=value` of a comma-separated list: as it stands there, its name, its value."""
    for part in text.split(","):
        if part.strip():
            name, _, value = part.rpartition("=")
            yield part.strip(), name.strip(), value.strip()


def claim(folder: Path) -> None:
    """See that a data folder is ours, or make it so when it is new or empty. Raises `SettingsError` otherwise."""
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder: set TALLY_DATA_DIR to one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / MARKER).exists():
            return
        if any(folder.iterdir()) and not (folder / MARKER).exists():  # Whoever else claims it writes that first.
            detail = "holds something else than Tallystream's data: set TALLY_DATA_DIR to another folder"
            raise SettingsError(f"{folder} {detail}")
        (folder / MARKER).write_bytes(b'{"format":1}\n')
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written to: {error.strerror}") from error


def secret(folder: Path, name: str) -> str:
    """A secret of this data folder, made at its first use and readable by its owner only."""
    return _kept(folder, name, secrets.token_urlsafe(48))


def home(settings: Settings) -> str:
    """The name of this data folder among all that share a broker: the read models in it are told apart by that."""
    return _kept(settings.data_dir, "home", secrets.token_hex(8))


def _kept(folder: Path, name: str, made: str) -> str:
    """What a file of this data folder holds, or, at its first use, what was made for it."""
    path = folder / name
    if not path.exists():
        claim(folder)
        fresh = folder / f"{name}.{os.getpid()}"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(made + "\n")
        with suppress(FileExistsError):  # Another process was first.
            os.link(fresh, path)
        fresh.unlink()
    return path.read_text().strip()


def jwt_secret(settings: Settings) -> str:
    return settings.jwt_secret or secret(settings.data_dir, "jwt-secret")


def webhook_secret(settings: Settings) -> str:
    """With what the payment provider signs what it tells by itself."""
    return settings.webhook_secret or secret(settings.data_dir, "webhook-secret")
