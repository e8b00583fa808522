"""What a read model is: data. A name, a version, the one stream that feeds it, its tables, and what events do there."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bus.logs.blocks import Commit

Value = str | int | None
Row = Mapping[str, object]
"""Parameters of a statement by name."""


class Recorded(Struct, frozen=True):
    """One commit where it lies in its log: the `offset`th of the block at `sequence`.

    `at` is the business time, when it occurred, else when it was written, in UTC; `stamp` the same as text.
    """

    commit: Commit[object]
    sequence: int
    offset: int
    written_at: datetime
    at: datetime
    stamp: str


def recorded_of(sequence: int, written_at: datetime, commits: Sequence[Commit[object]]) -> list[Recorded]:
    """All commits of a block."""
    written = in_utc(written_at)
    stamp = timestamp(written)
    found: list[Recorded] = []
    for offset, commit in enumerate(commits):
        if commit.occurred_at is None:
            found.append(Recorded(commit, sequence, offset, written_at, written, stamp))
        else:
            at = in_utc(commit.occurred_at)
            found.append(Recorded(commit, sequence, offset, written_at, at, timestamp(at)))
    return found


class Fact(Struct, frozen=True):
    """One event and the commit that it is of, as read models see them."""

    event: object
    recorded: Recorded

    @property
    def at(self) -> datetime:
        """Business time, UTC."""
        return self.recorded.at


Statement = tuple[str, Row]
Handler = str | tuple[str, ...] | Callable[[Fact], Iterable[Statement]]
"""One statement, several, or a function that gives statements for an event."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A read model. A change of `schema`, `on` or `batch` that matters needs a new `version`: then it is built anew.

    `on` says what an event does. With a `key`, every event in it has a field of that name, every statement of it a
    parameter of that name with that value, and touches only rows of that key: so statements of different keys may
    change places, those of many events are executed together, and what cannot be handled is parked with its key while
    others go on. Without one they are executed in their order, and what cannot be handled halts the read model.
    `batch`, where there is one, says what all commits of a batch do, in their order and before that: in one go, with
    the tables as they are before the batch at hand.

    Every table has a primary key, by which builds are compared and statements find their rows: a build gets its other
    indexes at its end. `never` says what must not be in the tables: a line for people, and the query that finds it.
    """

    name: str
    version: int
    stream: str
    schema: str
    on: Mapping[type, Handler]
    key: str = ""
    batch: Callable[[sqlite3.Connection, Sequence[Recorded]], None] | None = None
    never: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `ValueError` where the key is not in an event or in a statement."""
        if not self.key:
            return
        for kind, handler in self.on.items():
            if not hasattr(kind, self.key):
                raise ValueError(f"{self.name}: {kind.__name__} has no {self.key}")
            for sql in (handler,) if isinstance(handler, str) else handler if isinstance(handler, tuple) else ():
                if self.key not in _parameters(sql):
                    raise ValueError(f"{self.name}: what {kind.__name__} does has no parameter {self.key}: {sql}")

    def keys(self, recorded: Recorded) -> set[str]:
        """Whose rows a commit is about."""
        every, of, key = self.batch is not None, self.on, self.key
        return {str(getattr(event, key)) for event in recorded.commit.events if every or type(event) in of}

    def by_key(self, recorded: Recorded) -> dict[str, Recorded]:
        """What this read model has to do with a commit, a part for each key: the same commit with only its events."""
        events: dict[str, list[object]] = {}
        for event in recorded.commit.events:
            if self.batch is not None or type(event) in self.on:
                events.setdefault(str(getattr(event, self.key)), []).append(event)
        commit = recorded.commit
        return {key: replace(recorded, commit=replace(commit, events=its)) for key, its in events.items()}

    def statements(self, recorded: Recorded) -> Iterator[Statement]:
        """What the events of a commit do to the tables."""
        for event in recorded.commit.events:
            handler = self.on.get(type(event))
            if handler is None:
                continue
            fact = Fact(event, recorded)
            if isinstance(handler, str):
                yield bound(handler, fact)
            elif isinstance(handler, tuple):
                for sql in handler:
                    yield bound(sql, fact)
            else:
                yield from handler(fact)


def bound(sql: str, fact: Fact, **more: Value) -> Statement:
    """A statement with its parameters: those in `more`, else `at` (RFC 3339), `version` and `sequence` of the commit,
    else the event's own fields."""
    return sql, _binding(sql, tuple(more))(fact.event, fact.recorded, more)


def source_of(parameter: str) -> str:
    """Where a parameter's value is found, of `event` and `recorded`."""
    return _RECORDED.get(parameter, f"event.{parameter}")


_TIMESTAMP_CHARS = len("2026-11-21T09:30:00.000000Z")
_encode = msgspec.json.Encoder().encode
_RECORDED = {"at": "recorded.stamp", "version": "recorded.commit.version", "sequence": "recorded.sequence"}


@lru_cache(maxsize=1_024)
def _binding(sql: str, more: tuple[str, ...]) -> Callable[[object, Recorded, Mapping[str, Value]], Row]:
    """Takes a statement's parameters. Compiled, for this is done for every event of every log; of names that are
    `[a-z_]+`."""
    sources = (f"{name!r}: {f'more[{name!r}]' if name in more else source_of(name)}" for name in _parameters(sql))
    binding: Callable[[object, Recorded, Mapping[str, Value]], Row] = eval(  # noqa: S307
        f"lambda event, recorded, more: {{{', '.join(sources)}}}"
    )
    return binding


@lru_cache(maxsize=1_024)
def _parameters(sql: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r":([a-z_]+)", sql)))


def in_utc(at: datetime) -> datetime:
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def timestamp(at: datetime) -> str:
    """RFC 3339, UTC, microseconds: sorts as text."""
    text = _encode(at).decode()[1:-1]  # Ten times as fast as the standard library; without microseconds that are 0.
    return text if len(text) == _TIMESTAMP_CHARS else f"{text[:-1]}.000000Z"
