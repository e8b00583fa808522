"""Logs full of placed orders, and the stored states of their aggregates: where benchmarks of many aggregates begin."""

from __future__ import annotations

from pathlib import Path

from bench.baselines.bare_blocks import Writer
from bench.load import commit_of, envelope, place_order
from bench.server import Server
from bench.stored import expect
from bus.logs.blocks import Chain, block_decoder
from bus.logs.log import Log
from domains.orders.order import orders
from projections.aggregate_state import aggregate_state
from projections.batches import Batch, ReadBlock
from projections.commit_index import commit_index
from projections.files import ReadModelFiles
from projections.store import Store

COMMITS = 500
"""In a block."""


async def placed(server: Server, name: str, ids: list[str]) -> Log:
    """A log in which these orders are placed."""
    log = await server.log(name)
    writer = Writer(log)
    for begin in range(0, len(ids), COMMITS):
        commits: list[bytes] = []
        for order_id in ids[begin : begin + COMMITS]:
            command = place_order("", order_id)
            commits.append(commit_of(command, envelope(command, order_id)))
        await writer.append(commits)
    return log


async def project(log: Log, folder: Path) -> None:
    """Store the states and the index of all that a log holds."""
    files, decode = ReadModelFiles(folder), block_decoder(orders.events).decode
    for projection in (aggregate_state(orders), commit_index(orders.name)):
        chain = Chain(log.epoch, whole=True)
        with Store.create(projection, files.next_build(projection), log.epoch) as store:
            async for records in log.read(until=await log.head()):
                blocks: list[ReadBlock] = []
                for record in records:
                    block = chain.follow(record, decode)
                    blocks.append(ReadBlock(record.sequence, block.at, block.commits))
                store.apply(Batch(blocks, dict(chain.tips)))
            expect(store.position.sequence, await log.head(), f"the read model {projection.name}")
            files.switch(projection.name, store.path)
