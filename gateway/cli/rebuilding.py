"""`tally rebuild` and `tally rollback`: what the projection worker is asked for, and how it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bus.announcements import RebuildProgress, Standings
from bus.control import ask
from gateway import compose
from gateway.cli.read import connected
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment, home
from projections.worker import ALL, REBUILD, ROLL_BACK

SILENT_S = 30.0
LOOK_EVERY_S = 0.05
NAMES = [projection.name for projection in compose.PROJECTIONS]


@click.command()
@click.argument("name")
@click.option("--accept-difference", is_flag=True, help="Switch even if it is not what the live one is.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def rebuild(name: str, accept_difference: bool, as_json: bool) -> None:
    """Rebuild read model NAME (or `all`) beside the live one, compare the two, switch.

    `all` reads every log once. The build before stays, see `tally rollback`.
    """
    if name not in (ALL, *NAMES):
        raise click.UsageError(f"there is no read model {name}; there are {', '.join(NAMES)} and {ALL}")
    wanted = NAMES if name == ALL else [name]
    parameters = {"name": name, "accept_difference": "yes" if accept_difference else "no"}
    raise SystemExit(asyncio.run(_change(from_environment(), REBUILD, wanted, parameters, as_json)))


@click.command()
@click.argument("name", type=click.Choice(NAMES), metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def rollback(name: str, as_json: bool) -> None:
    """Make the build of NAME that was live before the live one again, brought up to date. The same again undoes it."""
    raise SystemExit(asyncio.run(_change(from_environment(), ROLL_BACK, [name], {"name": name}, as_json)))


async def _change(
    settings: Settings, verb: str, names: Sequence[str], parameters: dict[str, str], as_json: bool
) -> int:
    async with system(settings) as where, connected(where) as client:
        standings = Standings(client, home(settings))
        await standings.start()
        reply = await ask(client, verb, **parameters)
        if reply.code:
            raise click.ClickException(f"{reply.detail} ({reply.code})")
        outcomes = await _follow(standings, verb, names, reply.detail, quiet=as_json)
    if as_json:
        click.echo(msgspec.json.encode(outcomes))
    else:
        for name, what in outcomes.items():
            rate = f" at {what.rate_per_s:,.0f}/s" if verb == REBUILD else ""
            click.echo(f"{name}: {what.state}, {what.events:,} events{rate}; {what.detail}")
    return 1 if any(what.state == "failed" for what in outcomes.values()) else 0


async def _follow(
    standings: Standings, verb: str, names: Sequence[str], id: str, *, quiet: bool
) -> dict[str, RebuildProgress]:
    """Show all of them until they are over."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    loop = asyncio.get_running_loop()
    over: dict[str, RebuildProgress] = {}
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars:
        shown = {name: bars.add_task(f"{verb} {name}", total=100.0, told="") for name in names}
        heard_at = loop.time()
        while loop.time() - heard_at < SILENT_S:
            for name in names:
                if standings.silent_s(name) < SILENT_S:
                    heard_at = loop.time()
                standing = standings.latest(name)
                if standing is not None and standing.rebuild is not None and standing.rebuild.id == id:
                    _show(bars, shown[name], standing.rebuild)
                    if standing.rebuild.state in ("done", "failed"):
                        over[name] = standing.rebuild
            if len(over) == len(names):
                return {name: over[name] for name in names}
            await asyncio.sleep(LOOK_EVERY_S)
    raise click.ClickException(f"nothing was heard of {', '.join(names)} for {SILENT_S:.0f} s")


def _show(bars: Progress, task: TaskID, what: RebuildProgress) -> None:
    left = "" if what.eta_s is None or what.state != "building" else f", {what.eta_s:,.0f} s left"
    told = f"{what.state} {what.percent:.0f} %  {what.events:,} events, {what.rate_per_s:,.0f}/s{left}"
    bars.update(task, completed=what.percent, told=told)
