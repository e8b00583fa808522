"""The inventory as a process of its own, as `tally work --service inventory` runs it, that can be made slow.

SIGUSR1: from now on each block takes 2 s to be stored, so whatever waits for one takes that long or longer; SIGUSR2: as
before.
"""

from __future__ import annotations

import asyncio
import os
import signal

import uvloop

from bus.logs.jetstream import JetStreamLog
from bus.logs.log import AppendOutcome
from bus.presence import Announcing, this_process
from bus.servers.connection import close, connect
from bus.servers.lifetime import die_with_parent
from domains.inventory.stock import inventory
from gateway import compose
from gateway.runtime.engines import run_engines
from gateway.runtime.logs import log_to_stderr
from gateway.runtime.reactions import run_reactions
from gateway.settings import from_environment

SLOW_S = 2.0


class SlowLog(JetStreamLog):
    delay_s = 0.0

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        await asyncio.sleep(self.delay_s)
        return await super().append(partition, block, block_hash, expected)


def _slow_down(delay_s: float) -> None:
    SlowLog.delay_s = delay_s


async def main() -> None:
    settings = from_environment()
    log_to_stderr(settings)
    services = (inventory.name,)
    loop, told_to_stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told_to_stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _slow_down, SLOW_S)
    loop.add_signal_handler(signal.SIGUSR2, _slow_down, 0.0)
    deciding, reacting = [await connect(settings.nats_url, name) for name in ("callee", "callee-reactions")]
    logs = await compose.open_logs(deciding, settings)
    logs[inventory.name] = await SlowLog.open(deciding, inventory.name, replicas=settings.replicas)
    announcing = Announcing(deciding, this_process(("commands", "processes"), "bench", services))
    running = [
        asyncio.create_task(announcing.run()),
        asyncio.create_task(run_engines(deciding, logs, settings, announcing, services)),
        asyncio.create_task(run_reactions(reacting, await compose.open_logs(reacting, settings), settings, services)),
    ]
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    ended = await asyncio.gather(*running, return_exceptions=True)
    await close(deciding)
    await close(reacting)
    for error in ended:
        if isinstance(error, Exception):
            raise error


if __name__ == "__main__":
    die_with_parent(os.getppid())
    uvloop.run(main())
