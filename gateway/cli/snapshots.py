"""`tally snapshot` and `tally restore`: a copy of the read models, and a node that starts from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.table import Table

from gateway import compose
from gateway.cli.read import connected
from gateway.cli.tables import show
from gateway.runtime.up import broker_alone
from gateway.settings import Settings, claim, from_environment
from projections import snapshot as snapshots
from projections.files import ReadModelFiles, RebuildUnderWay
from projections.projection import Projection
from projections.snapshot import Copied, SnapshotRefused

NAMES = [projection.name for projection in compose.PROJECTIONS]


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("names", type=click.Choice(NAMES), nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print what was copied as one JSON array.")
def snapshot(folder: Path, names: Sequence[str], as_json: bool) -> None:
    """Copy the read models (or only NAMEs), each with its position, into FOLDER, a new one. They go on."""
    try:
        manifest = snapshots.take(_wanted(names), ReadModelFiles(from_environment().read_models), folder)
    except SnapshotRefused as error:
        raise click.ClickException(str(error)) from error
    _print(manifest.read_models, as_json)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("names", type=click.Choice(NAMES), nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print what was restored as one JSON array.")
def restore(folder: Path, names: Sequence[str], as_json: bool) -> None:
    """Start a new data folder with the read models (or only NAMEs) of the snapshot in FOLDER.

    What came after it is read from the log when the projection worker starts.
    """
    try:
        copies = asyncio.run(_restore(from_environment(), folder, _wanted(names)))
    except (SnapshotRefused, RebuildUnderWay) as error:
        raise click.ClickException(str(error)) from error
    _print(copies, as_json)


async def _restore(settings: Settings, folder: Path, projections: Sequence[Projection]) -> list[Copied]:
    claim(settings.data_dir)
    async with broker_alone(settings) as where, connected(where) as client:
        streams = dict.fromkeys(projection.stream for projection in projections)
        logs = {stream: await compose.open_log(client, settings, stream) for stream in streams}
        return await snapshots.restore(folder, projections, ReadModelFiles(settings.read_models), logs)


def _wanted(names: Sequence[str]) -> list[Projection]:
    return [projection for projection in compose.PROJECTIONS if not names or projection.name in names]


def _print(copies: Sequence[Copied], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(copies))
        return
    table = Table("read model", "version", "log", "position", "events", "bytes", box=None)
    for one in copies:
        figures = (f"{figure:,}" for figure in (one.sequence, one.events, one.bytes))
        table.add_row(one.name, str(one.version), one.stream, *figures)
    show(table)
