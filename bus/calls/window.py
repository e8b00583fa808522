"""What a breaker looks back on: how many of the last calls failed, and how many were slow."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from bus.calls.policy import BreakerPolicy

SLICES = 10
"""Of a window of time: what it holds goes out in so many portions."""
FAILED, SLOW = 1, 2


class Window(Protocol):
    calls: int
    failed: int
    slow: int

    def add(self, now: float, *, failed: bool, slow: bool) -> None: ...


class CountWindow:
    """The last so many calls."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._outcomes: deque[int] = deque()
        self.calls = self.failed = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        if self.calls == self._size:
            gone = self._outcomes.popleft()
            self.failed -= gone & FAILED
            self.slow -= gone >> 1
        else:
            self.calls += 1
        self._outcomes.append((FAILED if failed else 0) | (SLOW if slow else 0))
        self.failed += failed
        self.slow += slow


class _Slice:
    __slots__ = ("calls", "failed", "number", "slow")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = self.failed = self.slow = 0


class TimeWindow:
    """The calls of the last so many seconds, to a tenth of that."""

    def __init__(self, seconds: float) -> None:
        self._slice_s = seconds / SLICES
        self._slices: deque[_Slice] = deque()
        self.calls = self.failed = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        number = int(now / self._slice_s)
        slices = self._slices
        while slices and slices[0].number <= number - SLICES:
            gone = slices.popleft()
            self.calls -= gone.calls
            self.failed -= gone.failed
            self.slow -= gone.slow
        if not slices or slices[-1].number != number:
            slices.append(_Slice(number))
        latest = slices[-1]
        latest.calls += 1
        latest.failed += failed
        latest.slow += slow
        self.calls += 1
        self.failed += failed
        self.slow += slow


def window_of(policy: BreakerPolicy) -> Window:
    """An empty one."""
    return CountWindow(policy.calls) if policy.window_s is None else TimeWindow(policy.window_s)
