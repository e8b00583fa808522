"""`tally doctor`: whether the logs are whole, and still what others remember of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import click
import msgspec
from rich.table import Table

from bus.blocks import BlockDecoder, Chain
from bus.connection import close, connect
from bus.jetstream import JetStreamLog
from bus.log import LogDamaged
from gateway import compose
from gateway.cli.tables import show
from gateway.settings import Settings, from_environment
from gateway.up import broker_alone
from projections.feed import continues, remembered_position


@click.command()
@click.option("--json", "as_json", is_flag=True)
def doctor(as_json: bool) -> None:
    """Check that every log is whole, and still what the witness and the read models remember of it.

    Reads them all from their beginning: no gap, no broken chain, versions contiguous. Needs nothing but the broker.
    """
    found, damage = asyncio.run(_doctor(from_environment()))
    if damage:
        raise click.ClickException("\n".join(damage))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        table = Table("log", "blocks", "commits", "aggregates", box=None)
        for name, counts in found.items():
            table.add_row(name, *(f"{count:,}" for count in counts.values()))
        show(table)
        click.echo("every log is whole")


async def _doctor(settings: Settings) -> tuple[dict[str, dict[str, int]], list[str]]:
    """What each log holds, and all that is wrong, a line each."""
    found: dict[str, dict[str, int]] = {}
    damage: list[str] = []
    decoders = compose.decoders()
    async with AsyncExitStack() as stack:
        client = await connect(await stack.enter_async_context(broker_alone(settings)), "tally")
        stack.push_async_callback(close, client)
        for domain in compose.DOMAINS:
            name = domain.name
            try:
                log = await compose.open_log(client, settings, name)
                found[name] = await _scrub(log, decoders[name])
            except LogDamaged as error:
                damage.append(f"log {name}: {error}")
                continue
            for projection in compose.PROJECTIONS:
                if projection.stream == name and (position := remembered_position(projection, settings.read_models)):
                    try:
                        await continues(log, position)
                    except LogDamaged as error:
                        damage.append(f"read model {projection.name}: {error}")
    return found, damage


async def _scrub(log: JetStreamLog, decoder: BlockDecoder[object]) -> dict[str, int]:
    """What a log holds. Raises `LogDamaged`."""
    chain = Chain(log.epoch, whole=True)
    versions: dict[str, int] = {}
    blocks = commits = 0
    async for batch in log.read(0, await log.head()):
        for one in batch:
            block = chain.follow(one, decoder.decode)
            blocks += 1
            commits += len(block.commits)
            for commit in block.commits:
                before = versions.get(commit.aggregate, 0)
                if commit.version != before + 1:
                    broken = f"{commit.aggregate} goes from version {before} to {commit.version}"
                    raise LogDamaged(f"{broken} in block {one.sequence}")
                versions[commit.aggregate] = commit.version
    return {"blocks": blocks, "commits": commits, "aggregates": len(versions)}
