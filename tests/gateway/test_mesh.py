"""`tally mesh`, the shipped example, and that a policy file that cannot be used ends a start in one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bus.calls.mesh import MeshInvalid, read_mesh
from bus.calls.policy import CallPolicy, FaultPolicy
from gateway.cli.endings import EXIT_USAGE
from gateway.cli.main import tally as group
from gateway.compose import DESTINATIONS
from tests.system import REPOSITORY, environment_of, tally

EXAMPLE = REPOSITORY / "gateway" / "mesh.example.toml"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "mesh.toml"
    file.write_text("[destinations.provider]\ntimeout_s = 'long'\n")
    return file


def run(folder: Path, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(group, ["mesh", *arguments], env=environment_of(folder, **environment))


def test_the_example_is_what_it_says() -> None:
    policy = read_mesh(EXAMPLE, DESTINATIONS)["provider"]
    assert (policy.timeout_s, policy.retries, policy.try_timeout_s) == (5.0, 3, 2.0)
    assert policy.faults == FaultPolicy(delay_share=0.1, delay_s=1.0)


def test_a_file_is_checked_by_its_name_or_by_the_setting(tmp_path: Path) -> None:
    for ended in (run(tmp_path, "check", str(EXAMPLE)), run(tmp_path, "check", TALLY_MESH_FILE=str(EXAMPLE))):
        assert (ended.exit_code, ended.output) == (0, f"{EXAMPLE} can be used; it changes provider\n")
    assert "the defaults hold" in run(tmp_path, "check").output


def test_one_that_cannot_be_used_is_told_why(tmp_path: Path, broken: Path) -> None:
    for verb in (["check", str(broken)], ["show"]):
        ended = run(tmp_path, *verb, TALLY_MESH_FILE=str(broken))
        assert isinstance(ended.exception, MeshInvalid)
        assert "destinations.provider: Expected `float`, got `str` - at `$.timeout_s`" in str(ended.exception)


def test_every_setting_is_shown(tmp_path: Path) -> None:
    shown = run(tmp_path, "show", "--json", TALLY_MESH_FILE=str(EXAMPLE))
    policies = json.loads(shown.output)
    assert policies.keys() == DESTINATIONS.keys()
    assert policies["provider"]["breaker"]["slow_s"] == 2.0
    table = run(tmp_path, "show", TALLY_MESH_FILE=str(EXAMPLE)).output
    columns = table.splitlines()[0].split()[-len(DESTINATIONS) :]
    lines = {line.split()[0]: dict(zip(columns, line.split()[1:], strict=True)) for line in table.splitlines()[1:]}
    assert lines["faults.delay_share"] == {"provider": "0.1", "carrier": "0", "customers": "0"}
    assert lines["try_timeout_s"] == {"provider": "2", "carrier": "10", "customers": "1"}
    assert lines.keys() > set(CallPolicy.__struct_fields__) - {"breaker", "faults"}


@pytest.mark.parametrize("verb", ["work", "serve"])
def test_no_part_starts_on_policies_that_make_no_sense(tmp_path: Path, broken: Path, verb: str) -> None:
    ended = CliRunner().invoke(group, [verb], env=environment_of(tmp_path / "data", TALLY_MESH_FILE=str(broken)))
    assert isinstance(ended.exception, MeshInvalid)


def test_nothing_starts_on_policies_that_make_no_sense(tmp_path: Path, broken: Path) -> None:
    ended = tally(tmp_path / "data", "up", TALLY_MESH_FILE=str(broken))
    assert ended.returncode == EXIT_USAGE
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(f"tally: {broken}: destinations.provider: ")
