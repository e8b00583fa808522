"""The call path of one destination: its steps put together, its policy changed while calls are under way."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import msgspec

from bus import metrics, tracing
from bus.calls.balancing import Balancer
from bus.calls.breaker import Breaker
from bus.calls.bulkhead import Bulkhead
from bus.calls.call import REAL_TIME, Call, CallFailed, Reply, Step, Time
from bus.calls.deadline import Attempt, Deadline
from bus.calls.faults import Faults
from bus.calls.policy import CallPolicy
from bus.calls.retry import Retry

Fallback = Callable[[CallFailed], Reply]
"""What a caller can live with when there is no answer."""


class CallPath:
    """Every request to a destination from this process goes through its one path: limits are a process's."""

    def __init__(
        self,
        destination: str,
        policy: CallPolicy,
        transport: Step,
        time: Time = REAL_TIME,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.destination = destination
        self._policy = policy
        self._now = time.now
        faults = Faults(destination, policy, transport, time, chance)
        attempt = Attempt(destination, policy, faults, time)
        retry = Retry(destination, policy, attempt, time, chance)
        self.breaker = Breaker(destination, policy, retry, time)
        self.bulkhead = Bulkhead(destination, policy, self.breaker, time)
        self._first = Deadline(destination, policy, self.bulkhead, time)
        self._balancer = transport if isinstance(transport, Balancer) else None
        self._split(policy)
        self._steps = (self._first, self.bulkhead, self.breaker, retry, attempt, faults)
        self._seconds = metrics.call_seconds.labels(destination)
        self._succeeded = metrics.calls.labels(destination, "ok")

    @property
    def policy(self) -> CallPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: CallPolicy) -> None:
        """What is under way is finished by the policy that it meets; breaker and budget keep what they know."""
        self._policy = policy
        for step in self._steps:
            step.policy = policy
        self._split(policy)

    def _split(self, policy: CallPolicy) -> None:
        if self._balancer is not None:
            self._balancer.split = policy.split

    async def call(self, call: Call, *, deadline: float = math.inf, fallback: Fallback | None = None) -> Reply:
        """Its answer, whatever its status but those of `BUSY_STATUSES`. `deadline` is the caller's own, on the clock
        of `Time`. Raises `CallFailed` where there is no `fallback`. It is of the current trace, and says so."""
        if not tracing.collected():
            return await self._call(_of_trace(call, tracing.current()), deadline, fallback)
        about = {"peer.service": self.destination, "tally.target": call.target}
        name = f"{call.method} {self.destination}".lstrip()
        with tracing.span(name, "client", parent=tracing.current(), attributes=about) as span:
            reply = await self._call(_of_trace(call, span.traceparent), deadline, fallback)
            span.tell("http.response.status_code", reply.status)
            return reply

    async def _call(self, call: Call, deadline: float, fallback: Fallback | None) -> Reply:
        began = self._now()
        try:
            reply = await self._first(call, deadline)
        except CallFailed as failure:
            metrics.calls.labels(self.destination, failure.code).inc()
            if fallback is None:
                raise
            metrics.call_fallbacks.labels(self.destination).inc()
            return fallback(failure)
        finally:
            self._seconds.observe(self._now() - began)
        self._succeeded.inc()
        return reply


def _of_trace(call: Call, traceparent: str) -> Call:
    """Each try bears the same one: they are one call."""
    if not traceparent or tracing.HEADER in call.headers:
        return call
    return msgspec.structs.replace(call, headers={**call.headers, tracing.HEADER: traceparent})
