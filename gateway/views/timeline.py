"""The causal tree of an order, from the log alone: what each commit was caused by, and how long after that it came."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC

from msgspec import Struct

from gateway.views.events import shown as shown_event
from projections.history import Caused
from projections.projection import timestamp

POSITION = re.compile(r"([a-z_]+)=(\d+)")


class TimelineCommit(Struct, frozen=True):
    """A commit that belongs to an order. `cause` is the position of the event that led to it, empty for what came from
    outside; `events` are in today's version, whichever they were written in.

    `caused_by` is the number in `items`, from 0, of the commit that led to it, and `depth` how many did so one after
    the other; null and 0 for what came from outside. Times are between moments of writing, as each writer's clock had
    them: `after_cause_ms` since what caused it, `after_start_ms` since the first of all.
    """

    position: str
    domain: str
    aggregate: str
    version: int
    id: str
    at: str
    occurred_at: str
    actor: str
    cause: str
    correlation: str
    trace: str
    events: list[object]
    caused_by: int | None
    depth: int
    after_cause_ms: float | None
    after_start_ms: float


class Branch(Struct, frozen=True):
    """A commit as the tree is drawn: behind the lines that lead to it."""

    lines: str
    commit: TimelineCommit


def timeline_of(found: Sequence[Caused]) -> list[TimelineCommit]:
    """In the order of writing."""
    causes = _causes(found)
    depths: dict[int, int] = {}
    start = found[0].recorded.written_at if found else None
    items: list[TimelineCommit] = []
    for number, (domain, recorded, _) in enumerate(found):
        commit, cause = recorded.commit, causes[number]
        since_cause = None if cause is None else recorded.written_at - found[cause].recorded.written_at
        assert start is not None
        items.append(
            TimelineCommit(
                position=f"{domain}={recorded.sequence}",
                domain=domain,
                aggregate=commit.aggregate,
                version=commit.version,
                id=commit.id,
                at=timestamp(recorded.written_at.astimezone(UTC)),
                occurred_at=timestamp(recorded.at),
                actor=commit.actor,
                cause=commit.cause,
                correlation=commit.correlation,
                trace=commit.trace,
                events=[shown_event(event) for event in commit.events],
                caused_by=cause,
                depth=_depth(number, causes, depths),
                after_cause_ms=None if since_cause is None else round(since_cause.total_seconds() * 1_000, 3),
                after_start_ms=round((recorded.written_at - start).total_seconds() * 1_000, 3),
            )
        )
    return items


def tree_of(items: Sequence[TimelineCommit]) -> Iterator[Branch]:
    """Each below what caused it, siblings in the order of writing."""
    below: dict[int | None, list[int]] = {}
    for number, item in enumerate(items):
        below.setdefault(item.caused_by, []).append(number)
    waiting = [(number, "", "") for number in reversed(below.get(None, ()))]
    while waiting:
        number, lines, indent = waiting.pop()
        yield Branch(lines, items[number])
        effects = below.get(number, [])
        for effect in reversed(effects):
            last = effect == effects[-1]
            waiting.append((effect, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")))


def _causes(found: Sequence[Caused]) -> list[int | None]:
    """Of each commit the number of the one that led to it.

    A commit names the position of its cause, which is a block. What was caused by an event has an id that is derived
    from that event's, so where several commits of the block are of this order, the id says which.
    """
    at: dict[str, list[int]] = {}
    for number, (domain, recorded, _) in enumerate(found):
        at.setdefault(f"{domain}={recorded.sequence}", []).append(number)
    return [_cause(found, at.get(one.recorded.commit.cause, ()), one) for one in found]


def _cause(found: Sequence[Caused], candidates: Sequence[int], effect: Caused) -> int | None:
    if not candidates:
        return None
    position = POSITION.fullmatch(effect.recorded.commit.cause)
    named = position and re.search(rf"\b{position[1]}-{position[2]}-(\d+)\b", effect.recorded.commit.id)
    event = int(named[1]) if named else -1
    for number in candidates:
        first = found[number].first_event
        if first <= event < first + len(found[number].recorded.commit.events):
            return number
    return candidates[0]


def _depth(number: int, causes: Sequence[int | None], known: dict[int, int]) -> int:
    """How many causes lie above. Clocks may differ, so a cause need not come before its effect here."""
    path: list[int] = []
    at: int | None = number
    while at is not None and at not in known and at not in path:
        path.append(at)
        at = causes[at]
    depth = known[at] if at is not None and at in known else -1
    for each in reversed(path):
        depth += 1
        known[each] = depth
    return known[number]
