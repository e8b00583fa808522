"""Where in a trace a piece of work stands (W3C Trace Context), and its spans where somebody collects them.

The traceparent goes everywhere, collected or not: within a process as the `current` one of a task, between processes
in headers, envelopes and commits. Spans are made by `bus/spans.py`, which needs OpenTelemetry and is imported only
where it is turned on; until then a span is nothing, and a command pays one look at `collected`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from random import getrandbits
from typing import Literal, Protocol

HEADER = "traceparent"
PATTERN = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
LINKS_MAX = 128
"""Of a span; a batch of more is linked to its first ones."""
REPLAYED_AFTER_S = 60.0
"""What is done about an event that is older than this has a trace of its own, linked to the event's: it follows from
reading the log again, and a trace of that time has long been told."""

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool

_current: ContextVar[str] = ContextVar(HEADER, default="")


class Span(Protocol):
    """A span under way. `traceparent` is what whatever it causes bears."""

    @property
    def traceparent(self) -> str: ...
    def name(self, name: str) -> None: ...
    def tell(self, name: str, value: Value) -> None: ...
    def event(self, name: str, detail: str) -> None: ...
    def failed(self, reason: str) -> None: ...


class Collecting(Protocol):
    """Who makes spans."""

    def begin(
        self, name: str, kind: Kind, parent: str, links: Iterable[str], attributes: Mapping[str, Value]
    ) -> Span: ...

    def end(self, span: Span) -> None: ...


class Uncollected:
    """A span that nobody sees."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def name(self, name: str) -> None: ...
    def tell(self, name: str, value: Value) -> None: ...
    def event(self, name: str, detail: str) -> None: ...
    def failed(self, reason: str) -> None: ...


UNCOLLECTED: Span = Uncollected("")
_collecting: Collecting | None = None


def collect(collecting: Collecting | None) -> None:
    """From now on all spans of this process are made here; None: there are none any more."""
    global _collecting  # One a process, as what it stands for.
    _collecting = collecting


def collected() -> bool:
    """Whether anybody collects spans: where that costs too much to be done for nothing."""
    return _collecting is not None


def current() -> str:
    """The traceparent of what this task does; empty where it is of no trace."""
    return _current.get()


def taken_up(given: str) -> str:
    """The traceparent of this hop of a trace; of a new one where what is given is none."""
    parsed = PATTERN.fullmatch(given) if given else None
    fresh = (
        f"{getrandbits(192):048x}"  # Not from the system: that lets go of the interpreter, for ids that are no secret.
    )
    return f"00-{parsed[1] if parsed else fresh[:32]}-{fresh[32:]}-{parsed[3] if parsed else '01'}"


def id_of(traceparent: str) -> str:
    """The trace's."""
    return traceparent[3:35]


def stand(traceparent: str) -> Token[str]:
    """This task works for that trace, until `leave`."""
    return _current.set(traceparent)


def leave(token: Token[str]) -> None:
    _current.reset(token)


@contextmanager
def standing(traceparent: str) -> Iterator[None]:
    """What is done inside is of that trace."""
    token = _current.set(traceparent)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str = "",
    links: Iterable[str] = (),
    attributes: Mapping[str, Value] | None = None,
) -> Iterator[Span]:
    """What is done inside, as a child of `parent`, or of no one; an exception that leaves it is told, too.

    Its traceparent is the current one meanwhile. Not collected, that is the parent's.
    """
    collecting = _collecting
    if collecting is None:
        begun: Span = Uncollected(parent)
    else:
        begun = collecting.begin(name, kind, parent, links, attributes or {})
    token = _current.set(begun.traceparent)
    try:
        yield begun
    except Exception as error:  # Raised again.
        begun.failed(f"{type(error).__name__}: {error}")
        raise
    finally:
        _current.reset(token)
        if collecting is not None:
            collecting.end(begun)
