"""Verbs that look: where the read models stand, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
import msgspec
from rich.table import Table

from bus.announcements import Standing, Standings
from bus.logs.jetstream import JetStreamLog
from bus.servers.connection import Client, close, connect
from gateway import compose
from gateway.cli.tables import show
from gateway.runtime.running import Reached, Running
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment, home
from gateway.views.events import shown

HEARD_WITHIN_S = 3.0


@click.command()
@click.option("--json", "as_json", is_flag=True)
def projections(as_json: bool) -> None:
    """Show every read model: its position, its lag, what it parked, its last error."""
    standings = asyncio.run(_standings(from_environment()))
    if as_json:
        click.echo(msgspec.json.encode(standings))
        return
    table = Table("read model", "version", "log", "position", "head", "lag", "parked", "error", box=None)
    for one in standings:
        table.add_row(
            one.name,
            str(one.version),
            one.stream,
            str(one.sequence),
            str(one.head) if one.lag_s is not None else "unseen",
            _lag(one),
            f"{one.parked_keys} keys, {one.parked_commits} commits" if one.parked_keys else "-",
            one.error or "-",
        )
    show(table)


def _lag(standing: Standing) -> str:
    if standing.lag_s is None:
        return "unknown"
    return f"{standing.lag_events:,} events, {standing.lag_s:.1f} s" if standing.lag_events else "-"


async def _standings(settings: Settings) -> list[Standing]:
    async with system(settings) as where, connected(where) as client:
        standings = Standings(client, home(settings))
        await standings.start()
        for projection in compose.PROJECTIONS:
            await standings.wait(projection.name, 0, HEARD_WITHIN_S)
        return [found for projection in compose.PROJECTIONS if (found := standings.latest(projection.name))]


@click.command()
@click.argument("domain", type=click.Choice([each.name for each in compose.LOGS]))
@click.option("--after", type=click.IntRange(0), default=0, help="Begin behind this position.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Commits at most.")
def events(domain: str, after: int, limit: int) -> None:
    """Print the commits of a domain's log, one JSON object a line, each event in today's version."""
    asyncio.run(_events(from_environment(), domain, after, limit))


async def _events(settings: Settings, domain: str, after: int, limit: int) -> None:
    decode = compose.decoders()[domain].decode
    async with _log(settings, domain) as log:
        left = limit
        async for batch in log.read(after, await log.head()):
            for record in batch:
                block = decode(record.data)
                for commit in block.commits[:left]:
                    fields = {**msgspec.to_builtins(commit), "events": shown(commit.events)}
                    click.echo(msgspec.json.encode({"position": record.sequence, "at": block.at, **fields}))
                left -= min(left, len(block.commits))
                if not left:
                    return


@asynccontextmanager
async def connected(where: Running | Reached) -> AsyncIterator[Client]:
    client = await connect(where.nats_url, "tally", identity=where.operator)
    try:
        yield client
    finally:
        await close(client)


@asynccontextmanager
async def _log(settings: Settings, domain: str) -> AsyncIterator[JetStreamLog]:
    async with system(settings) as where, connected(where) as client:
        yield await compose.open_log(client, settings, domain)
