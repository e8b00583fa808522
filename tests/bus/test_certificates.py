"""Certificates: made once, kept while they are good, renewed when they end soon; and what is told of a bad one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bus.servers.certificates import CA_DAYS, DAYS, make
from bus.servers.tls import RENEW_DAYS, CertificateUnusable, Party, host_of, identity

PARTIES = [Party("broker", serves=True), Party("orders"), Party("payments")]


def how(folder: Path, **options: object) -> dict[str, str]:
    return {made.name: made.how for made in make(folder, PARTIES, **options)}  # type: ignore[arg-type]  # As given.


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_in(certificate: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {f"{'DNS' if isinstance(name, x509.DNSName) else 'IP Address'}:{name.value}" for name in names}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "tls", PARTIES)
    return tmp_path / "tls"


def test_keys_are_for_their_owner_only(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {
        f"{name}.key": 0o600 for name in ("ca", "broker", "orders", "payments")
    }


def test_what_is_good_is_kept(folder: Path) -> None:
    before = files(folder)
    assert set(how(folder).values()) == {"kept"}
    assert files(folder) == before


def test_what_ends_soon_is_renewed_by_the_same_authority(folder: Path) -> None:
    ca = (folder / "ca.pem").read_bytes()
    soon = datetime.now(UTC) + timedelta(days=DAYS - RENEW_DAYS + 1)
    assert how(folder, now=soon) == {"ca": "kept", "broker": "renewed", "orders": "renewed", "payments": "renewed"}
    assert (folder / "ca.pem").read_bytes() == ca


def test_one_that_is_missing_is_made_and_the_others_are_left(folder: Path) -> None:
    (folder / "orders.key").unlink()
    assert how(folder) == {"ca": "kept", "broker": "kept", "orders": "made", "payments": "kept"}
    identity(folder, "orders")


def test_another_host_is_for_servers_only(folder: Path) -> None:
    assert how(folder, hosts=["shop.example", "192.0.2.1"]) == {
        "ca": "kept",
        "broker": "renewed",
        "orders": "kept",
        "payments": "kept",
    }
    names = names_in(folder / "broker.pem")
    assert {"DNS:shop.example", "IP Address:192.0.2.1", "DNS:localhost", "IP Address:127.0.0.1"} <= names
    assert names_in(folder / "orders.pem") == {f"DNS:{host_of('orders')}"}


def test_a_renewed_server_keeps_its_hosts(folder: Path) -> None:
    how(folder, hosts=["shop.example"])
    assert how(folder, now=datetime.now(UTC) + timedelta(days=DAYS - RENEW_DAYS + 1))["broker"] == "renewed"
    assert "DNS:shop.example" in names_in(folder / "broker.pem")


def test_an_authority_is_replaced_only_when_that_is_asked_for(folder: Path) -> None:
    ca = (folder / "ca.pem").read_bytes()
    (folder / "ca.key").unlink()
    with pytest.raises(CertificateUnusable, match=r"not ca\.key"):
        make(folder, PARTIES)
    assert (folder / "ca.pem").read_bytes() == ca
    assert how(folder, new_ca=True)["orders"] == "renewed"
    assert (folder / "ca.pem").read_bytes() != ca
    identity(folder, "orders")


def test_an_authority_that_ends_is_told(folder: Path) -> None:
    with pytest.raises(CertificateUnusable, match="--new-ca"):
        make(folder, PARTIES, now=datetime.now(UTC) + timedelta(days=CA_DAYS - 1))


def test_what_is_missing_is_told(folder: Path) -> None:
    (folder / "orders.pem").unlink()
    with pytest.raises(CertificateUnusable, match=r"orders\.pem is missing: make it with `tally certs"):
        identity(folder, "orders")


def test_a_key_that_others_may_read_is_refused(folder: Path) -> None:
    (folder / "orders.key").chmod(0o640)
    with pytest.raises(CertificateUnusable, match="chmod 600"):
        identity(folder, "orders")


def test_one_that_has_ended_is_told(tmp_path: Path) -> None:
    make(tmp_path, PARTIES, now=datetime.now(UTC) - timedelta(days=DAYS + 1))
    with pytest.raises(CertificateUnusable, match="certificate has expired"):
        identity(tmp_path, "orders")


def test_one_of_another_authority_is_told(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "others", PARTIES)
    for suffix in ("pem", "key"):
        (tmp_path / "others" / f"orders.{suffix}").replace(folder / f"orders.{suffix}")
    with pytest.raises(CertificateUnusable, match=r"is refused by .*ca\.pem"):
        identity(folder, "orders")


def test_anothers_key_is_told(folder: Path) -> None:
    (folder / "payments.key").replace(folder / "orders.key")
    with pytest.raises(CertificateUnusable, match="KEY_VALUES_MISMATCH"):
        identity(folder, "orders")


def test_anothers_certificate_under_ones_own_name_is_told(folder: Path) -> None:
    for suffix in ("pem", "key"):
        (folder / f"payments.{suffix}").replace(folder / f"orders.{suffix}")
    with pytest.raises(CertificateUnusable, match=f"is not of {host_of('orders')}, but of {host_of('payments')}"):
        identity(folder, "orders")
