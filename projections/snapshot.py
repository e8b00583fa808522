"""A copy of read models with their positions: a node that starts from one reads only what came after it.

<folder>/manifest.json         what is in it; written last, so a folder without one holds no whole snapshot
<folder>/order_summary@1.db    one file a read model, as it was at one moment: rows and position together

A snapshot is of one log by its epoch, and of one version of the code. It saves time and is no backup: the log is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from bus.logs.log import Log, LogDamaged
from projections.feed import continues
from projections.files import PART, WHOLE, ReadModelFiles, remove, sync
from projections.projection import Projection
from projections.store import OtherFormat, Position, Store

FORMAT = 1
MANIFEST = "manifest.json"
PIECE_BYTES = 1024 * 1024


class SnapshotRefused(Exception):
    """A snapshot cannot be taken, or is not of this system. One line that says why."""


class Copied(Struct, frozen=True):
    """One read model in a snapshot."""

    name: str
    version: int
    stream: str
    epoch: str
    sequence: int
    events: int
    file: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    format: int
    taken_at: datetime
    read_models: list[Copied]


def take(projections: Iterable[Projection], files: ReadModelFiles, folder: Path) -> Manifest:
    """Copy live read models into a new folder, while they go on. Raises `SnapshotRefused`."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SnapshotRefused(f"{folder} is not empty: a snapshot gets a folder of its own")
    manifest = Manifest(FORMAT, datetime.now(UTC), [_copy(projection, files, folder) for projection in projections])
    sync(folder)
    fresh = folder / f"{MANIFEST}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    sync(fresh)
    fresh.replace(folder / MANIFEST)
    sync(folder)
    return manifest


async def restore(
    folder: Path, projections: Sequence[Projection], files: ReadModelFiles, logs: Mapping[str, Log]
) -> list[Copied]:
    """Make what a snapshot holds of these read models live, where nothing is yet. Raises `SnapshotRefused`; then
    nothing has changed, unless a file is found damaged while it is copied."""
    copies = _read(folder, projections)
    with ExitStack() as held:
        for projection, copied in zip(projections, copies, strict=True):
            held.enter_context(files.building(projection.name))
            if files.live(projection.name) is not None:
                raise SnapshotRefused(f"{projection.name} is here already: restore into a new data folder")
            await _check(folder, projection, copied, logs[projection.stream])
        for projection, copied in zip(projections, copies, strict=True):
            _place(folder / copied.file, files, projection, copied)
    return copies


def _copy(projection: Projection, files: ReadModelFiles, folder: Path) -> Copied:
    live = files.live(projection.name)
    if live is None or not files.is_of(live, projection):
        raise SnapshotRefused(f"{projection.name} is not built yet in version {projection.version}")
    target = folder / f"{projection.name}@{projection.version}{WHOLE}"
    with (
        closing(sqlite3.connect(f"{live.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        source.backup(copy)  # In one step: as it is at one moment.
        copy.execute("PRAGMA journal_mode = DELETE")  # One file, with nothing beside it.
    sync(target)
    position = _position(target, projection)
    return Copied(
        name=projection.name,
        version=projection.version,
        stream=projection.stream,
        epoch=position.epoch,
        sequence=position.sequence,
        events=position.events,
        file=target.name,
        bytes=target.stat().st_size,
        sha256=_hash(target),
    )


def _read(folder: Path, projections: Iterable[Projection]) -> list[Copied]:
    """What the manifest says of these read models."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise SnapshotRefused(f"{folder} holds no whole snapshot: {MANIFEST}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SnapshotRefused(f"{folder / MANIFEST} makes no sense: {error}") from error
    if manifest.format != FORMAT:
        raise SnapshotRefused(f"{folder} is of format {manifest.format}, this release reads {FORMAT}")
    held = {copied.name: copied for copied in manifest.read_models}
    found: list[Copied] = []
    for projection in projections:
        copied = held.get(projection.name)
        if copied is None:
            raise SnapshotRefused(f"{folder} does not hold {projection.name}, only {', '.join(held) or 'nothing'}")
        if copied.version != projection.version:
            versions = f"version {copied.version}, this code is of {projection.version}"
            raise SnapshotRefused(f"{folder} holds {projection.name} in {versions}")
        if Path(copied.file).name != copied.file:
            raise SnapshotRefused(f"{folder / MANIFEST} names a file outside of the snapshot: {copied.file}")
        found.append(copied)
    return found


async def _check(folder: Path, projection: Projection, copied: Copied, log: Log) -> None:
    """Whether the log continues what the snapshot holds."""
    if copied.epoch != log.epoch:
        raise SnapshotRefused(
            f"{folder} is of another log {log.name}: of epoch {copied.epoch}, this one of {log.epoch}"
        )
    position = _position(folder / copied.file, projection)
    if position.sequence != copied.sequence:
        stands = f"stands at {position.sequence}, not at {copied.sequence}"
        raise SnapshotRefused(f"{folder / copied.file} is damaged: it {stands}")
    try:
        await continues(log, position)
    except LogDamaged as error:
        raise SnapshotRefused(f"{projection.name} in {folder} does not go with this log: {error.args[0]}") from error


def _position(path: Path, projection: Projection) -> Position:
    try:
        with Store.look(projection, path) as store:
            return store.position
    except (sqlite3.Error, OSError, OtherFormat) as error:
        raise SnapshotRefused(f"{path} cannot be read: {error}") from error


def _place(source: Path, files: ReadModelFiles, projection: Projection, copied: Copied) -> None:
    """Copy a file, checked, and make it live."""
    path = files.next_build(projection)
    part = path.with_suffix(PART)
    hashed = sha256()
    try:
        with source.open("rb") as reading, part.open("wb") as writing:
            while piece := reading.read(PIECE_BYTES):
                hashed.update(piece)
                writing.write(piece)
            writing.flush()
            os.fsync(writing.fileno())
        if hashed.hexdigest() != copied.sha256:
            raise SnapshotRefused(f"{source} is damaged: it is not what was copied")
        part.replace(path)
    finally:
        remove(part)
    files.switch(projection.name, path)


def _hash(path: Path) -> str:
    hashed = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
    return hashed.hexdigest()
