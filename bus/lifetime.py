"""How long a child process lives: no longer than whoever started it."""

from __future__ import annotations

import os
import signal
import sys


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
