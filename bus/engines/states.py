"""What an engine knows: the states of its partition's aggregates, and which block answered which command.

`States` is the seam: an engine asks it before it decides, and tells it what became durable. `MemoryStates` keeps all in
memory and is filled from the log; `OverlaidStates` (`overlay.py`) keeps what a store on disk does not have yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from bus.logs.blocks import Commit
from bus.logs.log import LogDamaged
from domains.kernel import Domain

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

NEVER: Final = 0
"""No block: this command was never answered."""
UNSURE: Final = -1
"""It has to be loaded before that can be said."""


class Known(Struct, Generic[State], frozen=True):
    """An aggregate: how many commits it has, and the state that they fold to."""

    version: int
    state: State


class StoreUnreachable(Exception):
    """What is stored cannot be read at the moment."""


class Opened(Struct, frozen=True):
    """Up to where states are there already: a position of the log, and each partition's last block until then, by its
    hash."""

    sequence: int = 0
    tips: dict[int, str] = {}


class States(Protocol[State]):
    """What is durable. Nothing undecided or in flight is ever in here."""

    async def open(self) -> Opened:
        """Begin, or begin anew. Raises `StoreUnreachable`, `LogDamaged`."""
        ...

    def get(self, aggregate: str) -> Known[State] | None:
        """The aggregate, in its initial state at version 0 when nothing happened to it; None: load it first."""
        ...

    def answered(self, command_id: str) -> int:
        """The block that holds the first answer of a command; `NEVER`, or `UNSURE`: load it first."""
        ...

    async def load(self, aggregates: Collection[str], command_ids: Collection[str]) -> None:
        """Fetch what `get` and `answered` do not know, in one hop. What is `UNSURE` afterwards was never answered.

        Raises `StoreUnreachable`.
        """
        ...

    def advance(self, sequence: int, touched: Mapping[str, Known[State]], answered: Collection[str]) -> None:
        """A block became durable: the aggregates as it left them, and the commands that it answers."""
        ...

    @property
    def forgotten(self) -> int:
        """How often commands were forgotten that have been answered: a look for one is good until it rises."""
        ...

    @property
    def room(self) -> bool:
        """Whether more may become durable, or what is in memory has reached its bound."""
        ...

    async def keep(self) -> None:
        """Until cancelled: forget what need not be in memory any more."""
        ...


class MemoryStates(Generic[State, Command, Event]):
    """All states in memory; memory grows with the number of aggregates and commands."""

    def __init__(self, domain: Domain[State, Command, Event]) -> None:
        self._initial = domain.initial
        self._known: dict[str, Known[State]] = {}
        self._answered: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def open(self) -> Opened:
        return Opened()

    def get(self, aggregate: str) -> Known[State]:
        known = self._known.get(aggregate)
        return Known(0, self._initial(aggregate)) if known is None else known

    def answered(self, command_id: str) -> int:
        return self._answered.get(command_id, NEVER)

    async def load(self, aggregates: Collection[str], command_ids: Collection[str]) -> None:
        """Everything is here."""

    def advance(self, sequence: int, touched: Mapping[str, Known[State]], answered: Collection[str]) -> None:
        self._known.update(touched)
        self._answered.update(dict.fromkeys(answered, sequence))

    @property
    def forgotten(self) -> int:
        return 0

    @property
    def room(self) -> bool:
        return True

    async def keep(self) -> None:
        """Nothing is ever forgotten."""


def fold_block(
    domain: Domain[State, Command, Event], states: States[State], sequence: int, commits: list[Commit[Event]]
) -> None:
    """Apply a block that was read from the log; what the states have of it already is left out.

    Every aggregate is loaded. Raises `LogDamaged` when a commit does not continue its own.
    """
    touched: dict[str, Known[State]] = {}
    for commit in commits:
        known = touched.get(commit.aggregate) or states.get(commit.aggregate)
        if known is None:  # Evicted since: whoever loads tries again.
            raise StoreUnreachable(f"{commit.aggregate} is not in memory any more")
        if commit.version <= known.version:
            continue  # A store may be ahead of whoever reads the log.
        if commit.version != known.version + 1:
            broken = f"{commit.aggregate} goes from version {known.version} to {commit.version}"
            raise LogDamaged(f"block {sequence} of {domain.name}: {broken}")
        state = known.state
        for event in commit.events:
            state = domain.evolve(state, event)
        touched[commit.aggregate] = Known(commit.version, state)
    states.advance(sequence, touched, {commit.id for commit in commits})
