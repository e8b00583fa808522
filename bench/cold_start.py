"""How long does an engine take to start on a log? It reads, checks and folds every block of its partition.

Rates are in commits read a second; the times are those of a whole start. No budget: workers start from a state store
(`bench/cold.py`).
"""

from __future__ import annotations

import time
from array import array

from bench.baselines.bare_blocks import Writer
from bench.load import commit_of, envelope, place_order
from bench.report import Report, line, result
from bench.rounds import Pace, Round, Told
from bench.server import embedded
from bench.stored import expect
from bus.commands import Envelope, Stored
from bus.engines.engine import Engine
from bus.logs.log import Log
from domains.orders.order import orders
from gateway.runtime.collector import calm_the_collector

BLOCKS = 400
QUICK_BLOCKS = 40
COMMITS = 500
"""In a block."""


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    blocks = QUICK_BLOCKS if quick else BLOCKS
    calm_the_collector()
    async with embedded() as server:
        log = await server.log("orders")
        writer = Writer(log)
        for _ in range(blocks):
            commands = [place_order("") for _ in range(COMMITS)]
            sent = [envelope(command, command.order_id) for command in commands]
            await writer.append([commit_of(*pair) for pair in zip(commands, sent, strict=True)])
        rounds = [await _start(log, sent[-1], blocks * COMMITS) for _ in range(pace.rounds)]
    started = result(f"start_{blocks}_blocks", rounds)
    told(line(started))
    figures = {f"start_{blocks}_blocks_of_{COMMITS}_ms": started.p50_ms}
    return Report("start", server.environment, [started], figures=figures, quick=quick)


async def _start(log: Log, last: Envelope, commits: int) -> Round:
    read = 0

    def progress(sequence: int, head: int) -> None:
        nonlocal read
        read = sequence

    began = time.perf_counter()
    engine = Engine(orders, log, progress=progress)
    await engine.start()
    spent_s = time.perf_counter() - began
    expect(read, await log.head(), "what was read")
    (answer,) = await engine.submit([last])  # It knows the very last command: that is not written again.
    assert isinstance(answer, Stored), answer
    assert answer.repeated
    await engine.stop()
    return Round(spent_s, array("d", [spent_s]), commits)
