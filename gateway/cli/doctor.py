"""`tally doctor`: whether the logs are whole, and whether today's code still makes of recorded ones what it made."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

import click
import msgspec
from rich.table import Table

from bus.logs.blocks import BlockDecoder, Chain
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import LogDamaged
from gateway import compose
from gateway.cli.read import connected
from gateway.cli.tables import show
from gateway.history.recorded import RecordingUnreadable, opened, record
from gateway.history.replay import Found, ReplayFailed, differences, replay
from gateway.runtime.up import broker_alone
from gateway.settings import Settings, from_environment
from projections.books import discrepancies
from projections.feed import continues, remembered_position
from projections.files import ReadModelFiles
from projections.reader import ReadModelMissing


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check that every log is whole, and still what the witness and the read models remember of it.

    Reads them all from their beginning: no gap, no broken chain, versions contiguous. Needs nothing but the broker.
    """
    if context.invoked_subcommand is not None:
        return
    found, damage = asyncio.run(_doctor(from_environment()))
    if damage:
        raise click.ClickException("\n".join(damage))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        table = Table("log", "blocks", "commits", "aggregates", box=None)
        for name, counts in found.items():
            table.add_row(name, *(f"{count:,}" for count in counts.values()))
        show(table)
        click.echo("every log is whole")


async def _doctor(settings: Settings) -> tuple[dict[str, dict[str, int]], list[str]]:
    """What each log holds, and all that is wrong, a line each."""
    found: dict[str, dict[str, int]] = {}
    damage: list[str] = []
    decoders = compose.decoders()
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(broker_alone(settings))
        client = await stack.enter_async_context(connected(where))
        for domain in compose.LOGS:
            name = domain.name
            try:
                log = await compose.open_log(client, settings, name)
                found[name] = await _scrub(log, decoders[name])
            except LogDamaged as error:
                damage.append(f"log {name}: {error}")
                continue
            for projection in compose.PROJECTIONS:
                if projection.stream == name and (position := remembered_position(projection, settings.read_models)):
                    try:
                        await continues(log, position)
                    except LogDamaged as error:
                        damage.append(f"read model {projection.name}: {error}")
    return found, damage


async def _scrub(log: JetStreamLog, decoder: BlockDecoder[object]) -> dict[str, int]:
    """What a log holds. Raises `LogDamaged`."""
    chain = Chain(log.epoch, whole=True)
    versions: dict[str, int] = {}
    blocks = commits = 0
    async for batch in log.read(0, await log.head()):
        for one in batch:
            block = chain.follow(one, decoder.decode)
            blocks += 1
            commits += len(block.commits)
            for commit in block.commits:
                before = versions.get(commit.aggregate, 0)
                if commit.version != before + 1:
                    broken = f"{commit.aggregate} goes from version {before} to {commit.version}"
                    raise LogDamaged(f"{broken} in block {one.sequence}")
                versions[commit.aggregate] = commit.version
    return {"blocks": blocks, "commits": commits, "aggregates": len(versions)}


@doctor.command()
@click.option("--json", "as_json", is_flag=True)
def books(as_json: bool) -> None:
    """Check that each order's payment and shipment are as the order says: captured is what was given back and what
    shipped or open orders keep. Reads the read models; what is under way at this moment may be shown."""
    try:
        found = discrepancies(ReadModelFiles(from_environment().read_models))
    except ReadModelMissing as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(found))
    elif found:
        table = Table("order", "is", "payment", "shipment", "captured", "refunded", "wrong", box=None)
        for one in found:
            states = (one.order_status, one.payment_status or "-", one.shipment_status or "-")
            table.add_row(one.order_id, *states, str(one.captured_cents), str(one.refunded_cents), one.wrong)
        show(table)
    else:
        click.echo("the books are balanced")
    raise SystemExit(1 if found else 0)


@doctor.command("record")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def record_(file: Path) -> None:
    """Write all that the logs hold to FILE, a line a block: what `replay` takes.

    Needs nothing but the broker. Where FILE ends in .gz it is compressed.
    """
    try:
        with opened(file, "xb") as out:
            try:
                blocks = asyncio.run(_record(from_environment(), out))
            except BaseException:  # Raised again: half a recording is none.
                file.unlink()
                raise
    except FileExistsError as error:
        raise click.UsageError(f"{file} is there already") from error
    except OSError as error:
        if error.errno is None:  # A timeout, and no trouble with the file.
            raise
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
    click.echo("recorded blocks: " + ", ".join(f"{name} {count:,}" for name, count in blocks.items()))


async def _record(settings: Settings, out: IO[bytes]) -> dict[str, int]:
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(broker_alone(settings))
        client = await stack.enter_async_context(connected(where))
        return await record((await compose.open_logs(client, settings)).values(), out)


@doctor.command("replay")
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--accept", is_flag=True, help="Keep what is found: the next replay is compared with it.")
@click.option("--json", "as_json", is_flag=True, help="Print what is found as one JSON object.")
def replay_(log: Path, accept: bool, as_json: bool) -> None:
    """Fold every aggregate and build every read model from a recorded LOG, with today's code.

    What comes of it is compared with what is kept beside NAME.jsonl or NAME.jsonl.gz, in NAME.digests.json. Exit code 1
    when it differs, or LOG cannot be read.
    """
    try:
        found = replay(log)
    except (RecordingUnreadable, ReplayFailed) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _show(found)
    beside = log.with_name(log.name.removesuffix(".gz").removesuffix(".jsonl") + ".digests.json")
    if accept:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
        return
    try:
        before = msgspec.json.decode(beside.read_bytes(), type=Found)
    except FileNotFoundError as error:
        raise click.ClickException(f"there is no {beside} to compare with: --accept makes it") from error
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{beside} cannot be read: {error}") from error
    if found != before:
        raise click.ClickException("\n".join([*differences(before, found), "--accept keeps what is meant"]))
    if not as_json:
        click.echo("all is as it was")


def _show(found: Found) -> None:
    table = Table("log", "blocks", "commits", "events", box=None)
    for name, log in found.logs.items():
        table.add_row(name, f"{log.blocks:,}", f"{log.commits:,}", f"{sum(log.events.values()):,}")
    show(table)
    table = Table("read model/table", "rows", "digest", box=None)
    for name, one in found.tables.items():
        table.add_row(name, f"{one.rows:,}", one.digest[:12])
    show(table)
