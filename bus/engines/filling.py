"""A block that is being filled: its commits, the states that they lead to, and the commands that wait for it."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from msgspec import Raw, Struct

from bus.commands import Answer, Envelope, Refused, Stored, Unavailable, Unchanged, Unknown
from bus.engines.states import Known
from bus.logs.blocks import BLOCK_BYTES_MAX, BLOCK_COMMITS_MAX, BLOCK_HEAD_BYTES
from domains.kernel import Rejected

State = TypeVar("State")


_NONE_YET = Unknown("none yet")


class Frame(Struct, eq=False):
    """Commands that came together and are answered together: so many are `missing` an answer yet."""

    missing: int
    answers: list[Answer]
    done: asyncio.Future[list[Answer]]

    @classmethod
    def of(cls, size: int, done: asyncio.Future[list[Answer]]) -> Frame:
        return cls(size, [_NONE_YET] * size, done)

    def put(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(self.answers)


class Decided(Struct, eq=False):
    """The first answer of a command that is in a block not yet durable: events and version, position to come."""

    digest: str
    version: int
    events: Raw
    told: bool = False


class Item(Struct, eq=False):
    """One command on its way through the engine. `command` is None until it is decoded."""

    envelope: Envelope
    digest: str
    frame: Frame
    index: int
    command: object = None
    outcome: Decided | Refused | int = 0
    """What it will be told, once it waits for a block; an int is the version at which nothing had to change."""
    attempts: int = 0
    looked_up: int = -1
    """What `States.forgotten` was when its id was looked up: the look counts for as long as that stays so."""
    doubtful: bool = False
    """A block that holds it may still be on its way to the log: until that is fenced off, "nothing was written" would
    be a guess."""

    def answer(self, answer: Answer) -> None:
        self.frame.put(self.index, answer)

    def give_up(self, code: str) -> None:
        """Say that nothing was written, where that is known."""
        self.answer(Unknown(code) if self.doubtful else Unavailable(code))


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
        self.waiting: list[Item] = []
        """What is answered with this block."""

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
        self.tell(item, decided)

    def tell(self, item: Item, outcome: Decided | Refused | int) -> None:
        """Have an item wait for this block, and be told this when it is durable."""
        item.outcome = outcome
        self.waiting.append(item)

    def answer(self, position: int) -> dict[str, int]:
        """The block is durable: answer all that wait for it. How many were told what."""
        counts: dict[str, int] = {}
        for item in self.waiting:
            outcome = item.outcome
            answer: Answer
            if item.doubtful and not self.commits:
                answer, kind = Unknown("an earlier attempt may still be stored"), "unknown"
            elif isinstance(outcome, Decided):
                answer = Stored(position, outcome.version, outcome.events, outcome.told)
                kind = "repeated" if outcome.told else "stored"
                outcome.told = True
            elif isinstance(outcome, int):
                answer, kind = Unchanged(position, outcome), "unchanged"
            else:
                answer, kind = outcome, "refused"
            counts[kind] = counts.get(kind, 0) + 1
            item.frame.put(item.index, answer)
        return counts
