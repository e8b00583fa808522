"""What a read model is: data. A name, a version, the one stream that feeds it, its tables, and what events do there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

Value = str | int | None
Row = Mapping[str, object]
"""Parameters of a statement by name: the event's own fields and those of `Fact`."""


class Fact(NamedTuple):
    """One event, as read models see it."""

    event: object
    aggregate: str
    version: int
    sequence: int
    """The block's position in the log."""
    at: datetime
    """Business time: when it occurred, else when it was written. UTC."""


Statement = tuple[str, Row]
Handler = str | tuple[str, ...] | Callable[[Fact], Iterable[Statement]]
"""One statement, several, or a function that gives statements for an event."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A read model. A change of `schema` or `on` that matters needs a new `version`: then it is built anew."""

    name: str
    version: int
    stream: str
    schema: str
    on: Mapping[type, Handler]

    def statements(self, fact: Fact) -> Iterable[Statement]:
        """What this fact does to the tables."""
        handler = self.on.get(type(fact.event))
        if handler is None:
            return ()
        if isinstance(handler, str):
            return ((handler, row_of(fact)),)
        if isinstance(handler, tuple):
            row = row_of(fact)
            return tuple((sql, row) for sql in handler)
        return handler(fact)


def row_of(fact: Fact, **more: Value) -> Row:
    """An event's plain fields as parameters, with `at` (RFC 3339), `version`, `sequence` and whatever is added."""
    row: dict[str, object] = {
        "at": timestamp(fact.at),
        "version": fact.version,
        "sequence": fact.sequence,
    }
    fields = msgspec.structs.asdict(fact.event)  # type: ignore[arg-type]  # Events are Structs.
    row.update((name, value) for name, value in fields.items() if isinstance(value, str | int) or value is None)
    row.update(more)
    return row


def timestamp(at: datetime) -> str:
    """RFC 3339, UTC, microseconds: sorts as text."""
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
