"""Makes certificates: a private authority in a folder, and one for each party, renewed when they near their end.

An authority that is there is used, and replaced only where that is asked for. Needs the extra `tls`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bus.servers.tls import CA, RENEW_DAYS, CertificateUnusable, Party, host_of

CA_DAYS = 3_650
DAYS = 90
SKEW = timedelta(minutes=5)
"""Others' clocks may be late."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Made(NamedTuple):
    name: str
    how: Literal["kept", "made", "renewed"]
    ends: datetime


class _Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make(
    folder: Path,
    parties: Sequence[Party],
    hosts: Collection[str] = (),
    *,
    new_ca: bool = False,
    now: datetime | None = None,
) -> list[Made]:
    """See that there is an authority and a good certificate for each party; `hosts`: names and addresses on which those
    that serve are reached, besides loopback.

    Raises `CertificateUnusable` where an authority is there that cannot be used, or the folder cannot be written.
    """
    now = now or datetime.now(UTC)
    try:
        with _held(folder):
            authority, how = _authority(folder, now, new_ca)
            made = [Made(CA, how, authority.certificate.not_valid_after_utc)]
            return made + [_certificate(folder, authority, party, hosts, now) for party in parties]
    except OSError as error:
        raise CertificateUnusable(f"{error.filename or folder}: {error.strerror}") from error


def _authority(folder: Path, now: datetime, new_ca: bool) -> tuple[_Authority, Literal["kept", "made"]]:
    there = [path for path in (folder / f"{CA}.pem", folder / f"{CA}.key") if path.exists()]
    if there and not new_ca:
        if len(there) == 1:
            missing = "ca.key" if there[0].suffix == ".pem" else "ca.pem"
            detail = f"{folder} has {there[0].name}, but not {missing}: certificates are made where both are"
            raise CertificateUnusable(f"{detail}, or all anew with --new-ca")
        return _kept_authority(folder, now), "kept"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tallystream"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Tallystream private CA {x509.random_serial_number():x}"[:40]),
        ]
    )
    certificate = (
        _begun(name, name, key.public_key(), now, now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder, CA, certificate, key)
    return _Authority(certificate, key), "made"


def _kept_authority(folder: Path, now: datetime) -> _Authority:
    certificate = x509.load_pem_x509_certificate((folder / f"{CA}.pem").read_bytes())
    try:
        key = load_pem_private_key((folder / f"{CA}.key").read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise CertificateUnusable(f"{folder / CA}.key is no private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateUnusable(f"{folder / CA}.key is not the key of {folder / CA}.pem")
    if certificate.not_valid_after_utc < now + timedelta(days=RENEW_DAYS):
        ends = f"ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateUnusable(f"{folder / CA}.pem {ends}: --new-ca makes another, which everybody must be given")
    return _Authority(certificate, key)


def _certificate(folder: Path, authority: _Authority, party: Party, hosts: Collection[str], now: datetime) -> Made:
    wanted = _names(party, hosts)
    path = folder / f"{party.name}.pem"
    how: Literal["made", "renewed"] = "made"
    if path.exists() and (folder / f"{party.name}.key").exists():
        found = x509.load_pem_x509_certificate(path.read_bytes())
        if _good(found, authority, wanted, now):
            return Made(party.name, "kept", found.not_valid_after_utc)
        how = "renewed"
        if party.serves:  # Under whatever hosts it was known; who is not told of one has not given it up.
            wanted = list(dict.fromkeys([*wanted, *_names_in(found)]))
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(now + timedelta(days=DAYS), authority.certificate.not_valid_after_utc)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tallystream"),
            x509.NameAttribute(NameOID.COMMON_NAME, party.name),
        ]
    )
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if party.serves else [])]
    of_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _begun(name, authority.certificate.subject, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
        .add_extension(of_authority, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    _write(folder, party.name, certificate, key)
    return Made(party.name, how, ends)


def _good(found: x509.Certificate, authority: _Authority, wanted: Sequence[x509.GeneralName], now: datetime) -> bool:
    """Whether a certificate is of this authority, lasts, and has the names that are wanted."""
    if found.issuer != authority.certificate.subject:
        return False
    return found.not_valid_after_utc >= now + timedelta(days=RENEW_DAYS) and set(wanted) <= set(_names_in(found))


def _names_in(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _names(party: Party, hosts: Collection[str]) -> list[x509.GeneralName]:
    """Only who serves may be taken for whoever listens on a host."""
    return [x509.DNSName(host_of(party.name)), *([_host(each) for each in (*LOOPBACK, *hosts)] if party.serves else [])]


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(ends)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    """What a key signs: certificates, or what is said in handshakes."""
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _replace(folder / f"{name}.key", pem, 0o600)
    _replace(folder / f"{name}.pem", certificate.public_bytes(Encoding.PEM), 0o644)


def _replace(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """By one at a time: a key must fit its certificate."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
