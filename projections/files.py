"""Where the files of the read models lie: one a build, and a pointer a read model to the one that is live.

<folder>/order_summary.live           names the live file; replaced atomically
<folder>/order_summary@1.3.db         version 1, third build
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projections.projection import Projection


class RebuildUnderWay(Exception):
    """Another process or task is rebuilding this read model."""


class ReadModelFiles:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def live(self, name: str) -> Path | None:
        """The live file of a read model, or None before its first build."""
        try:
            target = self.folder / self._pointer(name).read_text().strip()
        except FileNotFoundError:
            return None
        return target if target.exists() else None

    def stamp(self, name: str) -> tuple[int, int]:
        """Changes whenever another file goes live."""
        try:
            status = os.stat(f"{self.folder}/{name}.live")  # noqa: PTH116  # Asked before every query.
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_mtime_ns

    def is_of(self, path: Path, projection: Projection) -> bool:
        """Whether a file was built by this version of the read model."""
        return path.name.startswith(f"{projection.name}@{projection.version}.")

    def next_build(self, projection: Projection) -> Path:
        """The path of a build that does not exist yet."""
        builds = map(_number, self._builds(projection.name))
        return self.folder / f"{projection.name}@{projection.version}.{max(builds, default=0) + 1}.db"

    def switch(self, name: str, path: Path) -> None:
        """Make a file the live one. Atomic: whoever opens it sees the old or the new one.

        What the pointer says is on disk before it says so: a power cut would else leave a live file without tables.
        The database itself is on disk with its tables since it was made (`Store.create`), and is not opened here:
        closing it again would drop the locks that SQLite holds on it in this process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f"{name}.live.new"
        fresh.write_text(path.name + "\n")
        for each in (fresh, self.folder):
            _sync(each)
        fresh.replace(self._pointer(name))
        _sync(self.folder)

    def sweep(self, name: str) -> None:
        """Remove the builds that are neither live nor the one before it."""
        live = self.live(name)
        builds = sorted(self._builds(name), key=_number)
        keep = {live, *[build for build in builds if live is None or _number(build) < _number(live)][-1:]}
        for build in builds:
            if build not in keep:
                remove(build)

    @contextmanager
    def building(self, name: str) -> Iterator[None]:
        """Hold the right to build this read model; `RebuildUnderWay` when somebody has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RebuildUnderWay(f"{name} is being rebuilt already") from error
            yield
        finally:
            os.close(lock)

    def _pointer(self, name: str) -> Path:
        return self.folder / f"{name}.live"

    def _builds(self, name: str) -> list[Path]:
        return list(self.folder.glob(f"{name}@*.db"))


def _number(build: Path) -> int:
    """Builds of one read model are numbered through, whatever their versions."""
    return int(build.name.split(".")[-2])


def _sync(path: Path) -> None:
    """See that a file or folder is on disk, whoever wrote it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a database with its log and its index."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
