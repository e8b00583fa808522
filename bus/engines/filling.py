"""A block that is being filled: its commits, the states that they lead to, and the commands that wait for it."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from msgspec import Raw

from bus.commands import Answer, Envelope, Refused, Unavailable, Unknown, digest_of
from bus.engines.states import Known
from bus.logs.blocks import BLOCK_BYTES_MAX, BLOCK_COMMITS_MAX, BLOCK_HEAD_BYTES
from domains.kernel import Rejected

State = TypeVar("State")


_NONE_YET = Unknown("none yet")


class Frame:
    """Commands that came together and are answered together."""

    __slots__ = ("answers", "done", "missing")

    def __init__(self, size: int, done: asyncio.Future[list[Answer]]) -> None:
        self.answers: list[Answer] = [_NONE_YET] * size
        self.missing = size
        self.done = done

    def put(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(self.answers)


class Item:
    """One command on its way through the engine. `command` is None until it is decoded."""

    __slots__ = ("attempts", "command", "digest", "doubtful", "envelope", "frame", "index", "looked_up")

    def __init__(self, envelope: Envelope, frame: Frame, index: int, command: object = None) -> None:
        self.envelope = envelope
        self.command = command
        self.digest = envelope.digest or digest_of(envelope.command)
        self.frame = frame
        self.index = index
        self.attempts = 0
        self.looked_up = -1
        """What `States.forgotten` was when its id was looked up: the look counts for as long as that stays so."""
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

    __slots__ = ("digest", "events", "told", "version")

    def __init__(self, digest: str, version: int, events: Raw) -> None:
        self.digest = digest
        self.version = version
        self.events = events
        self.told = False


class Filling(Generic[State]):
    """A block that is being filled: its commits, the states that they lead to, and who waits for it."""

    __slots__ = ("commits", "decided", "full", "size", "touched", "waiting")

    def __init__(self) -> None:
        self.commits: list[bytes] = []
        self.size = BLOCK_HEAD_BYTES
        self.full = False
        """Something did not fit: what waits goes into the next block."""
        self.touched: dict[str, Known[State]] = {}
        self.decided: dict[str, Decided] = {}
        self.waiting: list[tuple[Item, Decided | Refused | int]] = []
        """Each with what it will be told; an int is the version at which nothing had to change."""

    def takes(self, commits: int, size: int) -> bool:
        """Whether so many more commits fit. Raises `Rejected` when they would not fit into any block."""
        if len(self.commits) + commits <= BLOCK_COMMITS_MAX and self.size + size <= BLOCK_BYTES_MAX:
            return True
        if commits > BLOCK_COMMITS_MAX or BLOCK_HEAD_BYTES + size > BLOCK_BYTES_MAX:
            raise Rejected("command_too_large", f"a command may cause at most {BLOCK_BYTES_MAX} bytes of events")
        self.full = True
        return False

    def add(self, item: Item, decided: Decided, size: int) -> None:
        """What was decided for an item; its commits and states are in already."""
        self.size += size
        self.decided[item.envelope.id] = decided
        self.waiting.append((item, decided))
