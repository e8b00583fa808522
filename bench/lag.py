"""How soon can what was written be read? From an event on disk to its row in a query's answer, at 2,000 commits/s.

Orders placed one by one at that rate, whatever their answers take, by an engine in this process; the projection worker
of the product (`tally work --part projections`) in another on the same cores, with all read models of the orders. Each
order is waited for as a gateway waits for a `Min-Position`, and then looked up: its row must be there.

- `event_to_row`: from the acknowledgement, which is the event on disk, to the row;
- `command_to_row`: from handing the command over; `acknowledged`: the part of it before the acknowledgement.

Budget: p99 of event_to_row at most 25 ms.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from typing import NamedTuple

from bench.children import data_folder, tally_work
from bench.load import new_tag, sent_order
from bench.report import Bars, Report, budget, line, result
from bench.rounds import BenchmarkFailed, Pace, Round, Told
from bench.server import embedded
from bench.stored import aggregates_stored, expect
from bench.sustained import until_announced
from bus.announcements import Standings
from bus.commands import Stored
from bus.engines.engine import Engine
from bus.logs.log import Log
from domains.orders.messages import OrderCommand, OrderEvent
from domains.orders.order import Order, orders
from gateway.runtime.collector import calm_the_collector
from gateway.settings import Settings, home
from projections.order_summary import SUMMARY, order_summary
from projections.reader import Reader

RATE_PER_S = 2_000
KEPT_SHARE = 0.9
"""Of that rate at least, or the load was none."""
ROUND_S = 10.0
QUICK_ROUND_S = 3.0
WARM_UP_S = 1.0
VISIBLE_TIMEOUT_S = 10.0


class NeverSeen(BenchmarkFailed):
    """A row did not come."""


class FellBehind(BenchmarkFailed):
    """The load was less than it says."""


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    async with embedded() as server:
        standings = Standings(server.client, home(Settings(data_dir=data_folder(server))))
        await standings.start()
        log = await server.log(orders.name)
        engine = Engine(orders, log)
        await engine.start()
        with tally_work("projections", server) as worker:
            await until_announced(standings, worker)
            reader = Reader(Settings(data_dir=data_folder(server)).read_models)
            try:
                placing = _Placing(engine, log, standings, reader)
                await placing.run(WARM_UP_S)
                rounds = [await placing.run(QUICK_ROUND_S if quick else ROUND_S) for _ in range(pace.rounds)]
            finally:
                await reader.close()
            worker.check()
        await engine.stop()
    results = [result(name, [getattr(one, name) for one in rounds]) for name in _Lags._fields]
    for each in results:
        told(line(each))
    ratios = {"event_to_row_p99_ms": results[0].p99_ms}
    return Report(
        "lag",
        server.environment,
        results,
        ratios,
        [budget("event_to_row_p99_ms", 25.0, ratios, at_most=True)],
        {"commits_per_s": results[0].rate_per_s},
        quick=quick,
        bars=[Bars("lag", f"Milliseconds at {RATE_PER_S:,} commits a second, p99", "p99_ms", list(_Lags._fields))],
    )


class _Lags(NamedTuple):
    event_to_row: Round
    command_to_row: Round
    acknowledged: Round


class _Placing:
    """Places orders at the rate, and looks for each."""

    def __init__(
        self, engine: Engine[Order, OrderCommand, OrderEvent], log: Log, standings: Standings, reader: Reader
    ) -> None:
        self._engine = engine
        self._log = log
        self._standings = standings
        self._reader = reader

    async def run(self, seconds: float) -> _Lags:
        tag, before, n = new_tag(), await self._log.head(), int(RATE_PER_S * seconds)
        event_to_row, command_to_row, acknowledged = array("d"), array("d"), array("d")

        async def place() -> None:
            sent = sent_order(tag)
            began = time.perf_counter()
            (answer,) = await self._engine.submit(*sent)
            stored = time.perf_counter()
            assert isinstance(answer, Stored), answer
            order_id = sent.commands[0].order_id
            if not await self._standings.wait(order_summary.name, answer.position, VISIBLE_TIMEOUT_S):
                raise NeverSeen(f"order {order_id} was not shown within {VISIBLE_TIMEOUT_S:g} s")
            if await self._reader.one(SUMMARY, order_id=order_id) is None:
                raise NeverSeen(f"order {order_id} is not there, though its position was announced")
            seen = time.perf_counter()
            event_to_row.append(seen - stored)
            command_to_row.append(seen - began)
            acknowledged.append(stored - began)

        began = time.perf_counter()
        placing: list[asyncio.Task[None]] = []
        for number in range(n):
            early_s = began + number / RATE_PER_S - time.perf_counter()
            if early_s > 0:
                await asyncio.sleep(early_s)
            placing.append(asyncio.create_task(place()))
        loaded_s = time.perf_counter() - began
        await asyncio.gather(*placing)
        spent_s = time.perf_counter() - began
        if n / loaded_s < KEPT_SHARE * RATE_PER_S:
            raise FellBehind(f"only {n / loaded_s:,.0f} commands/s were handed over, not {RATE_PER_S:,}")
        expect(await aggregates_stored(self._log, before, tag), n, f"the log {self._log.name}")
        return _Lags(*(Round(spent_s, times_s, n) for times_s in (event_to_row, command_to_row, acknowledged)))
