"""Percentiles, ratios and budgets say what they say they do."""

from __future__ import annotations

import msgspec
import pytest

from bench.report import Bars, Environment, Report, budget, merged, point, ratio, result
from bench.rounds import Round

MACHINE = Environment("a cpu", 2, 8.0, "Linux", "3.11", "2.15", "always", 1, "ext4", 0.5)


def _round(spent_s: float, *times_s: float) -> Round:
    return Round(spent_s, times_s, len(times_s))


def test_percentiles_are_of_the_sorted_times_in_milliseconds() -> None:
    times = [number / 1_000 for number in range(1_000, 0, -1)]
    measured = result("way", [_round(2.0, *times)])
    assert (measured.p50_ms, measured.p95_ms, measured.p99_ms, measured.p999_ms) == (501, 951, 991, 1_000)
    assert (measured.rate_per_s, measured.n) == (500, 1_000)


def test_one_slow_round_of_three_does_not_show() -> None:
    measured = result("way", [_round(1.0, 0.001), _round(1.0, 0.002), _round(50.0, 9.0)])
    assert (measured.rate_per_s, measured.p50_ms, measured.p999_ms, measured.n) == (1.0, 2.0, 2.0, 3)


def test_the_rate_counts_operations_and_not_times() -> None:
    assert result("wrk", [Round(1.0, [0.001] * 7, 5)]).rate_per_s == 5


@pytest.mark.parametrize(("wanted", "at_most", "holds"), [(2.0, False, True), (2.1, False, False), (2.0, True, True)])
def test_a_budget_is_met_on_its_edge(wanted: float, at_most: bool, holds: bool) -> None:
    assert budget("a/b", wanted, {"a/b": 2.0}, at_most=at_most).holds is holds


def test_a_report_holds_when_all_its_budgets_do() -> None:
    met, missed = budget("a/b", 1.0, {"a/b": 2.0}), budget("a/b", 3.0, {"a/b": 2.0})
    assert Report("x", MACHINE, [], budgets=[met]).holds
    assert not Report("x", MACHINE, [], budgets=[met, missed]).holds


def test_a_ratio_is_of_two_rates() -> None:
    assert ratio("a", "b", {"a": 10.0, "b": 3.0}) == 3.333


def test_reports_of_one_run_become_one() -> None:
    first = Report("a", MACHINE, [result("x", [_round(1.0, 0.1)])], {"x/y": 1.0}, figures={"f": 1.0}, quick=True)
    bars = [Bars("rate", "Rates", "rate_per_s", ["y"])]
    second = Report("b", MACHINE, [result("y", [_round(1.0, 0.1)])], skipped=["z: not installed"], bars=bars)
    whole = merged("append", [first, second])
    assert [each.name for each in whole.results] == ["x", "y"]
    assert (whole.what, whole.ratios, whole.figures, whole.skipped) == (
        "append",
        {"x/y": 1.0},
        {"f": 1.0},
        ["z: not installed"],
    )
    assert whole.quick
    assert whole.bars == bars


def test_two_results_of_one_name_are_a_mistake() -> None:
    same = Report("a", MACHINE, [result("x", [_round(1.0, 0.1)])])
    with pytest.raises(AssertionError):
        merged("append", [same, same])


def test_the_json_holds_what_was_promised() -> None:
    report = Report("a", MACHINE, [point("x", 16, [_round(1.0, 0.1)])], {"x": 1.0}, [budget("x", 1.0, {"x": 1.0})])
    printed = msgspec.json.decode(msgspec.json.encode(report))
    assert {"what", "environment", "results", "ratios", "budgets"} <= printed.keys()
    assert {"cpu", "cores", "python", "nats_server", "sync", "replicas", "storage", "load"} <= printed[
        "environment"
    ].keys()
    assert {"name", "rate_per_s", "p50_ms", "p95_ms", "p99_ms", "p999_ms", "n"} <= printed["results"][0].keys()
    assert {"ratio", "wanted", "got", "holds"} <= printed["budgets"][0].keys()
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
