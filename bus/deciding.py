"""Deciding one command into the block that is being filled. Nothing here waits, and a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, Union

import msgspec
from msgspec import Raw

from bus.blocks import BLOCK_BYTES_MAX, BLOCK_COMMITS_MAX, BLOCK_HEAD_BYTES, Commit
from bus.commands import Envelope, Refused
from bus.filling import Decided, Filling, Item
from bus.states import Known
from domains.kernel import Domain, Rejected

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

_encode = msgspec.json.Encoder().encode


class Deciding(Generic[State, Command, Event]):
    """What a domain says to commands, as commits of a block."""

    def __init__(self, domain: Domain[State, Command, Event]) -> None:
        self._domain = domain
        self._decode = msgspec.json.Decoder(Union[domain.commands]).decode  # noqa: UP007  # Made at run time.

    def decide(self, item: Item, filling: Filling[State], known: Callable[[str], Known[State]]) -> bool:
        """Decide a command on what is known of its aggregates. False: it does not fit into this block any more.

        Raises `Rejected`, or msgspec's errors for a command that is none.
        """
        envelope, domain = item.envelope, self._domain
        command: Command = self._decode(envelope.command)
        targets = domain.targets(command)
        before = {aggregate: known(aggregate) for aggregate in targets}
        own = targets[0]
        if envelope.expect is not None and envelope.expect != before[own].version:
            raise Rejected("version_conflict", f"version is {before[own].version}, expected {envelope.expect}")
        events = domain.decide({aggregate: before[aggregate].state for aggregate in targets}, command)
        if not events:
            filling.waiting.append((item, before[own].version))
            return True
        grouped: dict[str, list[Event]] = {own: []}  # Its own aggregate first: that commit is what the caller is told.
        for event in events:
            grouped.setdefault(domain.owner(event), []).append(event)
        if not grouped[own]:
            del grouped[own]
        commits = [
            _encode(_commit(envelope, item.digest, aggregate, before[aggregate].version + 1, grouped[aggregate]))
            for aggregate in grouped
        ]
        size = sum(map(len, commits)) + len(commits)
        if len(commits) > BLOCK_COMMITS_MAX or BLOCK_HEAD_BYTES + size > BLOCK_BYTES_MAX:
            raise Rejected("command_too_large", f"a command may cause at most {BLOCK_BYTES_MAX} bytes of events")
        if len(filling.commits) + len(commits) > BLOCK_COMMITS_MAX or filling.size + size > BLOCK_BYTES_MAX:
            return False
        touched: dict[str, Known[State]] = {}
        for aggregate, its_events in grouped.items():
            version, state = before[aggregate]
            for event in its_events:
                state = domain.evolve(state, event)
            touched[aggregate] = Known(version + 1, state)
        first = next(iter(grouped))
        decided = Decided(item.digest, len(filling.commits), touched[first].version, Raw(_encode(grouped[first])))
        filling.touched.update(touched)
        filling.commits.extend(commits)
        filling.size += size
        filling.decided[envelope.id] = decided
        filling.waiting.append((item, decided))
        return True


def _commit(envelope: Envelope, digest: str, aggregate: str, version: int, events: list[Event]) -> Commit[Event]:
    return Commit(
        id=envelope.id,
        aggregate=aggregate,
        version=version,
        events=events,
        digest=digest,
        actor=envelope.actor,
        cause=envelope.cause,
        correlation=envelope.correlation,
        trace=envelope.trace,
        occurred_at=envelope.occurred_at,
    )


def malformed(error: msgspec.ValidationError) -> Refused:
    """What msgspec says of a value, with its path as a JSON pointer."""
    detail, _, path = str(error).partition(" - at `$")
    return Refused("malformed", detail, pointer_of(path.rstrip("`")))


def pointer_of(path: str) -> str:
    """`.lines[0].sku`, as msgspec writes it, as the JSON pointer `/lines/0/sku` (RFC 6901)."""
    return path.replace("[", "/").replace("]", "").replace(".", "/")
