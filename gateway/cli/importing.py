"""`tally import`: real orders from a folder in Olist's format, and how exactly they came through."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bus.announcements import Standings
from bus.servers.connection import close, connect
from gateway import compose
from gateway.importing.folder import ImportResult, import_records
from gateway.importing.olist import Records, read_folder
from gateway.importing.report import as_json, render
from gateway.importing.rows import FolderUnusable
from gateway.importing.run import ImportFailed, OnProgress
from gateway.runtime.up import system
from gateway.settings import Settings, from_environment, home
from projections.reader import Reader

EXIT_DIFFERS = 1
EXIT_STOPPED = 130

_GO_ON = "what was sent is safe: run the import again, it goes on from there"


@click.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "json", is_flag=True, help="Print the whole result as one JSON object.")
def import_(folder: Path, json: bool) -> None:
    """Import a folder in the format of the Olist dataset, and reconcile it with the read models.

    Runs against what `tally up` runs on the data folder, or starts what it needs. Running it again changes nothing,
    or goes on where it was interrupted. Bad rows are named and skipped.

    Exit codes: 0 reconciled, 1 differs, refused or failed, 2 not a folder in that format, 3 cannot start.
    """
    try:
        records = read_folder(folder)  # Before anything is started for it.
        result = uvloop.run(_import(from_environment(), records))
    except FolderUnusable as error:
        raise click.UsageError(str(error)) from error
    except ImportFailed as error:
        click.echo(f"tally: {error}", err=True)
        raise SystemExit(EXIT_DIFFERS) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo(f"tally: stopped; {_GO_ON}", err=True)
        raise SystemExit(EXIT_STOPPED) from None
    if json:
        click.echo(as_json(result))
    else:
        render(result, Console())
    raise SystemExit(0 if result.ok else EXIT_DIFFERS)


async def _import(settings: Settings, records: Records) -> ImportResult:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with system(settings, lambda line: click.echo(line, err=True)) as where:
        client = await connect(where.nats_url, "import", identity=where.operator)
        reader = Reader(settings.read_models)
        try:
            standings = Standings(client, home(settings))
            await standings.start()
            with _progress() as told:
                logs = await compose.open_logs(client, settings)
                return await import_records(records, compose.sender(client, logs), reader, standings, logs, told)
        finally:
            await reader.close()
            await close(client)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on the terminal's error stream; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("importing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
