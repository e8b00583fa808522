"""The committed register of messages, and what `just check` and `just schemas` make of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.contracts.schemas import REGISTER, main

UNITS = '   "units": {"is":"int"},\n'


def test_the_register_holds_todays_types() -> None:
    assert main(REGISTER, write=False) == 0


def test_every_version_stands_in_it() -> None:
    orders = msgspec.json.decode(REGISTER.read_bytes())["orders"]
    assert "units" not in orders["OrderPlaced"]["fields"]
    assert orders["OrderPlaced.2"]["fields"]["units"] == {"is": "int"}


@pytest.mark.parametrize("write", [False, True])
def test_a_type_that_cannot_read_what_was_written_is_told_and_nothing_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: bool
) -> None:
    """What the register says more than today's types do was taken from them."""
    register = tmp_path / "schemas.json"
    before = REGISTER.read_text().replace(UNITS, UNITS + '   "gift": {"is":"bool"},\n')
    register.write_text(before)
    assert main(register, write=write) == 1
    told = capsys.readouterr().err
    assert told == "schemas: orders: OrderPlaced.2: gift is gone: give it a new version\n"
    assert register.read_text() == before


def test_what_is_new_is_missed_and_then_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register = tmp_path / "schemas.json"
    known = msgspec.json.decode(REGISTER.read_bytes())
    del known["orders"]["OrderPlaced.2"], known["payments"]
    register.write_bytes(msgspec.json.encode(known))
    assert main(register, write=False) == 1
    assert "run `just schemas`" in capsys.readouterr().err
    assert main(register, write=True) == 0
    assert register.read_text() == REGISTER.read_text()


def test_the_first_register_is_made(tmp_path: Path) -> None:
    assert main(tmp_path / "schemas.json", write=True) == 0
    assert (tmp_path / "schemas.json").read_text() == REGISTER.read_text()
