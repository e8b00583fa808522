"""How many lines of code each style takes beyond what all of them share: at the caller, and its own at the callee."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import gateway
from bench.matrix import styles
from bench.matrix.styles import ASYNC, EVENT, GRPC, NATS, REST
from domains.inventory import policy

GATEWAY = Path(gateway.__file__).parent
CALLERS: dict[str, tuple[Callable[..., object], ...]] = {
    REST: (styles.rest, styles._post, styles._status),
    GRPC: (styles.over_grpc, styles._status),
    NATS: (styles.request,),
    ASYNC: (styles.queued, styles._post, styles._status),
    EVENT: (styles.event,),
}
ROUTE = GATEWAY / "routes" / "reservations.py"
CALLEES: dict[str, tuple[Path, ...]] = {
    REST: (ROUTE,),
    GRPC: (*sorted((GATEWAY / "grpc").glob("*.py")), *sorted((GATEWAY / "grpc").rglob("*.proto"))),
    NATS: (),
    ASYNC: (ROUTE,),
    EVENT: (Path(policy.__file__),),
}


def lines_of(style: str) -> tuple[int, int]:
    """At the caller, and at the callee: lines that are not empty."""
    caller = sum(_lines(inspect.getsource(each)) for each in CALLERS[style])
    return caller, sum(_lines(path.read_text()) for path in CALLEES[style])


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())
