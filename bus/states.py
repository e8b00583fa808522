"""What an engine knows: the state of every aggregate of its partition, and which commands were answered where.

`States` is the seam of the state store: the engine asks it for what it needs before it decides, and tells it what
became durable. `MemoryStates` holds everything in memory and is filled from the log at start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from bus.blocks import Commit
from bus.log import LogDamaged
from domains.kernel import Domain

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")


class Known(Struct, Generic[State], frozen=True):
    """An aggregate: how many commits it has, and the state that they fold to."""

    version: int
    state: State


class States(Protocol[State]):
    """What is durable. Nothing undecided or in flight is ever in here."""

    @property
    def sequence(self) -> int:
        """The last block that is in here."""
        ...

    def get(self, aggregate: str) -> Known[State]:
        """The aggregate as of `sequence`; its initial state at version 0 when nothing happened to it."""
        ...

    def answered(self, command_id: str) -> int | None:
        """The block that holds the first answer of a command."""
        ...

    def advance(self, sequence: int, touched: Mapping[str, Known[State]], answered: Iterable[str]) -> None:
        """A block became durable: the aggregates as it left them, and the commands that it answers."""
        ...


class MemoryStates(Generic[State, Command, Event]):
    """All states in memory; memory grows with the number of aggregates and commands."""

    def __init__(self, domain: Domain[State, Command, Event]) -> None:
        self._domain = domain
        self._known: dict[str, Known[State]] = {}
        self._answered: dict[str, int] = {}
        self._sequence = 0

    @property
    def sequence(self) -> int:
        return self._sequence

    def __len__(self) -> int:
        return len(self._known)

    def get(self, aggregate: str) -> Known[State]:
        known = self._known.get(aggregate)
        return Known(0, self._domain.initial(aggregate)) if known is None else known

    def answered(self, command_id: str) -> int | None:
        return self._answered.get(command_id)

    def advance(self, sequence: int, touched: Mapping[str, Known[State]], answered: Iterable[str]) -> None:
        self._known.update(touched)
        self._answered.update(dict.fromkeys(answered, sequence))
        self._sequence = sequence


def fold_block(
    domain: Domain[State, Command, Event], states: States[State], sequence: int, commits: list[Commit[Event]]
) -> None:
    """Apply a block that was read from the log. Raises `LogDamaged` when a commit does not continue its aggregate."""
    touched: dict[str, Known[State]] = {}
    for commit in commits:
        known = touched.get(commit.aggregate) or states.get(commit.aggregate)
        if commit.version != known.version + 1:
            broken = f"{commit.aggregate} goes from version {known.version} to {commit.version}"
            raise LogDamaged(f"block {sequence} of {domain.name}: {broken}")
        state = known.state
        for event in commit.events:
            state = domain.evolve(state, event)
        touched[commit.aggregate] = Known(commit.version, state)
    states.advance(sequence, touched, {commit.id for commit in commits})
