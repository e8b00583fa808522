"""The circuit breaker: a destination that fails or is slow is left alone for a while, then tried by a few calls."""

from __future__ import annotations

import logging
from enum import Enum

from bus import metrics
from bus.calls.call import REAL_TIME, BreakerOpen, Call, CallFailed, DeadlineExceeded, Reply, Step, Time
from bus.calls.policy import CallPolicy
from bus.calls.window import CountWindow, Window, window_of

COME_AGAIN_S = 1.0
"""While it is being tried."""

log = logging.getLogger(__name__)


class State(Enum):
    """The values are what the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Judges whole calls, with all their tries: failed, slow (`slow_s`), both or neither.

    No verdict: the caller went away; a defect of ours; or the caller's own deadline came before a call was slow, for
    a caller in a hurry must not close a destination to others. What was begun in one state has no say in another.
    """

    def __init__(self, destination: str, policy: CallPolicy, inner: Step, time: Time = REAL_TIME) -> None:
        self._policy = policy
        self._destination = destination
        self._inner = inner
        self._now = time.now
        self._state = State.CLOSED
        self._era = 0
        self._window: Window = window_of(policy.breaker)
        self._open_until = 0.0
        self._begun = 0
        """Calls let through in this half-open state."""
        metrics.breaker_state.labels(destination).set(State.CLOSED.value)

    @property
    def state(self) -> State:
        return self._state

    @property
    def policy(self) -> CallPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: CallPolicy) -> None:
        before, self._policy = self._policy.breaker, policy
        after = policy.breaker
        if self._state is State.CLOSED and (before.calls, before.window_s) != (after.calls, after.window_s):
            self._window = window_of(after)

    async def __call__(self, call: Call, deadline: float) -> Reply:
        if self._state is not State.CLOSED:
            self._enter()
        era, began = self._era, self._now()
        try:
            reply = await self._inner(call, deadline)
        except CallFailed as failure:
            took_s = self._now() - began
            if isinstance(failure, DeadlineExceeded) and took_s < self._policy.breaker.slow_s:
                self._without_verdict(era)
            else:
                self._judge(era, took_s, failed=True)
            raise
        except BaseException:  # Raised again: whoever asked went away, or a defect; its permit is free again.
            self._without_verdict(era)
            raise
        self._judge(era, self._now() - began, failed=False)
        return reply

    def _enter(self) -> None:
        """Let a call through that is not closed to it. Raises `BreakerOpen`."""
        if self._state is State.OPEN:
            left_s = self._open_until - self._now()
            if left_s > 0:
                raise BreakerOpen(self._destination, "it has been failing or slow, so it is left alone", left_s)
            self._turn(State.HALF_OPEN, f"{self._policy.breaker.half_open_calls} calls try it")
        if self._begun >= self._policy.breaker.half_open_calls:
            raise BreakerOpen(self._destination, "it has been failing or slow, and is being tried", COME_AGAIN_S)
        self._begun += 1

    def _without_verdict(self, era: int) -> None:
        if era == self._era and self._state is State.HALF_OPEN:
            self._begun -= 1

    def _judge(self, era: int, took_s: float, *, failed: bool) -> None:
        if era != self._era:
            return
        policy, window = self._policy.breaker, self._window
        window.add(self._now(), failed=failed, slow=took_s >= policy.slow_s)
        half_open = self._state is State.HALF_OPEN
        if window.calls < (policy.half_open_calls if half_open else policy.calls_min):
            return
        if window.failed >= policy.failure_rate * window.calls or window.slow >= policy.slow_rate * window.calls:
            self._open_until = self._now() + policy.open_s
            said = (
                f"of {window.calls} calls {window.failed} failed and {window.slow} took {policy.slow_s:g} s or longer"
            )
            self._turn(State.OPEN, f"{said}; it is left alone for {policy.open_s:g} s")
        elif half_open:
            self._turn(State.CLOSED, f"{window.calls} calls went well")

    def _turn(self, state: State, reason: str) -> None:
        self._state = state
        self._era += 1
        self._begun = 0
        policy = self._policy.breaker
        self._window = CountWindow(policy.half_open_calls) if state is State.HALF_OPEN else window_of(policy)
        name = state.name.lower()
        log.log(
            logging.WARNING if state is State.OPEN else logging.INFO,
            "the breaker of %s is %s: %s",
            self._destination,
            name.replace("_", " "),
            reason,
        )
        metrics.breaker_state.labels(self._destination).set(state.value)
        metrics.breaker_transitions.labels(self._destination, name).inc()
