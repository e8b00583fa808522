"""What the steps of a call path are tested with: a time that passes when nothing else can, and a destination that does
as it is told."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeVar

from bus.calls.call import Call, Reply, Time
from tests.bus.waiting import turns

Result = TypeVar("Result")

BEGINNING = 1_000.0
ASK = Call("/thing", method="GET", repeatable=True)
TELL = Call("/thing", method="POST")
DONE = Reply(200, b"done")


class StagedTime:
    """Stands still while anything can go on, and then leaps to what comes next."""

    def __init__(self) -> None:
        self.now = BEGINNING
        self.pauses: list[float] = []
        """Everything that was slept."""
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    @property
    def time(self) -> Time:
        return Time(lambda: self.now, self._sleep, self._within)

    async def run(self, work: Awaitable[Result]) -> Result:
        """What it comes to, at whatever time that is."""
        task = asyncio.ensure_future(work)
        await turns()
        while not task.done():
            self.leap()
            await turns()
        return await task

    def leap(self) -> None:
        """To the next that is to happen."""
        assert self._timers, "nothing will ever happen"
        at, _, happen = heapq.heappop(self._timers)
        self.now = max(self.now, at)
        happen()

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        self._at(seconds, end)
        await over

    @asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        state = {"over": False, "cut": False}

        def cut() -> None:
            if not state["over"]:
                state["cut"] = True
                task.cancel()

        self._at(seconds, cut)
        try:
            yield
        except asyncio.CancelledError:
            if state["cut"] and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            state["over"] = True

    def _at(self, seconds: float, happen: Callable[[], object]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), happen))


class Destination:
    """Answers one call after the other as it is told: a number is how many seconds it takes, an exception is raised.
    What it was not told is done at once."""

    def __init__(self, staged: StagedTime, *does: float | BaseException) -> None:
        self._staged = staged
        self.does = list(does)
        self.deadlines: list[float] = []
        """Of each call that came."""

    async def __call__(self, call: Call, deadline: float) -> Reply:
        self.deadlines.append(deadline)
        match self.does.pop(0) if self.does else 0.0:
            case BaseException() as error:
                raise error
            case 0.0:
                pass
            case seconds:
                await self._staged.time.sleep(seconds)
        return DONE

    @property
    def calls(self) -> int:
        return len(self.deadlines)
