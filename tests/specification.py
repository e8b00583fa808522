"""Given / when / then for the domains: one hosted in memory, and sentences about what it decides. No log, no broker.

given(orders, placed, cancelled).when(CancelOrder("o1", "again")).then()
given(orders).when(ShipOrder("o1")).then_rejected("order_unknown")
process(checkout).saw(placed, reserved).when(declined).then(ReleaseStock("o1", items), CancelOrder("o1", "..."))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Generic, TypeVar

from domains.kernel import Domain, Rejected
from domains.processes.checkout import Checkout, CheckoutCommand
from domains.processes.messages import CheckoutAdvanced, CheckoutEvent, CheckoutInput, CheckoutStep, Observe

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Result = TypeVar("Result")


class Hosted(Generic[State, Command, Event]):
    """A domain and the states of its aggregates, as its engine keeps them."""

    def __init__(self, domain: Domain[State, Command, Event]) -> None:
        self.domain = domain
        self.states: dict[str, State] = {}

    def state(self, aggregate: str) -> State:
        return self.states[aggregate] if aggregate in self.states else self.domain.initial(aggregate)

    def decide(self, command: Command) -> list[Event]:
        """What would come of a command. Changes nothing, and lets the decider change nothing."""
        known = {aggregate: self.state(aggregate) for aggregate in self.domain.targets(command)}
        return self.domain.decide(MappingProxyType(known), command)

    def fold(self, events: Iterable[Event]) -> None:
        for event in events:
            owner = self.domain.owner(event)
            self.states[owner] = self.domain.evolve(self.state(owner), event)

    def handle(self, command: Command) -> list[Event]:
        """All of a command's events, or none of them."""
        events = self.decide(command)
        self.fold(events)
        return events


class Outcome(Generic[Result]):
    """What came of it: results, perhaps none; a refusal; or, of a process, that it did not care."""

    def __init__(self, came: Callable[[], Iterable[Result] | None]) -> None:
        self.results: tuple[Result, ...] | None = None
        self.refusal: Rejected | None = None
        try:
            results = came()
            self.results = None if results is None else tuple(results)
        except Rejected as refusal:
            self.refusal = refusal

    def then(self, *expected: Result) -> None:
        if self.refusal is not None:
            raise self.refusal
        assert self.results == expected

    def then_rejected(self, code: str, field: str = "") -> None:
        assert self.refusal is not None, f"not rejected, but {self.results}"
        assert (self.refusal.code, self.refusal.field) == (code, field)
        assert self.refusal.detail, "a refusal says in words what is wrong"

    def then_ignored(self) -> None:
        assert self.results is None
        assert self.refusal is None


class Given(Hosted[State, Command, Event]):
    def when(self, command: Command) -> Outcome[Event]:
        return Outcome(lambda: self.decide(command))


def given(domain: Domain[State, Command, Event], *history: Event) -> Given[State, Command, Event]:
    past = Given(domain)
    past.fold(history)
    return past


def told(what: CheckoutInput) -> CheckoutCommand:
    """How a checkout is told of it."""
    return Observe(what.order_id, what) if isinstance(what, CheckoutEvent) else what


class Process(Hosted[Checkout, CheckoutCommand, CheckoutAdvanced]):
    def saw(self, *inputs: CheckoutInput) -> Process:
        """It observed these, and acted on what it cared for."""
        for what in inputs:
            self.handle(told(what))
        return self

    def when(self, what: CheckoutInput) -> Outcome[CheckoutStep]:
        """`then` names its steps, none of them where it only moves on; `then_ignored`: it does not even move."""

        def came() -> tuple[CheckoutStep, ...] | None:
            advanced = self.decide(told(what))
            return advanced[0].steps if advanced else None

        return Outcome(came)


def process(domain: Domain[Checkout, CheckoutCommand, CheckoutAdvanced]) -> Process:
    return Process(domain)
