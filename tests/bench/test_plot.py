"""The drawings are whole SVG, show every way, and name each where it can be read."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from bench.plot import LABEL_HEIGHT, Axis, Curve, Panel, apart, draw, draw_bars, plots
from bench.report import Bars, Report, point, result
from bench.rounds import Round
from tests.bench.test_report import MACHINE

SVG = "{http://www.w3.org/2000/svg}"


def _report() -> Report:
    def rounds(rate: int) -> list[Round]:
        return [Round(1.0, [1 / rate] * rate, rate)]

    ways = {"engine": (1, 16, 1_024), "plain_<&'>": (1, 16)}
    results = [point(way, number, rounds(number * 10)) for way, numbers in ways.items() for number in numbers]
    return Report("in_flight", MACHINE, [*results, result("not_of_a_curve", rounds(5))])


def test_every_way_has_its_curve_and_its_name_and_nothing_else_has() -> None:
    drawings = plots(_report())
    assert drawings.keys() == {"rate", "latency"}
    for name, panels in (("rate", 1), ("latency", 2)):
        drawn = ElementTree.fromstring(drawings[name])
        curves = [each for each in drawn.iter(f"{SVG}g") if each.get("data-way")]
        assert [each.get("data-way") for each in curves] == ["engine", "plain_<&'>"] * panels
        lengths = [len((each.find(f"{SVG}polyline").get("points") or "").split()) for each in curves]  # type: ignore[union-attr]
        assert lengths == [3, 2] * panels
        said = [text.text for text in drawn.iter(f"{SVG}text")]
        assert {"engine", "plain <&'>", "1,024"} <= set(said)
        assert any("sync always, 1 replica" in (text or "") for text in said)


def test_a_report_without_curves_has_no_drawing() -> None:
    assert plots(Report("start", MACHINE, [result("start", [Round(1.0, [1.0], 1)])])) == {}


def test_axes_are_logarithmic_and_span_what_is_shown() -> None:
    exact = Axis.of([1, 16, 1_024], 300, exact=True)
    assert [exact.at(value) for value in (1, 32, 1_024)] == [0, 150, 300]
    assert exact.ticks == [1, 16, 1_024]
    decades = Axis.of([2.0, 350.0], 300, exact=False)
    assert decades.ticks == [1, 10, 100, 1_000]
    assert decades.at(1_000) == 300


@pytest.mark.parametrize("in_flight", [1, 10, 256])
def test_an_axis_of_a_single_value_can_be_drawn(in_flight: int) -> None:
    drawn = draw("a", "b", [Panel("", [Curve("way", [(in_flight, 10.0)])])])
    assert ElementTree.fromstring(drawn).tag == f"{SVG}svg"


def test_a_single_point_is_no_curve() -> None:
    assert plots(Report("http", MACHINE, [point("http", 256, [Round(1.0, [1.0], 1)])])) == {}


@pytest.mark.parametrize("wanted", [[10.0, 10.0, 10.0], [0.0, 99.0, 100.0, 100.0], [5.0, 50.0], []])
def test_names_keep_apart_and_inside(wanted: list[float]) -> None:
    places = apart(wanted, LABEL_HEIGHT, 100.0)
    assert all(lower - upper >= LABEL_HEIGHT for upper, lower in pairwise(places))
    assert all(place <= 100.0 for place in places)


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    results = [result(name, [Round(1.0, [0.1], n)]) for name, n in (("fast_<1>", 400), ("slow", 100), ("other", 7))]
    report = Report("x", MACHINE, results, bars=[Bars("rate", "Rates", "rate_per_s", ["fast_<1>", "slow"])])
    drawings = plots(report)
    assert drawings.keys() == {"rate"}
    drawn = ElementTree.fromstring(drawings["rate"])
    bars = [one for one in drawn.iter(f"{SVG}rect") if one.get("data-bar")]
    lengths = {one.get("data-bar"): float(one.get("width") or 0) for one in bars}
    assert lengths.keys() == {"fast_<1>", "slow"}
    assert lengths["fast_<1>"] == 4 * lengths["slow"] > 0
    said = {text.text for text in drawn.iter(f"{SVG}text")}
    assert {"Rates", "fast <1>", "slow", "400", "100"} <= said


def test_bars_of_nothing_can_be_drawn() -> None:
    assert ElementTree.fromstring(draw_bars("a", "b", [("way", 0.0)])).tag == f"{SVG}svg"
