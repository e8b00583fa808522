"""Five services: the verdict on each call follows from what became of it."""

from __future__ import annotations

from bench.report import Report, result
from bench.rounds import Round
from bench.scenarios.five_services import CALLS_OF, FIVE, FROZEN, STYLES, Kept, judged
from tests.bench.test_report import MACHINE


def report(**kept: Kept) -> Report:
    well = [result(call, [Round(1.0, [0.01] * 10, 10)]) for call in FIVE]
    return judged(Report("five-services", MACHINE, well), {call: kept.get(call, Kept(10, 10, 0, 0)) for call in FIVE})


def test_all_that_was_promised_was_kept() -> None:
    judgement = report()
    assert judgement.holds
    assert len(judgement.budgets) == 3 * len(FIVE)
    assert [words.partition(",")[0] for words in judgement.verdict] == list(FIVE)


def test_a_promise_that_was_broken_is_named() -> None:
    judgement = report(charge=Kept(10, 10, 2, 0), alert=Kept(10, 10, 0, 1), reserve=Kept(10, 9, 0, 0))
    broken = {each.ratio: each.got for each in judgement.budgets if not each.holds}
    assert broken == {"charge_doubled": 2.0, "alert_lost": 1.0, "reserve_kept": 0.9}
    assert not judgement.holds


def test_where_nothing_was_called_nothing_was_kept() -> None:
    assert not report(review=Kept(0, 0, 0, 0)).holds


def test_every_call_has_a_style_and_something_that_is_frozen() -> None:
    assert set(CALLS_OF) == set(STYLES) == set(FROZEN) == set(FIVE)
