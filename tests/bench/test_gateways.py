"""What two gateway processes could do at best, by what a request takes."""

from __future__ import annotations

import pytest

from bench.gateways import Takes, possible


@pytest.mark.parametrize(
    ("one", "two", "cores", "expected"),
    [
        (Takes(100, 30), Takes(100, 30), 8, 2.0),  # There is room for all.
        (Takes(100, 30), Takes(125, 30), 8, 1.6),  # A request takes longer where there are two.
        (Takes(100, 30), Takes(100, 25), 2, 1.6),  # wrk takes its share of two cores.
        (Takes(100, 30), Takes(100, 100), 2, 1.0),
    ],
)
def test_two_share_with_wrk_what_cores_there_are(one: Takes, two: Takes, cores: int, expected: float) -> None:
    assert possible(one, two, cores) == expected
