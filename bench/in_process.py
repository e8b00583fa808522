"""The command engine in the process of its load: the way that all others are held against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bench.closed_loop import closed_loop, up_to
from bench.load import new_tag, sent_order, together
from bench.rounds import Round
from bench.stored import aggregates_stored, expect
from bus.engines.engine import Engine
from bus.engines.states import States
from bus.logs.log import Log
from domains.orders.order import Order, orders


@asynccontextmanager
async def placing_orders(
    log: Log, states: States[Order] | None = None, *, framed: int = 1
) -> AsyncIterator[Callable[[int, int], Awaitable[Round]]]:
    """An engine on a log, deciding orders: so many, with so many in flight, so many a frame; an order's time is that of
    its frame.

    Commands are handed over as they are, not as JSON: that is what being in one process means. (Over NATS they are
    decoded, see `bench/over_nats.py`.)
    """
    engine = Engine(orders, log, states=states)
    await engine.start()

    async def do(in_flight: int, n: int) -> Round:
        tag, before = new_tag(), await log.head()
        frames = [together([sent_order(tag) for _ in range(framed)]) for _ in range(-(-n // framed))]
        done = await closed_loop(lambda number: engine.submit(*frames[number]), in_flight // framed, up_to(len(frames)))
        placed = len(frames) * framed
        expect(await aggregates_stored(log, before, tag), placed, f"the log {log.name}")
        return done._replace(n=placed)

    try:
        yield do
    finally:
        await engine.stop()
