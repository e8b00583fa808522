"""The decision matrix: what became of calls in trouble is counted as it was, and the table and the claim follow."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.matrix.drawing import drawn
from bench.matrix.healthy import Healthy
from bench.matrix.run import judged
from bench.matrix.size import lines_of
from bench.matrix.styles import ASYNC, EVENT, GRPC, NATS, REST, STYLES
from bench.matrix.trouble import DOWN, RESTARTED, SLOW, Asked, Ran, Window, figures_of
from bench.report import Report, result
from bench.rounds import BenchmarkFailed, Round
from tests.bench.test_report import MACHINE

WINDOWS = [Window(DOWN, 10.0, 20.0), Window(SLOW, 30.0, 40.0), Window(RESTARTED, 50.0, 52.0)]
ASKED = [
    Asked(REST, 9.0, 0.01, True, 9.02, 1),
    Asked(REST, 11.0, 5.0, False, None, 0),
    Asked(REST, 19.0, 3.5, True, 22.5, 1),
    Asked(REST, 25.0, 0.01, True, 25.02, 1),
    Asked(ASYNC, 11.0, 0.02, True, 23.0, 1),
]


def ran(lost: int = 0, doubled: int = 0) -> Ran:
    none = dict.fromkeys(STYLES, 0)
    return Ran(ASKED, WINDOWS, {**none, REST: lost}, {**none, GRPC: doubled}, none)


def well(rest_s: float, grpc_s: float) -> dict[str, Healthy]:
    def one(style: str, took_s: float) -> Healthy:
        rounds = [Round(took_s * 100, [took_s] * 100, 100)]
        return Healthy(
            result(f"{style}_alone", rounds), result(f"{style}_effect", rounds), result(f"{style}_32", rounds), 9.0
        )

    return {style: one(style, {REST: rest_s, GRPC: grpc_s}.get(style, 0.001)) for style in STYLES}


def report(rest_s: float, grpc_s: float, ran: Ran) -> Report:
    of = well(rest_s, grpc_s)
    empty = [result(f"{style}_nothing", [Round(1.0, [0.001], 1)]) for style in (REST, GRPC)]
    results = [each for one in of.values() for each in (one.alone, one.effects, one.many)] + empty
    return judged(Report("matrix", MACHINE, results), of, ran)


def test_what_became_of_calls_in_trouble_is_counted() -> None:
    down = figures_of(ran(), REST, WINDOWS[0])
    assert (down.calls, down.answered, down.effective) == (2, 1, 1)
    assert (down.answered_max_s, down.told_no_s, down.effect_max_s, down.recovered_s) == (3.5, 5.0, 3.5, 2.5)
    queued = figures_of(ran(), ASYNC, WINDOWS[0])
    assert (queued.answered, queued.effect_max_s, queued.recovered_s) == (1, 12.0, 3.0)
    assert figures_of(ran(), EVENT, WINDOWS[0]).calls == 0


def test_nothing_may_be_lost_or_doubled() -> None:
    assert report(0.002, 0.001, ran()).holds
    assert not report(0.002, 0.001, ran(lost=1)).holds
    assert not report(0.002, 0.001, ran(doubled=1)).holds


def test_the_claim_is_judged_by_the_figures() -> None:
    assert "does not hold here for one call" in report(0.002, 0.001, ran()).verdict[-1]
    assert "holds here for one call" in report(0.006, 0.001, ran()).verdict[-1]
    assert "at once it holds" in report(0.006, 0.001, ran()).verdict[-1]


def test_the_table_has_a_row_a_style() -> None:
    table = [row for row in report(0.002, 0.001, ran()).verdict if row.startswith("|")]
    assert len(table) == 2 + len(STYLES)
    assert len({row.count("|") for row in table}) == 1


def test_trouble_that_did_not_happen_has_no_figures() -> None:
    none = dict.fromkeys(STYLES, 0)
    with pytest.raises(BenchmarkFailed, match="restarted"):
        report(0.002, 0.001, Ran(ASKED, WINDOWS[:2], none, none, none))


def test_the_drawing_shows_every_call() -> None:
    svg = ElementTree.fromstring(drawn(ran(), MACHINE))
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}circle")) == len(ASKED)


def test_lines_are_counted() -> None:
    assert all(lines_of(style)[0] > 0 for style in STYLES)
    assert lines_of(NATS)[1] == 0
    assert lines_of(GRPC)[1] > lines_of(REST)[1]
