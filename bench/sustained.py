"""What is left of the rate after a minute, with the read models kept up beside it, and what does it cost in memory?

Orders placed in process with 1,024 in flight, made one by one as they are sent; the projection worker of the product
(`tally work --part projections`) in another process on the same cores. The engine keeps in memory what the state store
does not have yet; when that is too much, orders are refused as overloaded and come again. `short` is the same load for
a round, before there is anything to project, on an engine that keeps all in memory. Reported, with no budget yet: how
far the read models were behind when the load ended, and the process's resident memory early and at the end, a command
(the load keeps 8 bytes of that: its time).

Budget: sustained >= 0.4x short.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import NamedTuple

from bench.children import Child, data_folder, tally_work
from bench.closed_loop import closed_loop, for_seconds
from bench.load import new_tag, sent_order
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import WARM_UP_S, Pace, Round, Told
from bench.server import embedded, rss_bytes
from bench.stored import commits_stored, expect
from bus.announcements import Standings
from bus.commands import Answer, Unavailable
from bus.engines.engine import Engine
from bus.engines.overlay import OverlaidStates
from bus.engines.states import States
from bus.logs.log import Log
from domains.orders.order import Order, orders
from gateway import compose
from gateway.runtime.collector import calm_the_collector
from gateway.settings import Settings, home
from projections.aggregate_state import SqliteStateStore

IN_FLIGHT = 1_024
SUSTAINED_S = 60.0
QUICK_SUSTAINED_S = 10.0
EARLY_SHARE = 1 / 6
"""Of the time after which memory is looked at first: what is allocated once is there by then."""
LOOK_EVERY = 10_000
MEMORY_SHARE_MAX = 0.5
"""Of the machine's free memory: a load that would take more ends early."""
READY_TIMEOUT_S = 30.0
COME_AGAIN_S = 0.05


class _Memory(NamedTuple):
    """How much the process held after so long and so many commands."""

    after_s: float
    rss_bytes: int
    commands: int


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    async with embedded() as server:
        standings = Standings(server.client, home(Settings(data_dir=data_folder(server))))
        await standings.start()
        with tally_work("projections", server) as worker:
            await until_announced(standings, worker)
            short = result("short", await _short(await server.log("short"), pace))
            told(line(short))
            log = await server.log("orders")
            store = SqliteStateStore(orders, Settings(data_dir=data_folder(server)).read_models)
            placing = _Placing(log, OverlaidStates(orders, store))
            memory: list[_Memory] = []
            done = await placing.run(QUICK_SUSTAINED_S if quick else SUSTAINED_S, memory)
            position = _position(standings)  # At once: the read models go on.
            worker.check()
        await placing.stop(done.n)
        behind = await commits_stored(log, position)
        blocks_behind = await log.head() - position
    sustained = result("sustained", [done])
    told(line(sustained))
    ratios = {"sustained/short": ratio("sustained", "short", rates([sustained, short]))}
    figures = {
        "refused_as_overloaded": float(placing.refused),
        "sustained_s": round(done.spent_s, 1),
        "read_models_commands_per_s": round((done.n - behind) / done.spent_s, 1),
        "read_models_behind_commands": float(behind),
        "read_models_behind_blocks": float(blocks_behind),
        **_grown(memory),
    }
    told(", ".join(f"{name} {value:,g}" for name, value in figures.items()))
    budgets = [budget("sustained/short", 0.4, ratios)]
    return Report("sustained", server.environment, [short, sustained], ratios, budgets, figures, quick=quick)


class _Placing:
    """An engine, and a load that places orders with it. Where there are `states`, it keeps in memory what they say;
    then it may refuse orders as overloaded, and they come again."""

    def __init__(self, log: Log, states: States[Order] | None = None) -> None:
        self._log = log
        self._engine = Engine(orders, log, states=states)
        self._begun = 0
        self.refused = 0

    async def run(self, seconds: float, memory: list[_Memory] | None = None) -> Round:
        """Where `memory` is given, it gets how much the process held early and at the end."""
        await self._engine.start()
        tag, going = new_tag(), for_seconds(seconds)
        rss_max = MEMORY_SHARE_MAX * _free_bytes()

        loop = asyncio.get_running_loop()

        def place(number: int) -> asyncio.Future[None]:
            self._begun = number + 1
            order = sent_order(tag)
            placed: asyncio.Future[None] = loop.create_future()

            def submit() -> None:
                self._engine.submit(*order).add_done_callback(answered)

            def answered(answers: asyncio.Future[list[Answer]]) -> None:
                if isinstance(answers.result()[0], Unavailable):
                    self.refused += 1
                    loop.call_later(COME_AGAIN_S, submit)
                else:
                    placed.set_result(None)

            submit()
            return placed

        def more(number: int) -> bool:
            return going(number) and (number % LOOK_EVERY != 0 or rss_bytes() < rss_max)

        began = time.perf_counter()
        early = asyncio.create_task(self._look(began, seconds * EARLY_SHARE))
        done = await closed_loop(place, IN_FLIGHT, more)
        if memory is not None:
            memory += [await early, await self._look(began, 0)]
        early.cancel()
        return done

    async def stop(self, counted: int, after: int = 0) -> None:
        """See that all that was counted is stored."""
        await self._engine.stop()
        expect(await commits_stored(self._log, after), counted, f"the log {self._log.name}")

    async def _look(self, began: float, after_s: float) -> _Memory:
        await asyncio.sleep(after_s)
        return _Memory(time.perf_counter() - began, rss_bytes(), self._begun)


async def _short(log: Log, pace: Pace) -> list[Round]:
    placing = _Placing(log)
    await placing.run(min(WARM_UP_S, pace.round_s))
    before = await log.head()
    rounds = [await placing.run(pace.round_s) for _ in range(pace.rounds)]
    await placing.stop(sum(one.n for one in rounds), before)
    return rounds


def _grown(memory: list[_Memory]) -> dict[str, float]:
    early, late = memory
    return {
        "rss_early_after_s": round(early.after_s, 1),
        "rss_early_mb": round(early.rss_bytes / 1e6, 1),
        "rss_end_mb": round(late.rss_bytes / 1e6, 1),
        "rss_growth_bytes_per_command": round((late.rss_bytes - early.rss_bytes) / (late.commands - early.commands), 1),
    }


def _read_models() -> list[str]:
    return [projection.name for projection in compose.PROJECTIONS if projection.stream == orders.name]


def _position(standings: Standings) -> int:
    """Up to where all read models of the orders are written."""
    return min(latest.sequence if (latest := standings.latest(name)) else 0 for name in _read_models())


async def until_announced(standings: Standings, worker: Child) -> None:
    """Until a worker keeps all read models of the orders."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while not all(standings.latest(name) for name in _read_models()):
            worker.check()
            await asyncio.sleep(0.1)


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
