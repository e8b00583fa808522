"""Answers that lack something that their client can do without, while whoever has it is away: better than none.

Which those are the routes say. Such an answer is 200, names what it lacks (`Degraded: customers`), and is counted.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

from bus import metrics
from projections.reader import ReadModelMissing

if TYPE_CHECKING:
    from gateway.http.gate import AnyRequest

HEADER: Final = "Degraded"
_STATE: Final = "degraded"

Result = TypeVar("Result")


def lacks(request: AnyRequest, what: str) -> None:
    """The answer to this request will do without that."""
    known: set[str] = request.scope["state"].setdefault(_STATE, set())
    if what not in known:
        known.add(what)
        metrics.degraded_answers.labels(what).inc()


def lacking(request: AnyRequest) -> list[str]:
    """What the answer does without."""
    return sorted(request.scope["state"].get(_STATE, ()))


def headers_of(request: AnyRequest) -> dict[str, str]:
    """Headers to add: what the answer does without, if it does."""
    found = lacking(request)
    return {HEADER: ", ".join(found)} if found else {}


async def unless_missing(request: AnyRequest, what: str, reading: Awaitable[Result], instead: Result) -> Result:
    """What is read; where that read model is not built yet, this instead."""
    try:
        return await reading
    except ReadModelMissing:
        lacks(request, what)
        return instead
