"""Orchestrated against choreographed: code is counted as code, and the verdict follows from the figures."""

from __future__ import annotations

from pathlib import Path

from bench.report import Report, result
from bench.rounds import Round
from bench.workflows import CODE, WORKFLOWS, judged, lines_of_code
from tests.bench.test_report import MACHINE

SOURCE = '''"""What it is.

And more.
"""

from __future__ import annotations  # A comment beside code.

# A comment.


def answer() -> str:
    """A docstring."""
    return """text
    that is code"""
'''


def test_lines_of_code_are_those_without_comments_docstrings_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(SOURCE)
    assert lines_of_code(path) == 4


def test_each_way_has_code_of_its_own() -> None:
    assert set(CODE) == set(WORKFLOWS)
    files = [path for paths in CODE.values() for path in paths]
    assert len(set(files)) == len(files)
    assert all(lines_of_code(path) for path in files)


def _measured(messages: float, shipped_s: float) -> Report:
    results = [
        result(f"{workflow}_{end}_{many}", [Round(1.0, [took_s], 1)])
        for many in (1, 16)
        for workflow, share in zip(WORKFLOWS, (1.0, 0.5), strict=True)
        for end, took_s in (("paid", 0.08 * share), ("shipped", shipped_s * share))
    ]
    figures = {f"{workflow}_messages_{many}": messages for many in (1, 16) for workflow in WORKFLOWS}
    lines = {"orchestrated_lines": 400.0, "choreographed_lines": 100.0}
    return judged(Report("workflows", MACHINE, results, figures=figures | lines))


def test_the_verdict_follows_from_the_figures() -> None:
    report = _measured(messages=12, shipped_s=0.15)
    assert report.holds
    assert (report.ratios["paid_p50_1"], report.ratios["messages_1"], report.ratios["lines"]) == (0.5, 1.0, 0.25)
    assert "is paid after 50% of the time (p50; p99 50%), takes 100% of the messages (12.0 instead" in report.verdict[0]
    assert "25% of the code (100 lines instead of 400)" in report.verdict[0]


def test_too_many_messages_and_too_late_is_said() -> None:
    assert not _measured(messages=12.1, shipped_s=0.15).holds
    assert not _measured(messages=12, shipped_s=0.151).holds
