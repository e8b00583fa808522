"""Who a process is to others: a certificate, its key, and the private authority that everybody here trusts.

A folder holds `ca.pem` and, for each party, NAME.pem and NAME.key. A party is known by the name in its certificate,
`NAME.tally.internal`: the broker takes that for its user, and is itself looked for under such a name, wherever it runs.
They are made by `bus/servers/certificates.py`, which is not needed to use them. For gRPC there is `Identity.pems`.
"""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

DOMAIN = "tally.internal"
CA = "ca"
BROKER = "broker"
OPERATOR = "operator"
"""`tally up` and the verbs of the command line."""
SYSTEM = "system"
"""Whoever asks how the broker is configured."""
RENEW_DAYS = 30
"""A certificate that ends so soon is made anew by `tally certs`, and missed loudly by whoever uses it."""

log = logging.getLogger(__name__)


class CertificateUnusable(Exception):
    """What is wrong with a certificate or its key, and what to do."""


class Party(NamedTuple):
    """Whoever has a certificate. One that `serves` is also found under the hosts on which it listens."""

    name: str
    serves: bool = False


class Pems(NamedTuple):
    """What a TLS library wants that takes no files."""

    ca: bytes
    certificate: bytes
    key: bytes


def host_of(name: str) -> str:
    """Under which a party is known, in every certificate of its own."""
    return f"{name}.{DOMAIN}"


def ca_of(folder: Path) -> Path:
    """The certificate that everybody trusts."""
    return folder / f"{CA}.pem"


def inbox_of(name: str) -> str:
    """What the subjects of a user's inboxes begin with."""
    return f"_INBOX.{name}"


class Identity(Struct, frozen=True):
    """One party's. Get it by `identity`, which looks whether it can be used."""

    folder: Path
    name: str

    @property
    def ca(self) -> Path:
        return ca_of(self.folder)

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.name}.key"

    @property
    def pems(self) -> Pems:
        return Pems(self.ca.read_bytes(), self.certificate.read_bytes(), self.key.read_bytes())

    @property
    def inside(self) -> ssl.SSLContext:
        """For calls between us: it trusts our authority and nobody else, and shows who we are."""
        return _client(self, public=False)

    @property
    def outside(self) -> ssl.SSLContext:
        """For calls to services that may be others': it trusts public authorities, too."""
        return _client(self, public=True)

    @property
    def nobody(self) -> ssl.SSLContext:
        """As a stranger who knows our authority: it shows nothing."""
        return ssl.create_default_context(cafile=str(self.ca))


def identity(folder: Path, name: str) -> Identity:
    """A party's, checked: that there is all of it, for its owner only, good now, and of this authority.

    Raises `CertificateUnusable`.
    """
    found = Identity(folder, name)
    for path in (found.ca, found.certificate, found.key):
        if not path.is_file():
            raise CertificateUnusable(f"{path} is missing: make it with `tally certs --folder {folder}`")
    if found.key.stat().st_mode & 0o077:
        raise CertificateUnusable(f"{found.key} may be read by others: `chmod 600` it")
    ends = _ends(found)
    days = (ends - datetime.now(UTC)).days
    if days < RENEW_DAYS // 2:
        log.warning("%s ends in %d days: run `tally certs --folder %s`, then restart", found.certificate, days, folder)
    return found


@cache
def _client(of: Identity, *, public: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if public else str(of.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if public else ssl.TLSVersion.TLSv1_3
    if public:
        context.load_verify_locations(of.ca)
    context.load_cert_chain(of.certificate, of.key)
    return context


def _ends(of: Identity) -> datetime:
    """When a certificate ends. It is shown to ourselves, in memory, so it is judged as others will judge it."""
    try:
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        asking.verify_mode = ssl.CERT_REQUIRED
        asking.load_verify_locations(of.ca)
        asking.load_cert_chain(of.certificate, of.key)
        showing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        showing.check_hostname, showing.verify_mode = False, ssl.CERT_NONE
        showing.load_cert_chain(of.certificate, of.key)
        shown = _shake_hands(asking, showing)
    except ssl.SSLCertVerificationError as error:
        detail = f"{of.certificate} is refused by {of.ca}: {error.verify_message}"
        raise CertificateUnusable(f"{detail}; make it anew with `tally certs --folder {of.folder}`") from error
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise CertificateUnusable(f"{of.certificate} and its key, or {of.ca}, cannot be used: {reason}") from error
    if host_of(of.name) not in shown.names:
        raise CertificateUnusable(f"{of.certificate} is not of {host_of(of.name)}, but of {', '.join(shown.names)}")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown.ends), UTC)


class _Shown(Struct, frozen=True):
    """Of a peer's certificate: the names in it, and its end."""

    names: list[str]
    ends: str


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> _Shown:
    """What the server is shown of the client."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = server.wrap_bio(up, down, server_side=True)
    showing = client.wrap_bio(down, up)
    for _ in range(4):  # Two flights each are enough.
        for side in (showing, asking):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = asking.getpeercert() or {}
    names = [pair[1] for pair in shown.get("subjectAltName", ()) if pair[0] == "DNS"]
    return _Shown([str(name) for name in names], str(shown["notAfter"]))
