"""`tally processes`: what is under way between the services, how it ended, and a hand where it does not go on."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable
from typing import get_args
from uuid import uuid4

import click
import msgspec
from msgspec import Struct
from rich.table import Table

from bus.commands import Answer, Refused, Stored
from bus.servers.connection import close, connect
from domains.processes.messages import Compensate, Intervention, RetryStep, SkipStep
from gateway import compose
from gateway.cli.tables import show
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment
from gateway.views.processes import Process, ProcessStatus, processes_of
from projections.reader import Reader, ReadModelMissing


class Intervened(Struct, frozen=True):
    process_id: str
    version: int
    position: str


@click.group(invoke_without_command=True)
@click.option("--status", type=click.Choice(get_args(ProcessStatus)), help="Only those that stand so.")
@click.option("--after", default="", help="Begin behind this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def processes(context: click.Context, status: ProcessStatus | None, after: str, limit: int, as_json: bool) -> None:
    """Show the checkouts, by the ids of their orders: where each is, since when, and what it did last."""
    if context.invoked_subcommand is not None:
        return
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


_Verb = Callable[[str, str, bool], None]


def _intervention(verb: _Verb) -> click.Command:
    reason = click.option("--reason", required=True, help="Why; it is kept, with who it was.")
    as_json = click.option("--json", "as_json", is_flag=True)
    return processes.command()(click.argument("process_id")(reason(as_json(verb))))


@_intervention
def retry(process_id: str, reason: str, as_json: bool) -> None:
    """Send again what PROCESS_ID has no answer to. Whoever did it already does nothing more."""
    _intervene(RetryStep(process_id, reason), as_json)


@_intervention
def skip(process_id: str, reason: str, as_json: bool) -> None:
    """Let PROCESS_ID go on as if what it waits for had come: it was seen to otherwise, and will not be taken back."""
    _intervene(SkipStep(process_id, reason), as_json)


@_intervention
def compensate(process_id: str, reason: str, as_json: bool) -> None:
    """Give PROCESS_ID up: what was done is taken back, the last first, and the order is cancelled."""
    _intervene(Compensate(process_id, reason), as_json)


def _intervene(command: Intervention, as_json: bool) -> None:
    answer, position = asyncio.run(_sent(from_environment(), command))
    match answer:
        case Stored(version=version):
            told = Intervened(command.order_id, version, position)
            spoken = f"{told.process_id} is told, at {told.position}"
            click.echo(msgspec.json.encode(told).decode() if as_json else spoken)
        case Refused(code, detail):
            raise click.ClickException(f"{detail} ({code})")
        case other:
            raise click.ClickException(f"nobody answers ({type(other).__name__.lower()}): look whether it was done")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # Nobody has a name for it: in a container, say.
        return str(os.getuid())


async def _sent(settings: Settings, command: Intervention) -> tuple[Answer, str]:
    """What was answered, and where it lies."""
    async with system(settings) as where:
        client = await connect(where.nats_url, "tally", identity=where.operator)
        try:
            sender = compose.sender(client, await compose.open_logs(client, settings))
            answer = await sender.send(
                command, id=f"tally-{uuid4().hex}", actor=f"tally:{_who()}", correlation=command.order_id
            )
            return answer, sender.position(command, answer.position if isinstance(answer, Stored) else 0)
        finally:
            await close(client)
