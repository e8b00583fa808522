"""`tally import` before anything is started: what is wrong with the folder is said at once."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from gateway.cli.importing import import_
from tests.importing.dataset import CUSTOMERS, Dataset


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(import_, [str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_a_folder_of_another_format(tmp_path: Path) -> None:
    (Dataset().write(tmp_path) / CUSTOMERS).unlink()
    result = CliRunner().invoke(import_, [str(tmp_path)])
    assert result.exit_code == 2
    assert f"there is no {CUSTOMERS}" in result.output
