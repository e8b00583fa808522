"""Faults on purpose: what a destination would do on a bad day, done here to a share of tries, as the policy says."""

from __future__ import annotations

import random
from collections.abc import Callable

from bus import metrics
from bus.calls.call import REAL_TIME, Busy, Call, Reply, Step, Time
from bus.calls.policy import CallPolicy


class Faults:
    """The last step before the transport, so that all others meet what it does."""

    def __init__(
        self,
        destination: str,
        policy: CallPolicy,
        inner: Step,
        time: Time = REAL_TIME,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.policy = policy
        self._destination = destination
        self._inner = inner
        self._sleep = time.sleep
        self._chance = chance

    async def __call__(self, call: Call, deadline: float) -> Reply:
        faults = self.policy.faults
        if faults.delay_share and self._chance() < faults.delay_share:
            metrics.call_faults.labels(self._destination, "delay").inc()
            await self._sleep(faults.delay_s)
        if faults.abort_share and self._chance() < faults.abort_share:
            metrics.call_faults.labels(self._destination, "abort").inc()
            raise Busy(self._destination, faults.abort_status)
        return await self._inner(call, deadline)
