"""A block that is being filled: its commits, the states that they lead to, and the commands that wait for it."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from msgspec import Raw

from bus.blocks import BLOCK_HEAD_BYTES
from bus.commands import Answer, Envelope, Refused, Unavailable, Unknown, digest_of
from bus.states import Known

State = TypeVar("State")


class Frame:
    """Commands that came together and are answered together."""

    __slots__ = ("answers", "done", "missing")

    def __init__(self, size: int, done: asyncio.Future[list[Answer]]) -> None:
        self.answers: list[Answer | None] = [None] * size
        self.missing = size
        self.done = done

    def put(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result([a for a in self.answers if a is not None])


class Item:
    """One command on its way through the engine."""

    __slots__ = ("attempts", "digest", "doubtful", "envelope", "frame", "index")

    def __init__(self, envelope: Envelope, frame: Frame, index: int) -> None:
        self.envelope = envelope
        self.digest = envelope.digest or digest_of(envelope.command)
        self.frame = frame
        self.index = index
        self.attempts = 0
        self.doubtful = False
        """A block that holds it may still be on its way to the log: until that is fenced off, "nothing was written"
        would be a guess."""

    def answer(self, answer: Answer) -> None:
        self.frame.put(self.index, answer)

    def give_up(self, code: str) -> None:
        """Say that nothing was written, where that is known."""
        self.answer(Unknown(code) if self.doubtful else Unavailable(code))


class Decided:
    """The first answer of a command that is in a block not yet durable: events and version, position to come."""

    __slots__ = ("digest", "events", "offset", "told", "version")

    def __init__(self, digest: str, offset: int, version: int, events: Raw) -> None:
        self.digest = digest
        self.offset = offset
        self.version = version
        self.events = events
        self.told = False


class Filling(Generic[State]):
    """A block that is being filled: its commits, the states that they lead to, and who waits for it."""

    __slots__ = ("commits", "decided", "size", "touched", "waiting")

    def __init__(self) -> None:
        self.commits: list[bytes] = []
        self.size = BLOCK_HEAD_BYTES
        self.touched: dict[str, Known[State]] = {}
        self.decided: dict[str, Decided] = {}
        self.waiting: list[tuple[Item, Refused | Unavailable | Decided | int]] = []
        """Each with what it will be told; an int is the version at which nothing had to change."""
