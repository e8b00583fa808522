"""What does it cost that commands come from another process? An engine reached over NATS, against one in process.

1,024 in flight. `nats` goes the way that a gateway goes: the sender here, frames to `tally work --part commands` in a
process of its own, as the product runs it. Both on one broker that syncs every write, in rounds that take turns. The
worker that keeps the engine's states stands still while a round is timed, and catches up before the next: what read
models cost is `bench/sustained.py`'s question.

Budget: nats >= 0.45x in_process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_hex

from bench.children import Child, ChildEnded, data_folder, standing_still, tally_work
from bench.closed_loop import closed_loop, up_to
from bench.in_process import placing_orders
from bench.load import ACTOR, new_tag, place_order
from bench.report import Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Round, Told, lasting, take_turns
from bench.server import Server, embedded
from bench.stored import NotStored, aggregates_stored, expect
from bus.announcements import Standings
from bus.commands import Answer, Stored
from domains.orders.order import orders
from gateway import compose
from gateway.runtime.collector import calm_the_collector
from gateway.settings import Settings, home
from projections.aggregate_state import aggregate_state

IN_FLIGHT = 1_024
TIMEOUT_S = 30.0
READY_TIMEOUT_S = 30.0
KEPT_WITHIN_S = 120.0


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    async with (
        embedded() as server,
        placing_orders(await server.log("in_process")) as in_process,
        _sending_orders(server) as over_nats,
    ):
        candidates = {"in_process": in_process, "nats": over_nats}
        ways = {name: lasting(partial(do, IN_FLIGHT), IN_FLIGHT) for name, do in candidates.items()}
        results = [result(f"{name}_{IN_FLIGHT}", rounds) for name, rounds in (await take_turns(ways, pace)).items()]
    for each in results:
        told(line(each))
    ratios = {"nats/in_process_1024": ratio("nats_1024", "in_process_1024", rates(results))}
    budgets = [budget("nats/in_process_1024", 0.45, ratios)]
    return Report("nats", server.environment, results, ratios, budgets, quick=quick)


@asynccontextmanager
async def _sending_orders(server: Server) -> AsyncIterator[Callable[[int, int], Awaitable[Round]]]:
    log = await server.log("orders")
    sender = compose.sender(server.client, {log.name: log})
    standings = Standings(server.client, home(Settings(data_dir=data_folder(server))))
    await standings.start()

    async def do(in_flight: int, n: int) -> Round:
        tag, before = new_tag(), await log.head()
        commands = [(place_order(tag), token_hex(16), f"00-{token_hex(16)}-{token_hex(8)}-01") for _ in range(n)]

        async def send(number: int) -> None:
            command, key, trace = commands[number]
            _stored(
                await sender.send(
                    command, id=key, actor=ACTOR, correlation=command.order_id, trace=trace, timeout_s=TIMEOUT_S
                )
            )

        with standing_still(keeper.pid):
            done = await closed_loop(lambda number: asyncio.ensure_future(send(number)), in_flight, up_to(n))
        expect(await aggregates_stored(log, before, tag), n, "the log orders")
        keeper.check()
        if not await standings.wait(aggregate_state(orders).name, await log.head(), KEPT_WITHIN_S):
            raise ChildEnded("the states were not kept in time")
        return done

    with tally_work("projections", server) as keeper, tally_work("commands", server) as engines:
        await _until_ready(engines, lambda: sender.ping("orders"))
        yield do


def _stored(answer: Answer) -> None:
    if not isinstance(answer, Stored):
        raise NotStored(f"a command was answered {answer}")


async def _until_ready(worker: Child, ready: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while not await ready():
            worker.check()
            await asyncio.sleep(0.1)
