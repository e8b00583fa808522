"""The gateway as it is, but for how long it waits for who does not read. `test_unread.py` serves it."""

from __future__ import annotations

from litestar import Litestar

from gateway import app
from gateway.http import unread

PATIENCE_S = 3.0


def served() -> Litestar:
    unread.TAKES_NOTHING_S_MAX = PATIENCE_S
    unread.LOOK_S = 0.2
    return app.served()
