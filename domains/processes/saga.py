"""How a table of steps is run: forward one after the other, and back in reverse when it comes to nothing.

A step is what is done, how one sees that it was, what takes it back, and how long it may take. `move` says what an
input does to an instance; it is pure and knows no step by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

from domains.inventory.messages import ItemQuantity
from domains.orders.messages import CancelOrder, OrderCancelled
from domains.processes.messages import (
    SECOND,
    Alarm,
    CheckoutInput,
    CheckoutStep,
    Compensate,
    DeadlinePassed,
    RetryStep,
    SkipStep,
)

Commands = tuple[CheckoutStep, ...]
STEPS_MAX = 4
"""Of a table, which has just so many."""
TRIES_MAX = 8
StepIndex = Annotated[int, Meta(ge=0, lt=STEPS_MAX)]
Attempt = Annotated[int, Meta(ge=1, le=TRIES_MAX)]


class Facts(Struct, frozen=True):
    """What a checkout knows of its order."""

    order_id: str
    items: tuple[ItemQuantity, ...]
    currency: str
    total_cents: int
    payment_token: str
    shipping_token: str
    skipped: tuple[str, ...] = ()
    """Steps that were seen to otherwise, and so are not taken back."""
    customer_id: str = ""
    definition: int = SECOND
    """The version of the process by which this instance runs. The first has states of its own."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A step that takes longer is begun again, `tries` times in all, each with twice the time of the one before; then
    it is given up."""

    after_s: int
    reason: str
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """`do` begins it, `done` or `failed` ends it, `then` is told of its end, `undo` takes it back.

    What was `undone_by` an event is waited for before what lies before it is taken back; such a step can be called
    back while it is under way, too. Of any other that is given up the answer is waited for, and taken back if it was
    done after all. Without a deadline a step is never given up: only the order's cancellation can keep it from being
    done. `outside`: it waits for the world outside.
    """

    name: str
    do: Callable[[Facts], Commands]
    done: type
    failed: type | None = None
    reason: str = ""
    undo: Callable[[Facts, str], Commands] = lambda facts, reason: ()
    deadline: Deadline | None = None
    then: Callable[[Facts, CheckoutInput | None], Commands] = lambda facts, event: ()
    """The event is None where an admin skipped the step."""
    undone_by: type | None = None
    outside: bool = False

    def failed_by(self, event: CheckoutInput) -> bool:
        return self.failed is not None and isinstance(event, self.failed)


class Underway(Struct, frozen=True, tag=True):
    """All steps before this one are done."""

    facts: Facts
    step: StepIndex
    attempt: Attempt = 1


class Undoing(Struct, frozen=True, tag=True):
    """It came to nothing. The first `left` steps have still to be taken back. `calling_back` names the step whose end
    is waited for before that, `late` the one that was under way and may still turn out to be done."""

    facts: Facts
    reason: str
    left: Annotated[int, Meta(ge=0, le=STEPS_MAX)]
    calling_back: str = ""
    late: str = ""


class Completed(Struct, frozen=True, tag=True):
    """Every step is done. An order may have been cancelled before it could be told so."""

    facts: Facts


class Closed(Struct, frozen=True, tag=True):
    """Nothing is expected any more."""


class Failed(Struct, frozen=True, tag=True):
    """Nothing is held and nothing is owed."""


Saga = Underway | Undoing | Completed | Closed | Failed


class Move(NamedTuple):
    """What becomes of an instance, and what is to be done."""

    saga: Saga
    commands: Commands
    alarm: Alarm | None = None


def begin(steps: Sequence[Step], facts: Facts) -> Move:
    return Move(Underway(facts, 0), steps[0].do(facts), _alarm(steps[0], 1))


def move(steps: Sequence[Step], saga: Saga, event: CheckoutInput) -> Move | None:
    """None where this instance does not care."""
    match saga:
        case Underway():
            return _under_way(steps, saga, event)
        case Undoing():
            return _undoing(steps, saga, event)
        case Completed(facts) if isinstance(event, OrderCancelled):
            return _unwound(steps, Undoing(facts, event.reason, len(steps)), ())
        case _:
            return None


def _under_way(steps: Sequence[Step], saga: Underway, event: CheckoutInput) -> Move | None:
    step = steps[saga.step]
    if isinstance(event, step.done):
        return _forward(steps, saga, event)
    if step.failed_by(event):
        return _unwound(steps, Undoing(saga.facts, step.reason, saga.step), _cancelling(saga.facts, step.reason))
    match event:
        case OrderCancelled(_, reason) if step.deadline is None:
            return _unwound(steps, Undoing(saga.facts, reason, saga.step), ())
        case OrderCancelled(_, reason):
            return _given_up(steps, saga, reason, ())
        case DeadlinePassed():
            return _late(steps, saga, event)
        case RetryStep():
            return Move(saga, step.do(saga.facts), _alarm(step, saga.attempt))
        case SkipStep():
            facts = replace(saga.facts, skipped=(*saga.facts.skipped, step.name))
            return _forward(steps, Underway(facts, saga.step), None)
        case Compensate(_, reason) if step.deadline is not None:
            return _given_up(steps, saga, reason, _cancelling(saga.facts, reason))
        case _:
            return None


def _forward(steps: Sequence[Step], saga: Underway, event: CheckoutInput | None) -> Move:
    """The step under way is done; the next one begins. The alarm stays as it is: it finds where things are by then."""
    then = steps[saga.step].then(saga.facts, event)
    if saga.step + 1 == len(steps):
        return Move(Completed(saga.facts), then)
    return Move(Underway(saga.facts, saga.step + 1), (*then, *steps[saga.step + 1].do(saga.facts)))


def _late(steps: Sequence[Step], saga: Underway, passed: DeadlinePassed) -> Move | None:
    step = steps[saga.step]
    if step.deadline is None:
        return None
    if (passed.step, passed.attempt) != (step.name, saga.attempt):
        return Move(saga, (), _alarm(step, saga.attempt))  # Of a step before this one, which has its time from now on.
    if saga.attempt < step.deadline.tries:
        again = Underway(saga.facts, saga.step, saga.attempt + 1)
        return Move(again, step.do(saga.facts), _alarm(step, again.attempt))
    return _given_up(steps, saga, step.deadline.reason, _cancelling(saga.facts, step.deadline.reason))


def _given_up(steps: Sequence[Step], saga: Underway, reason: str, cancelling: Commands) -> Move:
    """With a step under way of which nobody knows yet how it ends."""
    step = steps[saga.step]
    if step.undone_by is not None:
        undoing = Undoing(saga.facts, reason, saga.step, calling_back=step.name)
        return Move(undoing, (*step.undo(saga.facts, reason), *cancelling))
    return _unwound(steps, Undoing(saga.facts, reason, saga.step, late=step.name), cancelling)


def _undoing(steps: Sequence[Step], saga: Undoing, event: CheckoutInput) -> Move | None:
    facts, reason = saga.facts, saga.reason
    for step in steps:
        if step.name == saga.calling_back and (
            step.failed_by(event) or (step.undone_by is not None and isinstance(event, step.undone_by))
        ):
            return _unwound(steps, Undoing(facts, reason, saga.left, late=saga.late), ())
        if step.name == saga.late and (isinstance(event, step.done) or step.failed_by(event)):
            undo = step.undo(facts, reason) if isinstance(event, step.done) else ()
            return _ended(Undoing(facts, reason, saga.left, calling_back=saga.calling_back), undo)
    match event:
        case RetryStep():
            back = (step.undo(facts, reason) for step in steps if step.name == saga.calling_back)
            again = (step.do(facts) for step in steps if step.name == saga.late)
            return Move(saga, tuple(command for commands in (*back, *again) for command in commands))
        case SkipStep():
            return _unwound(steps, Undoing(facts, reason, saga.left), ())
        case _:
            return None


def _unwound(steps: Sequence[Step], saga: Undoing, cancelling: Commands) -> Move:
    """Take back what was done, the last first, up to what has to be waited for."""
    commands: list[CheckoutStep] = []
    left, calling_back = saga.left, ""
    while left and not calling_back:
        left -= 1
        step = steps[left]
        if step.name not in saga.facts.skipped:
            commands += step.undo(saga.facts, saga.reason)
            calling_back = step.name if step.undone_by is not None else ""
    undoing = Undoing(saga.facts, saga.reason, left, calling_back, saga.late)
    return _ended(undoing, (*commands, *cancelling))


def _ended(saga: Undoing, commands: Commands) -> Move:
    ended = not (saga.left or saga.calling_back or saga.late)
    return Move(Failed() if ended else saga, commands)


def _cancelling(facts: Facts, reason: str) -> Commands:
    return (CancelOrder(facts.order_id, reason),)


def _alarm(step: Step, attempt: int) -> Alarm | None:
    if step.deadline is None:
        return None
    return Alarm(step.name, attempt, step.deadline.after_s * 2 ** (attempt - 1))
