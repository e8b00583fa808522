"""`tally processes`: what is under way between the services, and how it ended."""

from __future__ import annotations

import asyncio
from typing import get_args

import click
import msgspec
from rich.table import Table

from gateway.cli.tables import show
from gateway.processes import Process, ProcessStatus, processes_of
from gateway.settings import Settings, from_environment
from projections.reader import Reader, ReadModelMissing


@click.command()
@click.option("--status", type=click.Choice(get_args(ProcessStatus)), help="Only those that stand so.")
@click.option("--after", default="", help="Begin behind this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def processes(status: ProcessStatus | None, after: str, limit: int, as_json: bool) -> None:
    """Show the checkouts, by the ids of their orders: where each is, since when, and what it did last."""
    try:
        found = asyncio.run(_processes(from_environment(), status, after, limit))
    except ReadModelMissing as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    table = Table("process", "id", "status", "state", "saw last", "and had done", "since", box=None)
    for each in found:
        done = ", ".join(each.commands) or "-"
        table.add_row(each.process, each.process_id, each.status, each.state, each.event, done, each.changed_at)
    show(table)


async def _processes(settings: Settings, status: ProcessStatus | None, after: str, limit: int) -> list[Process]:
    reader = Reader(settings.read_models)
    try:
        return await processes_of(reader, status, after, limit)
    finally:
        await reader.close()
