"""How long a process lives: a child no longer than whoever started it; and how another one can see that it is dead."""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from pathlib import Path


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent ends, however it ends. Linux only; elsewhere nothing.

    `parent`: whom it was started by, to notice when that one has ended already.
    """
    if sys.platform != "linux":
        return
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def mark_of(pid: int | None = None) -> str:
    """Names a process among all that ever ran on this machine: the boot, the namespace of its id, the id, its start.

    Empty where that cannot be said (not Linux, no such process).
    """
    number = os.getpid() if pid is None else pid
    try:
        state, *rest = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" or not _machine() else f"{_machine()} {number} {rest[18]}"


def is_dead(mark: str) -> bool:
    """Whether a process of this machine has ended. False for one of another machine, about which nothing is known."""
    machine, _, process = mark.partition(" ")
    pid = process.partition(" ")[0]
    return bool(machine) and machine == _machine() and pid.isdecimal() and mark_of(int(pid)) != mark


@cache
def _machine() -> str:
    """This boot of this machine, and the namespace in which its process ids mean something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
