"""`tally parked`, `redrive` and `discard`: what read models could not handle, what was given up of commands, jobs and
reactions, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import click
import msgspec
from rich.table import Table

from bus.servers.connection import Client, close, connect
from gateway.cli.tables import show
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment
from gateway.views import parked as mend
from gateway.views.parked import AllParked, NotMended
from projections.mending import Parked
from projections.parking import Redriven

Result = TypeVar("Result")

_read_model = click.option(
    "--in",
    "read_model",
    default="",
    help="Only in this read model; `commands`, `jobs`, or what reacts, are those given up.",
)
_as_json = click.option("--json", "as_json", is_flag=True)


@click.command()
@_as_json
def parked(as_json: bool) -> None:
    """Show every parked key: where its first commit lies, what is wrong with it, how many wait."""
    found = asyncio.run(_parked(from_environment()))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    table = Table("read model", "key", "commits", "first at", "of", "error", box=None)
    for one in found.items:
        place = f"{one.stream}={one.sequence}.{one.offset}"
        table.add_row(one.read_model, one.key, str(one.commits), place, one.at, one.error or "not tried yet")
    show(table)
    if found.left_out:
        click.echo(f"and {found.left_out} more keys")
    if found.silent:
        click.echo(f"nobody says what reactions of {', '.join(found.silent)} are parked: nobody runs them")


async def _parked(settings: Settings) -> AllParked:
    async with _connected(settings) as client:
        return await _listed(client, "")


@click.command()
@click.argument("key")
@_read_model
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@_as_json
def redrive(key: str, read_model: str, dry_run: bool, as_json: bool) -> None:
    """Deal again with what waits for KEY, in order. Exit code 1 when something waits still."""
    outcomes = asyncio.run(_redrive(from_environment(), key, read_model, dry_run))
    _tell(key, outcomes, as_json, "would be redriven" if dry_run else "redriven")


async def _redrive(settings: Settings, key: str, read_model: str, dry_run: bool) -> dict[str, Redriven]:
    async with _connected(settings) as client:
        outcomes: dict[str, Redriven] = {}
        for one in await _parked_under(client, key, read_model):
            before, now = outcomes.get(one.read_model, Redriven(0, 0)), await _redriven(client, one, dry_run=dry_run)
            outcomes[one.read_model] = Redriven(before.redriven + now.redriven, now.left, now.error)
        return outcomes


@click.command()
@click.argument("key")
@_read_model
@click.option("--reason", required=True, help="Why; it is kept.")
@_as_json
def discard(key: str, read_model: str, reason: str, as_json: bool) -> None:
    """Give up the first commit that waits for KEY, for ever, and deal with what is behind it."""
    outcomes = asyncio.run(_discard(from_environment(), key, read_model, reason))
    _tell(key, outcomes, as_json, "redriven behind what was discarded")


async def _discard(settings: Settings, key: str, read_model: str, reason: str) -> dict[str, Redriven]:
    async with _connected(settings) as client:
        found = await _parked_under(client, key, read_model)
        if len(found) > 1:
            names = ", ".join(one.read_model for one in found)
            raise click.UsageError(f"{key} is parked in {names}: say --in which of them")
        one = found[0]
        first = await _done(mend.discard(client, one.id, one.sequence, one.offset, reason))
        return {one.read_model: await _redriven(client, one, first)}


async def _redriven(client: Client, one: Parked, so_far: Redriven | None = None, *, dry_run: bool = False) -> Redriven:
    """The whole queue, a bounded part a request, up to what fails again. Nothing is changed by a dry run, so that tells
    of the first part only."""
    total = so_far or Redriven(0, one.commits)
    while total.left and not total.error:
        part = await _done(mend.redrive(client, one.id, dry_run=dry_run))
        total = Redriven(total.redriven + part.redriven, part.left, part.error)
        if dry_run:
            break
    return total


def _tell(key: str, outcomes: dict[str, Redriven], as_json: bool, done: str) -> None:
    if as_json:
        click.echo(msgspec.json.encode(outcomes))
    for name, outcome in outcomes.items():
        if not as_json:
            wrong = f"; the first of them fails: {outcome.error}" if outcome.error else ""
            click.echo(f"{name}: {outcome.redriven} commits of {key} {done}, {outcome.left} left{wrong}")
    raise SystemExit(1 if any(outcome.left for outcome in outcomes.values()) else 0)


async def _listed(client: Client, key: str) -> AllParked:
    return await _done(mend.parked(client, key))


async def _parked_under(client: Client, key: str, read_model: str) -> list[Parked]:
    found = (await _listed(client, key)).items
    of_model = [one for one in found if read_model in ("", one.read_model)]
    if not of_model:
        raise click.ClickException(f"nothing of {key} is parked" + (f" in {read_model}" if read_model else ""))
    return of_model


async def _done(doing: Awaitable[Result]) -> Result:
    try:
        return await doing
    except NotMended as error:
        raise click.ClickException(str(error)) from error


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Client]:
    async with system(settings) as where:
        client = await connect(where.nats_url, "tally", identity=where.operator)
        try:
            yield client
        finally:
            await close(client)
