"""A disk whose power can be cut: ext4 on a loop file.

`cut` makes the file system forget, at once and for good, everything that was not synced, as a power loss does: the
ioctl is the file system's own (what xfstests use for this), and it does not even flush the journal.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_LOG = (2).to_bytes(4, sys.byteorder)
SIZE_BYTES = 512 * 1024 * 1024
BUSY_PATIENCE_S = 10.0


class Disk:
    """Made with `make`, mounted at `folder` until `unmount`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self.folder = folder

    @classmethod
    def make(cls, where: Path) -> Disk:
        """Raises `CalledProcessError` or `OSError` where this machine does not let us."""
        disk = cls(where / "disk.ext4", where / "disk")
        with disk._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        disk.folder.mkdir()
        _run("mkfs.ext4", "-q", "-F", str(disk._image))
        disk.mount()
        return disk

    def mount(self) -> None:
        """Also what a machine does that gets its power back: the journal is replayed."""
        _run("mount", "-o", "loop", str(self._image), str(self.folder))

    def cut(self) -> None:
        """The power goes. Whoever still has a file open gets errors; end them, then `unmount` and `mount`."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING_THE_LOG)
        finally:
            os.close(handle)

    def unmount(self) -> None:
        deadline = time.monotonic() + BUSY_PATIENCE_S
        while os.path.ismount(self.folder):
            try:
                _run("umount", str(self.folder))
            except subprocess.CalledProcessError:  # Killed processes let go of their files a moment later.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def unavailable() -> str:
    """Why there can be no such disk here; empty when there can be."""
    if sys.platform != "linux":
        return "power cuts need ext4 on Linux"
    if os.geteuid() != 0:
        return "power cuts need root, to mount a file system on a loop device"
    if missing := [tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]:
        return f"power cuts need {missing[0]}"
    return "" if Path("/dev/loop-control").exists() else "power cuts need loop devices"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
