"""What every domain shares: ids, money, refusals, the decider, and the domain that the engine hosts.

Pure: no I/O, no clock, no randomness. A domain is data (message types) and total functions over it; whatever has to
be looked up, timed or sent happens in the layers above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from msgspec import Meta, Struct

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
"""Ids from outside match this before they touch a subject, a path or a table."""

QUANTITY_MAX = 1_000_000
CENTS_MAX = 1_000_000_000_000
LINES_MAX = 200

Id = Annotated[str, Meta(pattern=ID_PATTERN, min_length=1, max_length=64)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
"""An ISO 4217 code."""
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
Cents = Annotated[int, Meta(ge=0, le=CENTS_MAX)]
"""Money in minor units; the currency travels beside it."""

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Older = TypeVar("Older")
Newer = TypeVar("Newer")


class Rejected(Exception):
    """A command that the business refuses: nothing is written.

    `code` is stable and what callers match on; `detail` is for people; `field` is a JSON pointer into the command
    where one field is to blame, else empty.
    """

    def __init__(self, code: str, detail: str = "", field: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.field = field


@dataclass(frozen=True, slots=True)
class Decider(Generic[State, Command, Event]):
    """The functional core of one kind of aggregate (Chassaing, "Functional Event Sourcing Decider").

    `decide` answers a command with the events that it causes, `[]` where all is already so, or raises `Rejected`;
    `evolve` folds one event into the state and is total.
    """

    name: str
    initial: State
    decide: Callable[[State, Command], list[Event]]
    evolve: Callable[[State, Event], State]


@dataclass(frozen=True, slots=True)
class Upcaster(Generic[Older, Newer]):
    """How an event that was written as `older` is read: as the version after it. What lies in a log is never changed.

    Each version is a type with a tag of its own: `OrderPlaced` is the first, `OrderPlaced.2` the second.
    """

    older: type[Older]
    upcast: Callable[[Older], Newer]


@dataclass(frozen=True, slots=True)
class Domain(Generic[State, Command, Event]):
    """What an engine hosts: one log, its messages, and how a command maps onto aggregates.

    A command is a unit of work over `targets(command)`, whose first is its own aggregate (its version is what the
    caller is told). All of its events are committed together, each to the aggregate that `owner(event)` names.
    `events` are those that it writes; `upcasters` tell how to read what it wrote in older versions.
    `single`: every command is about one aggregate; only then may the domain's log have several partitions, for what is
    decided together lies in one of them.

    >>> from domains.orders.order import orders
    >>> from domains.orders.messages import CancelOrder
    >>> orders.targets(CancelOrder("o1", "changed my mind"))
    ('o1',)
    """

    name: str
    commands: tuple[type[Command], ...]
    events: tuple[type[Event], ...]
    states: tuple[type[State], ...]
    targets: Callable[[Command], tuple[str, ...]]
    owner: Callable[[Event], str]
    initial: Callable[[str], State]
    decide: Callable[[Mapping[str, State], Command], list[Event]]
    evolve: Callable[[State, Event], State]
    single: bool = False
    upcasters: tuple[Upcaster[Any, Any], ...] = ()
    """Each of two types of its own; where one leads to another older version, that one's goes on."""


def hosted(
    decider: Decider[State, Command, Event],
    *,
    commands: tuple[type[Command], ...],
    events: tuple[type[Event], ...],
    states: tuple[type[State], ...],
    target: Callable[[Command], str],
    owner: Callable[[Event], str],
    upcasters: tuple[Upcaster[Any, Any], ...] = (),
) -> Domain[State, Command, Event]:
    """A domain of one kind of aggregate, each command about one of them."""

    def decide(states: Mapping[str, State], command: Command) -> list[Event]:
        (state,) = states.values()
        return decider.decide(state, command)

    return Domain(
        name=decider.name,
        commands=commands,
        events=events,
        states=states,
        targets=lambda command: (target(command),),
        owner=owner,
        initial=lambda _: decider.initial,
        decide=decide,
        evolve=decider.evolve,
        single=True,
        upcasters=upcasters,
    )


class Wake(NamedTuple):
    """What an aggregate is to be told after a time, unless it is told to be woken otherwise before."""

    after_s: int
    command: Struct


class Asleep(NamedTuple):
    """It wants to be told nothing any more."""


Timing = Callable[[object], Wake | Asleep | None]
"""What an event says about that; None where all stays as it is."""


@dataclass(frozen=True, slots=True)
class Policy(Generic[Event]):
    """What a service does by itself about events of others: a pure function from an event to commands.

    It remembers nothing; what has to be known of earlier events, the commanded domain keeps. `observes` names the
    events that matter of each log. One order's events come in their order, each at least once, under ids that derive
    from its position.
    """

    name: str
    observes: Mapping[str, tuple[type[Event], ...]]
    react: Callable[[Event], Sequence[Struct]]
    dated: bool = False
    """Its commands are of the time of what they follow from, not of the time at which it is heard: so what would come
    too late can be told, after years of history, too."""
    timing: Timing | None = None
    """What its own service's events say about deadlines: its aggregates are told in time that nobody answered."""


@dataclass(frozen=True, slots=True)
class StateStored(Generic[State, Command, Event]):
    """What a service keeps as states: its database is the truth, and its log tells others what happened.

    `decide` answers a command with the state to keep and the events to tell, none where all is already so, or raises
    `Rejected`. What is kept is no fold of the events, so these need not hold it. In the states `erased` nothing may be
    left of what was kept before.
    """

    name: str
    commands: tuple[type[Command], ...]
    events: tuple[type[Event], ...]
    states: tuple[type[State], ...]
    target: Callable[[Command], str]
    initial: State
    decide: Callable[[State, Command], tuple[State, list[Event]]]
    erased: tuple[type[State], ...] = ()
    upcasters: tuple[Upcaster[Any, Any], ...] = ()

    def targets(self, command: Command) -> tuple[str, ...]:
        """As of a `Domain`."""
        return (self.target(command),)
