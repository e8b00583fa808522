"""What read models know of times."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from projections.projection import timestamp

TIMES = st.datetimes(timezones=st.just(UTC))


@given(TIMES, TIMES)
def test_times_sort_as_text(one: datetime, other: datetime) -> None:
    assert (timestamp(one) < timestamp(other)) == (one < other)


@given(TIMES)
def test_a_time_has_all_of_its_microseconds(at: datetime) -> None:
    assert timestamp(at) == at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    whole = at.replace(microsecond=0)
    assert timestamp(whole) == whole.isoformat(timespec="microseconds").replace("+00:00", "Z")
