"""Deciding one command into the block that is being filled. Nothing here waits, and a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar, Union

import msgspec
from msgspec import Raw

from bus.commands import Refused, partition_of
from bus.engines.filling import Decided, Filling, Item
from bus.engines.states import Known
from bus.logs.blocks import EncodedCommit
from domains.kernel import Domain, Rejected

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

_encode = msgspec.json.Encoder().encode


class Taken(Enum):
    """What became of a command that was to be decided."""

    IN = "in"
    """It is answered with this block."""
    NO_ROOM = "no room"
    """It does not fit into this block any more."""
    NOT_KNOWN = "not known"
    """An aggregate that it is about has to be loaded first."""


class Deciding(Generic[State, Command, Event]):
    """What a domain says to commands, as commits of a block."""

    def __init__(self, domain: Domain[State, Command, Event], partition: int = 0, partitions: int = 1) -> None:
        self._domain = domain
        self._partition = partition
        self._partitions = partitions
        self._decode = msgspec.json.Decoder(Union[domain.commands]).decode  # noqa: UP007  # Made at run time.

    def targets(self, item: Item) -> tuple[str, ...]:
        """The aggregates that an item's command is about. Raises msgspec's errors for a command that is none."""
        if item.command is None:
            item.command = self._decode(item.envelope.command)
        command: Command = item.command  # type: ignore[assignment]  # An item is of any domain's.
        return self._domain.targets(command)

    def decide(self, item: Item, filling: Filling[State], known: Callable[[str], Known[State] | None]) -> Taken:
        """Decide a command on what is known of its aggregates.

        Raises `Rejected`, or msgspec's errors for a command that is none.
        """
        envelope, domain = item.envelope, self._domain
        if item.command is None:
            item.command = self._decode(envelope.command)
        command: Command = item.command  # type: ignore[assignment]  # An item is of any domain's.
        targets = domain.targets(command)
        if self._partitions > 1:
            self._check_partition(targets)
        if len(targets) > 1:
            return self._decide_unit(item, command, targets, filling, known)
        (own,) = targets
        before = known(own)
        if before is None:
            return Taken.NOT_KNOWN
        if envelope.expect is not None and envelope.expect != before.version:
            raise _other_version(before.version, envelope.expect)
        events = domain.decide({own: before.state}, command)
        if not events:
            filling.tell(item, before.version)
            return Taken.IN
        version = before.version + 1
        encoded = Raw(_encode(events))
        commit = _commit(item, own, version, encoded)
        if not filling.takes(1, len(commit) + 1):
            return Taken.NO_ROOM
        state = before.state
        for event in events:
            state = domain.evolve(state, event)
        filling.touched[own] = Known(version, state)
        filling.commits.append(commit)
        filling.add(item, Decided(item.digest, version, encoded), len(commit) + 1)
        return Taken.IN

    def _check_partition(self, targets: tuple[str, ...]) -> None:
        """Whoever believes in another number of partitions would give an aggregate a second history beside its own."""
        for aggregate in targets:
            if (right := partition_of(aggregate, self._partitions)) != self._partition:
                raise Rejected("wrong_partition", f"{aggregate} is in partition {right}, not {self._partition}")

    def _decide_unit(
        self,
        item: Item,
        command: Command,
        targets: tuple[str, ...],
        filling: Filling[State],
        known: Callable[[str], Known[State] | None],
    ) -> Taken:
        """The same for a unit of work over several aggregates: a commit for each that something happens to."""
        envelope, domain, own = item.envelope, self._domain, targets[0]
        before: dict[str, Known[State]] = {}
        states: dict[str, State] = {}
        for aggregate in targets:
            found = known(aggregate)
            if found is None:
                return Taken.NOT_KNOWN
            before[aggregate] = found
            states[aggregate] = found.state
        if envelope.expect is not None and envelope.expect != before[own].version:
            raise _other_version(before[own].version, envelope.expect)
        events = domain.decide(states, command)
        if not events:
            filling.tell(item, before[own].version)
            return Taken.IN
        owner, evolve = domain.owner, domain.evolve
        grouped: dict[str, list[Event]] = {own: []}  # Its own aggregate first: that commit is what the caller is told.
        for event in events:
            grouped.setdefault(owner(event), []).append(event)
        if not grouped[own]:
            del grouped[own]
        commits: list[bytes] = []
        touched: dict[str, Known[State]] = {}
        size, told = 0, None
        for aggregate, its_events in grouped.items():
            version, state = before[aggregate].version + 1, states[aggregate]
            encoded = Raw(_encode(its_events))
            commit = _commit(item, aggregate, version, encoded)
            commits.append(commit)
            size += len(commit) + 1
            for event in its_events:
                state = evolve(state, event)
            touched[aggregate] = Known(version, state)
            told = told or Decided(item.digest, version, encoded)
        assert told is not None  # There are events.
        if not filling.takes(len(commits), size):
            return Taken.NO_ROOM
        filling.touched.update(touched)
        filling.commits.extend(commits)
        filling.add(item, told, size)
        return Taken.IN


def _commit(item: Item, aggregate: str, version: int, events: Raw) -> bytes:
    envelope = item.envelope
    return _encode(
        EncodedCommit(
            envelope.id,
            aggregate,
            version,
            events,
            item.digest,
            envelope.actor,
            envelope.cause,
            envelope.correlation,
            envelope.trace,
            envelope.occurred_at,
        )
    )


def _other_version(version: int, expected: int) -> Rejected:
    return Rejected("version_conflict", f"version is {version}, expected {expected}")


def malformed(error: msgspec.ValidationError) -> Refused:
    """What msgspec says of a value, with its path as a JSON pointer."""
    detail, _, path = str(error).partition(" - at `$")
    return Refused("malformed", detail, pointer_of(path.rstrip("`")))


def pointer_of(path: str) -> str:
    """`.lines[0].sku`, as msgspec writes it, as the JSON pointer `/lines/0/sku` (RFC 6901)."""
    return path.replace("[", "/").replace("]", "").replace(".", "/")
