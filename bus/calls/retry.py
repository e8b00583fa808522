"""Retries: of what may be repeated, a few, at moments of chance, and never more than a share of all calls.

Without the last, each layer that tries three times turns the trouble of one that is overloaded into its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from bus import metrics
from bus.calls.call import REAL_TIME, Call, CallFailed, Reply, Step, Time
from bus.calls.policy import CallPolicy


class RetryBudget:
    """A bucket of tokens: each call brings a share of one, each retry takes one. Full at first."""

    def __init__(self, policy: CallPolicy) -> None:
        self.policy = policy
        self._tokens = float(policy.retry_burst)

    def earn(self) -> None:
        self._tokens = min(self.policy.retry_burst, self._tokens + self.policy.retry_share)

    def spend(self) -> bool:
        """Whether there was a token."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Retry:
    """Sends a call again, up to `retries` times, where the failure passes. It raises the last failure.

    Full jitter: a pause is by chance between nothing and a ceiling that doubles. `Retry-After` comes on top, and one
    that ends after the deadline is not begun.
    """

    def __init__(
        self,
        destination: str,
        policy: CallPolicy,
        inner: Step,
        time: Time = REAL_TIME,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._inner = inner
        self._time = time
        self._chance = chance
        self._budget = RetryBudget(policy)
        self._retried = metrics.call_retries.labels(destination)
        self._refused = metrics.call_retries_refused.labels(destination)

    @property
    def policy(self) -> CallPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: CallPolicy) -> None:
        self._policy = self._budget.policy = policy

    async def __call__(self, call: Call, deadline: float) -> Reply:
        self._budget.earn()
        retries = 0
        while True:
            try:
                return await self._inner(call, deadline)
            except CallFailed as failure:
                policy = self._policy
                if not (call.repeatable and failure.passing and retries < policy.retries):
                    raise
                ceiling = min(policy.backoff_max_s, policy.backoff_s * 2.0**retries)
                pause_s = failure.retry_after_s + self._chance() * ceiling
                if self._time.now() + pause_s >= deadline:
                    raise
                if not self._budget.spend():
                    self._refused.inc()
                    raise
            retries += 1
            self._retried.inc()
            await self._time.sleep(pause_s)
