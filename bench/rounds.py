"""Rounds: every way gets one in turn, so that a noisy neighbour meets all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

OPERATIONS_MAX = 200_000
"""In one round: what is prepared outside the time has to fit into memory."""
WARM_UP_S = 0.3


class BenchmarkFailed(Exception):
    """Its figures would mean nothing: there are none."""


class Round(NamedTuple):
    """What a round came to. `times_s`: each operation's, from handing it over to its answer."""

    spent_s: float
    times_s: Sequence[float]
    n: int


Way = Callable[[float], Awaitable[Round]]
"""Does something for about so many seconds, and afterwards, not in the time, sees that all it counted was stored."""
Told = Callable[[str], None]


class Pace(Struct, frozen=True):
    """How many rounds of each way, and about how long one takes."""

    rounds: int = 3
    round_s: float = 2.0


FULL = Pace()
QUICK = Pace(rounds=2, round_s=0.25)


def lasting(do: Callable[[int], Awaitable[Round]], in_flight: int) -> Way:
    """A way out of what does so many operations. Its first round, the warm-up, tells how many fill a second."""
    rate_per_s = 0.0

    async def way(seconds: float) -> Round:
        nonlocal rate_per_s
        n = int(rate_per_s * seconds) if rate_per_s else 50
        done = await do(max(2 * in_flight, min(OPERATIONS_MAX, n)))
        rate_per_s = done.n / done.spent_s
        return done

    return way


async def take_turns(ways: Mapping[str, Way], pace: Pace) -> dict[str, list[Round]]:
    """A round each to warm up, which does not count, then `pace.rounds` each in turns."""
    rounds: dict[str, list[Round]] = {name: [] for name in ways}
    for way in ways.values():
        await way(min(WARM_UP_S, pace.round_s))
    for _ in range(pace.rounds):
        for name, way in ways.items():
            rounds[name].append(await way(pace.round_s))
    return rounds
