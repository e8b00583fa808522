"""`tally services`: which processes are there, and who owns which partition."""

from __future__ import annotations

import asyncio

import click
import msgspec
from rich.table import Table

from bus.presence import REPEAT_S, Present
from bus.servers.connection import close, connect
from gateway import compose
from gateway.cli.tables import show
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment
from gateway.views.services import Services, services_of

LISTEN_S = 1.5 * REPEAT_S


@click.command()
@click.option("--json", "as_json", is_flag=True)
def services(as_json: bool) -> None:
    """Show which processes are there, and who owns which partition."""
    found = asyncio.run(_services(from_environment()))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    table = Table("process", "parts", "of", "host", "pid", "since", "version", "answers at", box=None)
    for each in found.services:
        parts, of = ", ".join(each.parts), ", ".join(each.services) or "all services"
        since, at = f"{each.since:%Y-%m-%d %H:%M:%SZ}", ", ".join(offer.address for offer in each.offers) or "-"
        table.add_row(each.id, parts, of, each.host, str(each.pid), since, each.version, at)
    show(table)
    click.echo()
    table = Table("partition", "owner", "token", "state", "queue", "position", box=None)
    for owner in found.partitions:
        table.add_row(
            f"{owner.domain}/{owner.partition}",
            owner.owner or "-",
            "-" if owner.token is None else str(owner.token),
            owner.state,
            str(owner.queue),
            str(owner.position),
        )
    show(table)


async def _services(settings: Settings) -> Services:
    """What is heard in the time in which everybody says that he is there."""
    async with system(settings) as where:
        client = await connect(where.nats_url, "tally", identity=where.operator)
        try:
            logs = await compose.open_logs(client, settings)
            present = Present(client)
            await present.start()
            await asyncio.sleep(LISTEN_S)
            return services_of(present.workers(), {name: log.partitions for name, log in logs.items()})
        finally:
            await close(client)
