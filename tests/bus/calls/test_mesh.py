"""The policy file: what it says goes over the defaults, what makes no sense is told apart, changes are followed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from bus.calls.mesh import Mesh, MeshInvalid, read_mesh
from bus.calls.policy import BreakerPolicy, CallPolicy, FaultPolicy
from tests.bus.calls.staged import Destination, StagedTime
from tests.bus.waiting import until

PAYMENTS = CallPolicy(timeout_s=10, try_timeout_s=9, concurrency=7, breaker=BreakerPolicy(open_s=12))
DEFAULTS = {"payments": PAYMENTS, "carrier": CallPolicy()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mesh.toml"


def test_without_a_file_the_defaults_hold() -> None:
    assert read_mesh(None, DEFAULTS) == DEFAULTS


def test_what_is_not_said_stays_as_it_is(file: Path) -> None:
    file.write_text("[destinations.payments]\nretries = 1\nbreaker = { slow_s = 4.0, window_s = 20 }\n")
    read = read_mesh(file, DEFAULTS)
    assert read["carrier"] == DEFAULTS["carrier"]
    breaker = BreakerPolicy(open_s=12, slow_s=4, window_s=20)
    assert read["payments"] == replace(PAYMENTS, retries=1, breaker=breaker)


def test_faults_can_be_put_in(file: Path) -> None:
    file.write_text("[destinations.carrier.faults]\ndelay_share = 0.1\ndelay_s = 1.0\nabort_share = 1\n")
    assert read_mesh(file, DEFAULTS)["carrier"].faults == FaultPolicy(0.1, 1.0, 1.0)


def test_calls_can_be_split_between_versions(file: Path) -> None:
    file.write_text('[destinations.carrier.split]\n"1.4.0" = 90\n"2.0.0-rc1" = 10\n')
    assert read_mesh(file, DEFAULTS)["carrier"].split == {"1.4.0": 90, "2.0.0-rc1": 10}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[destinations.payments.split]\n'1' = 0", "no version a weight"),
        ("[destinations.payments.split]\n'1' = -1", r"\$.split"),
        ("[destinations.payments]\nsplit = 3", r"\$.split"),
        ("[destinations", "no TOML"),
        ("\xff", "no TOML"),
        ("[default]\nretries = 1", "'default'"),
        ("destinations = 3", "destinations is no table"),
        ("[destinations]\npayments = 3", "destinations.payments is no table"),
        ("[destinations.payment]\nretries = 1", "'payment', wanted some of carrier, payments"),
        ("[destinations.payments]\nretires = 1", "retires"),
        ("[destinations.payments]\nretries = -1", r"\$.retries"),
        ("[destinations.payments]\nretries = 11", r"\$.retries"),
        ("[destinations.payments]\nretries = 'many'", r"\$.retries"),
        ("[destinations.payments]\ntimeout_s = 0", r"\$.timeout_s"),
        ("[destinations.payments]\ntimeout_s = inf", r"\$.timeout_s"),
        ("[destinations.payments]\ntimeout_s = nan", r"\$.timeout_s"),
        ("[destinations.payments]\ntimeout_s = 8", r"try_timeout_s \(9\) is more than timeout_s \(8\)"),
        ("[destinations.payments]\nbackoff_s = 3", "backoff_max_s"),
        ("[destinations.payments]\nconcurrency = 0", r"\$.concurrency"),
        ("[destinations.payments]\nretry_share = 1.1", r"\$.retry_share"),
        ("[destinations.payments.breaker]\nfailure_rate = 0", r"\$.breaker.failure_rate"),
        ("[destinations.payments.breaker]\nwindow_calls = 50\nwindow_s = 10", "not both"),
        ("[destinations.payments.breaker]\nwindow_calls = 5", "more than the window holds"),
        ("[destinations.payments.faults]\ndelay_share = 2", r"\$.faults.delay_share"),
        ("[destinations.payments.faults]\nabort_status = 404", r"\$.faults.abort_status"),
        ("#" * 300_000, "larger than"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_place(file: Path, text: str, named: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(MeshInvalid, match=named) as told:
        read_mesh(file, DEFAULTS)
    assert str(file) in str(told.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(MeshInvalid, match=r"mesh\.toml: No such file"):
        Mesh(file, DEFAULTS)


def write(file: Path, text: str) -> None:
    file.write_text(text)


def remove(file: Path) -> None:
    file.unlink()


def replace_by(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


async def test_a_change_is_followed_and_one_that_makes_no_sense_is_not(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, "[destinations.payments]\nretries = 1\n")
    mesh = Mesh(file, DEFAULTS)
    there = Destination(StagedTime())
    payments, carrier = mesh.path("payments", there), mesh.path("carrier", there)
    watching = asyncio.create_task(mesh.watch(every_s=0.001))
    assert payments.policy.retries == 1
    write(file, "[destinations.payments]\nretries = 2\n[destinations.carrier]\nretries = 0\n")
    await until(lambda: (payments.policy.retries, carrier.policy.retries) == (2, 0))
    with caplog.at_level(logging.ERROR, "bus.calls.mesh"):
        write(file, "[destinations.payments]\nretries = 99\n")
        await until(lambda: "stay as they were" in caplog.text)
        remove(file)
        await until(lambda: "No such file" in caplog.text)
    assert (payments.policy.retries, carrier.policy.retries) == (2, 0)
    replace_by(file, "[destinations.payments]\nretries = 5\n")
    await until(lambda: payments.policy.retries == 5)
    assert carrier.policy == DEFAULTS["carrier"]
    watching.cancel()


async def test_there_is_one_path_to_a_destination_whoever_asks() -> None:
    mesh = Mesh(None, DEFAULTS)
    first, second = (mesh.path("payments", Destination(StagedTime())) for _ in range(2))
    assert first is second
    assert mesh.path("carrier", Destination(StagedTime())) is not first


async def test_without_a_file_there_is_nothing_to_watch() -> None:
    await Mesh(None, DEFAULTS).watch(every_s=0)
