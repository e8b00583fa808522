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
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment, home
from gateway.views.orders import moment_of, up_to
from gateway.views.timeline import TimelineCommit, timeline_of, tree_of
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
    """Print the causal tree of ORDER_ID: every commit that it caused in any log, below what caused it, and how long
    after that it was written."""
    commits = asyncio.run(_timeline(from_environment(), order_id))
    if not commits:
        raise click.ClickException(f"no log holds anything that belongs to {order_id}")
    if as_json:
        click.echo(msgspec.json.encode(commits))
        return
    table = Table(box=None)
    table.add_column("what happened", no_wrap=True)
    for heading in ("after its cause", "after the start"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("position", "to", "by"):
        table.add_column(heading, overflow="fold")
    for branch in tree_of(commits):
        commit = branch.commit
        cells = (
            branch.lines + _what(commit),
            "-" if commit.after_cause_ms is None else f"{commit.after_cause_ms:,.1f} ms",
            f"{commit.after_start_ms:,.1f} ms",
            commit.position,
            f"{commit.aggregate.replace(order_id, 'it')} v{commit.version}",
            commit.actor or "-",
        )
        table.add_row(*map(Text, cells))
    show(table)
    click.echo(_summary(commits))


def _what(commit: TimelineCommit) -> str:
    return ", ".join(str(event["type"]) for event in msgspec.to_builtins(commit.events))


def _summary(commits: list[TimelineCommit]) -> str:
    """How long it took, and where most of that went."""
    whole = f"{len(commits)} commits in {len({commit.domain for commit in commits})} logs"
    whole += f", {max(commit.after_start_ms for commit in commits):,.1f} ms from the first to the last"
    waited = [(commit.after_cause_ms, commit) for commit in commits if commit.after_cause_ms is not None]
    if not waited:
        return whole
    longest_ms, slowest = max(waited, key=lambda pair: pair[0])
    return f"{whole}; the longest wait, {longest_ms:,.1f} ms, was for {_what(slowest)} at {slowest.position}"


async def _timeline(settings: Settings, order_id: str) -> list[TimelineCommit]:
    async with _history(settings, *(each.name for each in compose.LOGS)) as history:
        return timeline_of(await history.of_correlation(order_id))


@asynccontextmanager
async def _history(settings: Settings, *names: str) -> AsyncIterator[History]:
    """The past of a running system, once its indexes show all that these logs hold now."""
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(system(settings))
        client = await connect(where.nats_url, "tally", identity=where.operator)
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
