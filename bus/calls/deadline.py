"""Deadlines: when the time of a call is up, how much of it one try may take, and how it travels on.

It goes in a header as the milliseconds that are left when it is sent, so that clocks need not agree, and is less at
each hop. Commands carry a moment in their envelope instead, for they wait in queues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from bus.calls.call import REAL_TIME, Call, DeadlineExceeded, NoAnswer, Reply, Step, Time
from bus.calls.policy import CallPolicy

HEADER = "Deadline-Ms"
LEFT_MS_MAX = 86_400_000


class Deadline:
    """The first step: nobody waits longer than the policy says, nor than the caller does; what is late is not begun."""

    def __init__(self, destination: str, policy: CallPolicy, inner: Step, time: Time = REAL_TIME) -> None:
        self.policy = policy
        self._destination = destination
        self._inner = inner
        self._now = time.now

    async def __call__(self, call: Call, deadline: float) -> Reply:
        now = self._now()
        if deadline <= now:
            raise DeadlineExceeded(self._destination, "its deadline had passed, so it was not begun")
        return await self._inner(call, min(deadline, now + self.policy.timeout_s))


class Attempt:
    """One try, cut short when it takes too long: for a try, which is worth another one, or for the whole call."""

    def __init__(self, destination: str, policy: CallPolicy, inner: Step, time: Time = REAL_TIME) -> None:
        self.policy = policy
        self._destination = destination
        self._inner = inner
        self._now = time.now
        self._within = time.within

    async def __call__(self, call: Call, deadline: float) -> Reply:
        now = self._now()
        left = deadline - now
        if left <= 0:
            raise DeadlineExceeded(self._destination, "its time was up before it was sent")
        limit = min(left, self.policy.try_timeout_s)
        try:
            async with self._within(limit):
                return await self._inner(call, now + limit)
        except TimeoutError as error:
            if limit < left:
                raise NoAnswer(self._destination, f"no answer within {limit:g} s") from error
            raise DeadlineExceeded(self._destination, "no answer in time") from error


def header_of(deadline: float, now: float) -> str:
    """What to send. A deadline that has passed is 0."""
    return str(max(0, min(LEFT_MS_MAX, math.floor((deadline - now) * 1_000))))


def deadline_of(headers: Mapping[str, str], now: float) -> float:
    """When the time of a request is up that came with these headers; `inf` where they do not say.

    Raises `ValueError` for what is no number of milliseconds.
    """
    text = headers.get(HEADER)
    if text is None:
        return math.inf
    if not (text.isascii() and text.isdigit()) or int(text) > LEFT_MS_MAX:
        raise ValueError(f"{HEADER} is {text!r}, wanted milliseconds up to {LEFT_MS_MAX}")
    return now + int(text) / 1_000
