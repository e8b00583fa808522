"""The bulkhead: a destination that is slow holds so many calls and no more, and others have theirs."""

from __future__ import annotations

import asyncio
from collections import deque

from bus.calls.call import REAL_TIME, Call, DeadlineExceeded, Overloaded, Reply, Step, Time
from bus.calls.policy import CallPolicy

COME_AGAIN_S = 1.0


class Bulkhead:
    """Lets `concurrency` calls through at a time; `queue` more wait in order, until their deadlines."""

    def __init__(self, destination: str, policy: CallPolicy, inner: Step, time: Time = REAL_TIME) -> None:
        self._policy = policy
        self._destination = destination
        self._inner = inner
        self._time = time
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.under_way = 0

    @property
    def policy(self) -> CallPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: CallPolicy) -> None:
        self._policy = policy
        self._admit()

    async def __call__(self, call: Call, deadline: float) -> Reply:
        if self.under_way < self._policy.concurrency:  # Nobody waits then.
            self.under_way += 1
        else:
            await self._turn(deadline)
        try:
            return await self._inner(call, deadline)
        finally:
            self.under_way -= 1
            if self._waiting:
                self._admit()

    async def _turn(self, deadline: float) -> None:
        if len(self._waiting) >= self._policy.queue:
            detail = f"{self.under_way} calls are under way and {len(self._waiting)} wait"
            raise Overloaded(self._destination, detail, COME_AGAIN_S)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with self._time.within(deadline - self._time.now()):
                await turn
        except BaseException as error:  # Whatever ends the wait: a place that was given meanwhile is handed on.
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled():
                self.under_way -= 1
                self._admit()
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(self._destination, "it waited for its turn until its time was up") from error
            raise

    def _admit(self) -> None:
        while self._waiting and self.under_way < self._policy.concurrency:
            turn = self._waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)
