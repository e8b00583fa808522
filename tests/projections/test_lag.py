"""How far behind: never less than it is, and nothing said of what is not known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from projections.lag import HEAD_AGE_MAX_S, Head, Lag

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


class Clocks:
    """The one that only rises, and the one on the wall."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.head = Head(lambda: self.now_s)
        self.lag = Lag(lambda: self.now_s, lambda: AT.timestamp() + self.now_s - 1_000.0)

    def seconds(self, sequence: int, at: datetime | None = AT) -> float | None:
        return self.lag.seconds("stock", sequence, self.head, at)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_while_the_head_was_never_seen_nobody_knows(clocks: Clocks) -> None:
    assert clocks.head.age_s() is None
    assert clocks.seconds(5) is None


def test_who_has_all_lags_by_nothing_however_old_that_is(clocks: Clocks) -> None:
    clocks.now_s += 3_600
    clocks.head.saw(5)
    assert clocks.seconds(5) == 0.0
    assert clocks.seconds(6) == 0.0  # Its own position is newer than the look.


def test_after_a_start_it_lags_by_the_age_of_what_it_has_last(clocks: Clocks) -> None:
    clocks.now_s += 3_600
    clocks.head.saw(9)
    assert clocks.seconds(5) == 3_600
    assert clocks.seconds(0, None) == 3_600  # Nothing at all: since it began.


def test_after_a_silence_it_lags_since_it_had_all(clocks: Clocks) -> None:
    clocks.now_s += 3_600
    clocks.head.saw(5)
    clocks.now_s += 0.5
    assert clocks.seconds(5) == 0.0
    clocks.now_s += 2.0
    clocks.head.saw(9)
    assert clocks.seconds(5) == 2.5  # As of the look at the head, which was half a second before.


def test_a_head_that_is_not_seen_any_more_is_unknown(clocks: Clocks) -> None:
    clocks.head.saw(5)
    clocks.now_s += HEAD_AGE_MAX_S
    assert clocks.seconds(5) == 0.0
    clocks.now_s += 0.1
    assert clocks.seconds(5) is None
    assert clocks.head.age_s() == pytest.approx(HEAD_AGE_MAX_S + 0.1)


def test_a_clock_that_was_set_back_makes_no_negative_lag(clocks: Clocks) -> None:
    clocks.head.saw(9)
    assert clocks.seconds(5, AT.replace(year=2027)) == 0.0


def test_a_head_never_goes_back(clocks: Clocks) -> None:
    clocks.head.saw(9)
    clocks.head.saw(5)
    assert clocks.head.sequence == 9


@pytest.mark.parametrize(
    ("sequence", "head", "events", "expected"),
    [(9, 9, 90, 0), (9, 7, 90, 0), (10, 12, 100, 20), (10, 12, 1, 2), (0, 4, 0, 4)],
)
def test_events_are_guessed_from_those_before(sequence: int, head: int, events: int, expected: int) -> None:
    assert Lag.events(sequence, head, events) == expected
