"""What a read model is: data. A name, a version, the one stream that feeds it, its tables, and what events do there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from bus.blocks import Commit

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


class Recorded(NamedTuple):
    """One commit where it lies in its log: the `offset`th of the block at `sequence`."""

    commit: Commit[object]
    sequence: int
    offset: int
    written_at: datetime

    @property
    def at(self) -> datetime:
        """Business time: when it occurred, else when it was written. UTC."""
        return (self.commit.occurred_at or self.written_at).astimezone(UTC)


Statement = tuple[str, Row]
Handler = str | tuple[str, ...] | Callable[[Fact], Iterable[Statement]]
"""One statement, several, or a function that gives statements for an event."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A read model. A change of `schema`, `on` or `batch` that matters needs a new `version`: then it is built anew.

    `on` says what an event does; `batch`, where there is one, what all commits of a batch do, in their order and
    before that: in one go, with the tables as they are before the batch at hand.
    """

    name: str
    version: int
    stream: str
    schema: str
    on: Mapping[type, Handler]
    batch: Callable[[sqlite3.Connection, Sequence[Recorded]], None] | None = None

    def statements(self, recorded: Recorded) -> Iterator[Statement]:
        """What a commit does to the tables."""
        commit = recorded.commit
        for event in commit.events:
            handler = self.on.get(type(event))
            if handler is None:
                continue
            fact = Fact(event, commit.aggregate, commit.version, recorded.sequence, recorded.at)
            if isinstance(handler, str):
                yield handler, row_of(fact)
            elif isinstance(handler, tuple):
                row = row_of(fact)
                for sql in handler:
                    yield sql, row
            else:
                yield from handler(fact)


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
