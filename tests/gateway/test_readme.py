"""The README says what is: its session works as it stands there, and it names every recipe and every setting.

And the worked example of CONTRIBUTING names files that are there.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from gateway import settings
from tests.system import PATIENCE_S, REPOSITORY, TALLY, running_system

README = (REPOSITORY / "README.md").read_text()
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
RECIPES = re.findall(r"^([a-z]+)[^:=\n]*:(?!=)", (REPOSITORY / "justfile").read_text(), re.MULTILINE)


def test_the_session_works_as_it_stands_there(tmp_path: Path) -> None:
    (session,) = (block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "TOKEN=$(" in block)
    with running_system(tmp_path / "data") as system:
        script = session.replace("just tally", " ".join(TALLY)).replace(
            "http://127.0.0.1:8000", system.running.http_url
        )
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=system.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
    answers = [msgspec.json.decode(line) for line in ran.stdout.splitlines() if line.strip()]
    product, receipt, placed, order, stock, delivered, *answers = answers
    second, paid, cancelled, refunded, report, first, timeline = answers
    assert product["version"] == 1
    assert receipt["quantity"] == 10
    assert (placed["status"], placed["total_cents"]) == ("placed", 2_500)
    assert order["status"] == "shipped"
    assert (stock["on_hand"], stock["reserved"]) == (8, 0)
    assert (delivered["order_id"], delivered["status"]) == ("o-1", "delivered")
    assert second["total_cents"] == 1_250
    assert (paid["status"], paid["captured_cents"]) == ("captured", 1_250)
    assert cancelled["status"] == "cancelled"
    assert refunded["status"] == "refunded"
    assert [(row["key"], row["orders"]) for row in report["rows"]] == [("cancelled", 1), ("delivered", 1)]
    assert (first["status"], first["payment"]) == ("placed", None)
    assert {item["domain"] for item in timeline["items"]} >= {"orders", "checkout", "inventory", "shipping"}


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in ("default", "setup", "lock", "format")])
def test_every_recipe_is_in_the_table(recipe: str) -> None:
    assert f"just {recipe}" in README


@pytest.mark.parametrize("setting", sorted(set(re.findall(r"TALLY_[A-Z_]+[A-Z]", Path(settings.__file__).read_text()))))
def test_every_setting_is_in_the_table(setting: str) -> None:
    assert f"`{setting}`" in README


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_/]+/[a-z_]+\.[a-z]+)`", CONTRIBUTING))))
def test_every_file_of_the_worked_example_is_there(path: str) -> None:
    assert (REPOSITORY / path).is_file()
