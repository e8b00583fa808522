"""Verbs that read the past back from the log: the state of an aggregate at a moment, the timeline of an order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import click
import msgspec
from rich.table import Table
from rich.text import Text

from bus.announcements import Standings
from bus.logs.log import EPOCH_SEQUENCE
from bus.servers.connection import close, connect
from gateway import compose
from gateway.cli.tables import show
from gateway.http.problems import Problem
from gateway.routes.order_changes import TimelineCommit, timeline_commit
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment, home
from gateway.views.orders import moment_of, up_to
from projections.commit_index import commit_index
from projections.history import History
from projections.reader import Reader

INDEXED_WITHIN_S = 30.0


@click.command()
@click.argument("domain", type=click.Choice([domain.name for domain in compose.DOMAINS]))
@click.argument("aggregate")
@click.option("--as-of", default="", help="A version, or a time in RFC 3339: by when things occurred.")
def inspect(domain: str, aggregate: str, as_of: str) -> None:
    """Print the state of one aggregate, folded from the log: now, or as of a moment."""
    try:
        moment = moment_of(as_of) if as_of else None
    except Problem as problem:
        raise click.UsageError(f"--as-of takes {problem.detail}") from problem
    asyncio.run(_inspect(from_environment(), domain, aggregate, moment))


async def _inspect(settings: Settings, name: str, aggregate: str, moment: int | datetime | None) -> None:
    domain = next(domain for domain in compose.DOMAINS if domain.name == name)
    async with _history(settings, name) as history:
        commits = await history.of_aggregate(name, aggregate)
    if not commits:
        raise click.ClickException(f"nothing ever happened to {aggregate} in {name}")
    if isinstance(moment, datetime):
        commits = up_to(commits, moment)
    elif moment is not None:
        if not 1 <= moment <= len(commits):
            raise click.ClickException(f"{aggregate} has versions 1 to {len(commits)}")
        commits = commits[:moment]
    state = domain.initial(aggregate)
    for recorded in commits:
        for event in recorded.commit.events:
            state = domain.evolve(state, event)
    click.echo(msgspec.json.encode({"aggregate": aggregate, "version": len(commits), "state": state}))


@click.command()
@click.argument("order_id")
@click.option("--json", "as_json", is_flag=True, help="Print the commits as one JSON array.")
def replay(order_id: str, as_json: bool) -> None:
    """Print the timeline of ORDER_ID: every commit that it caused in any log, and what caused each."""
    commits = asyncio.run(_timeline(from_environment(), order_id))
    if not commits:
        raise click.ClickException(f"no log holds anything that belongs to {order_id}")
    if as_json:
        click.echo(msgspec.json.encode(commits))
        return
    began = datetime.fromisoformat(commits[0].at)
    table = Table(box=None)
    for heading in ("after", "position", "caused by", "actor", "what happened", "to"):
        table.add_column(heading, overflow="fold")
    for commit in commits:
        after_ms = (datetime.fromisoformat(commit.at) - began).total_seconds() * 1_000
        names = ", ".join(str(event["type"]) for event in msgspec.to_builtins(commit.events))
        to = commit.aggregate.replace(order_id, "it")
        cells = (f"{after_ms:,.1f} ms", commit.position, commit.cause or "-", commit.actor or "-", names)
        table.add_row(*map(Text, cells), Text(f"{to} v{commit.version}"))
    show(table)


async def _timeline(settings: Settings, order_id: str) -> list[TimelineCommit]:
    async with _history(settings, *(each.name for each in compose.LOGS)) as history:
        return [timeline_commit(name, recorded) for name, recorded in await history.of_correlation(order_id)]


@asynccontextmanager
async def _history(settings: Settings, *names: str) -> AsyncIterator[History]:
    """The past of a running system, once its indexes show all that these logs hold now."""
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(system(settings))
        client = await connect(where.nats_url, "tally")
        stack.push_async_callback(close, client)
        logs = await compose.open_logs(client, settings)
        standings = Standings(client, home(settings))
        await standings.start()
        for name in names:
            index = commit_index(name).name
            head = await logs[name].head()
            if head > EPOCH_SEQUENCE and not await standings.wait(index, head, INDEXED_WITHIN_S):
                raise click.ClickException(f"{index} does not show yet what {name} holds: is anybody projecting?")
        reader = Reader(settings.read_models)
        stack.push_async_callback(reader.close)
        yield History(reader, logs, compose.decoders())
