"""Where the files of the read models lie: one a build, and a pointer a read model to the one that is live.

<folder>/order_summary.live           names the live file, and below it the one before; replaced atomically
<folder>/order_summary@1.3.db         version 1, third build: whole, live now or once
<folder>/order_summary@1.4.part       the next one, until it is whole

Kept are the two builds that the pointer names. All others are removed before the next build begins and after it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projections.projection import Projection

WHOLE, PART = ".db", ".part"


class RebuildUnderWay(Exception):
    """Another process or task is rebuilding this read model."""


class ReadModelFiles:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def live(self, name: str) -> Path | None:
        """The live file of a read model, or None before its first build."""
        return self._named(name)[0]

    def before(self, name: str) -> Path | None:
        """The build that was live before, if there was one."""
        return self._named(name)[1]

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
        return self.folder / f"{projection.name}@{projection.version}.{max(builds, default=0) + 1}{WHOLE}"

    def switch(self, name: str, path: Path) -> None:
        """Make a file the live one, and remember the one before. Atomic: who opens it sees the old or the new one.

        What the pointer says is on disk before it says so: a power cut would else leave a live file without tables.
        The database itself is on disk with its tables since it was made (`Store.create`, `Build.finish`), and is not
        opened here: closing it again would drop the locks that SQLite holds on it in this process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        live = self.live(name)
        fresh = self.folder / f"{name}.live.new"
        fresh.write_text("".join(f"{each.name}\n" for each in (path, live) if each is not None))
        for each in (fresh, self.folder):
            sync(each)
        fresh.replace(self._pointer(name))
        sync(self.folder)

    def sweep(self, name: str) -> None:
        """Remove the builds that are neither live nor the one before, whole or not. For who holds `building`."""
        live, before = self._named(name)
        if live is None:
            return  # Nothing is removed on the word of a pointer that is gone.
        for build in self._builds(name):
            if build not in (live, before):
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

    def _named(self, name: str) -> tuple[Path | None, Path | None]:
        try:
            names = self._pointer(name).read_text().split()
        except FileNotFoundError:
            return None, None
        live, before = (self.folder / each for each in (*names, "", "")[:2])
        return live if live.is_file() else None, before if before.is_file() else None

    def _builds(self, name: str) -> list[Path]:
        return [path for suffix in (WHOLE, PART) for path in self.folder.glob(f"{name}@*{suffix}")]


def _number(build: Path) -> int:
    """Builds of one read model are numbered through, whatever their versions."""
    return int(build.name.split(".")[-2])


def sync(path: Path) -> None:
    """See that a folder, or a file that no database connection of this process has open, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a database with its log and its index."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
