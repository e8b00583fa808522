"""Settings: what the environment says, told apart from what makes no sense; secrets and the data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import MARKER, Rate, Settings, SettingsError, claim, from_environment, home, jwt_secret, secret


def test_without_an_environment_the_defaults_hold() -> None:
    assert from_environment({}) == Settings(data_dir=Path("var").resolve())


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    assert from_environment(
        {
            "TALLY_HTTP_HOST": "0.0.0.0",
            "TALLY_HTTP_PORT": "0",
            "TALLY_DATA_DIR": str(tmp_path),
            "TALLY_NATS_URL": "nats://n:4222",
            "TALLY_REPLICAS": "3",
            "TALLY_LOG_LEVEL": "debug",
            "TALLY_GATEWAYS": "2",
            "TALLY_JWT_SECRET": "s",
            "TALLY_PROVIDER_URL": "http://p",
            "TALLY_CARRIER_URL": "http://c",
            "TALLY_NATS_SYSTEM_URL": "nats://system@n:4222",
            "TALLY_UNSAFE": "lazy-sync, no-tls",
            "TALLY_PARTITIONS": "orders=4, payments=2",
            "TALLY_WORKERS": "2",
            "TALLY_MESH_FILE": str(tmp_path / "mesh.toml"),
            "TALLY_SMTP_URL": "smtps://shop:s%40x@mail.example:465",
            "TALLY_MAIL_FROM": "orders@shop.example",
            "TALLY_WEBHOOK_SECRET": "w",
            "TALLY_ALERTS_TO": "a@shop.example, b@shop.example",
            "TALLY_RATE_LIMITS": "customer=600/60, staff=6000/60",
            "TALLY_ROUTE_LIMITS": "GET /v1/orders/{order_id}=20, *=500",
            "TALLY_GRPC_PORT": "50051",
            "TALLY_RATE_LIMITS_SHARED": "1",
        }
    ) == Settings(
        "0.0.0.0",
        0,
        tmp_path,
        "nats://n:4222",
        3,
        "DEBUG",
        2,
        "s",
        "http://p",
        "http://c",
        "nats://system@n:4222",
        frozenset(("lazy-sync", "no-tls")),
        {"orders": 4, "payments": 2},
        2,
        tmp_path / "mesh.toml",
        "smtps://shop:s%40x@mail.example:465",
        "orders@shop.example",
        ("a@shop.example", "b@shop.example"),
        "w",
        {"customer": Rate(600, 60), "staff": Rate(6_000, 60)},
        {"GET /v1/orders/{order_id}": 20, "*": 500},
        50_051,
        rates_shared=True,
    )


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwt"
    file.write_text("from the file\n")
    environment = {"TALLY_JWT_SECRET_FILE": str(file), "TALLY_JWT_SECRET": "from the environment"}
    assert from_environment(environment).jwt_secret == "from the file"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TALLY_JWT_SECRET_FILE"):
        from_environment({"TALLY_JWT_SECRET_FILE": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TALLY_HTTP_PORT", "65536"),
        ("TALLY_HTTP_PORT", "-1"),
        ("TALLY_HTTP_PORT", "http"),
        ("TALLY_HTTP_PORT", ""),
        ("TALLY_HTTP_PORT", "8000.5"),
        ("TALLY_HTTP_PORT", "²"),
        ("TALLY_REPLICAS", "0"),
        ("TALLY_REPLICAS", "6"),
        ("TALLY_GATEWAYS", "0"),
        ("TALLY_LOG_LEVEL", "loud"),
        ("TALLY_UNSAFE", "everything"),
        ("TALLY_PARTITIONS", "orders"),
        ("TALLY_PARTITIONS", "orders=0"),
        ("TALLY_PARTITIONS", "orders=65"),
        ("TALLY_PARTITIONS", "=4"),
        ("TALLY_WORKERS", "0"),
        ("TALLY_MAIL_FROM", "shop"),
        ("TALLY_ALERTS_TO", "root"),
        ("TALLY_MAIL_FROM", "Shop <shop@shop.example>"),
        ("TALLY_RATE_LIMITS", "600/60"),
        ("TALLY_RATE_LIMITS", "guest=600/60"),
        ("TALLY_RATE_LIMITS", "staff=0/60"),
        ("TALLY_RATE_LIMITS", "staff=60"),
        ("TALLY_ROUTE_LIMITS", "5"),
        ("TALLY_ROUTE_LIMITS", "orders=5"),
        ("TALLY_ROUTE_LIMITS", "*=0"),
        ("TALLY_ROUTE_LIMITS", "*=many"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as told:
        from_environment({name: value})
    assert repr(value) in str(told.value) or repr(value.upper()) in str(told.value)


@pytest.mark.parametrize(
    "value", ["mail.example", "http://mail.example", "smtp://", "smtp://s:geheim@m:x", "smtp://[a"]
)
def test_a_mail_server_that_makes_no_sense_is_told_without_its_password(value: str) -> None:
    with pytest.raises(SettingsError, match="TALLY_SMTP_URL") as told:
        from_environment({"TALLY_SMTP_URL": value})
    assert "geheim" not in str(told.value)


def test_a_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    made = secret(folder, "key")
    assert len(made) >= 48
    assert secret(folder, "key") == made
    assert secret(folder, "other") != made
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


def test_the_environments_jwt_secret_comes_before_the_folders(tmp_path: Path) -> None:
    assert jwt_secret(Settings(data_dir=tmp_path / "data", jwt_secret="given")) == "given"
    assert not (tmp_path / "data").exists()
    assert jwt_secret(Settings(data_dir=tmp_path / "data")) == (tmp_path / "data" / "jwt-secret").read_text().strip()


def test_a_new_or_empty_folder_becomes_ours(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/down"):
        claim(tmp_path / name)
        claim(tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == [MARKER]


def test_a_folder_that_holds_something_else_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for attempt in (lambda: claim(tmp_path), lambda: secret(tmp_path, "key")):
        with pytest.raises(SettingsError, match="something else"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(SettingsError, match="not a folder"):
        claim(tmp_path / "data")


def test_a_data_folder_has_a_name_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    here, there = (Settings(data_dir=tmp_path / name) for name in ("here", "there"))
    assert home(here) == home(here) != home(there)
    assert {path.name for path in here.data_dir.iterdir()} == {MARKER, "home"}
