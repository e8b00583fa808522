"""Defects to plant: what an engine or a sender could get wrong, and which promises that breaks.

Each is planted around an engine, not in it: in the log that it writes to, the domain that it hosts, the envelopes that
it takes and the answers that it gives. So the table outlives every rewriting of the engine, and holds for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from bus.commands import Answer, Envelope, Refused, Stored, Unavailable, Unknown
from bus.logs.blocks import GENESIS
from bus.logs.log import Log
from domains.inventory.stock import Shelf
from domains.kernel import Domain, Rejected
from domains.orders.messages import CancelOrder, OrderCancelled
from tests.faults.rewritten import Deaf, Document, Dreaming, Early, Rewritten, Stubborn, Through, Unfenced

AnyDomain = Domain[object, object, object]


@dataclass(frozen=True)
class Bug:
    """A defect, and the promises of which the checker must name one (see `tests/faults/checker.py`)."""

    name: str
    breaks: tuple[str, ...]
    log: Callable[[Log], Log] = Through
    domain: Callable[[AnyDomain], AnyDomain] = lambda domain: domain
    envelope: Callable[[Envelope, int, int], Envelope] = lambda envelope, start, number: envelope
    """Given how often the engine was started, and a number for each submission."""
    answer: Callable[[Envelope, Answer], Answer] = lambda envelope, answer: answer


def rewriting(rewrite: Callable[[Document], Document]) -> Callable[[Log], Log]:
    return lambda log: Rewritten(log, rewrite)


def _unchained(block: Document) -> Document:
    return {**block, "prev": GENESIS}


def _versions_from_one(block: Document) -> Document:
    counted: Counter[str] = Counter()
    for commit in block["commits"]:
        counted[commit["aggregate"]] += 1
        commit["version"] = counted[commit["aggregate"]]
    return block


def _last_unit_split(block: Document) -> Document:
    commits = block["commits"]
    whole = len(commits) > 1 and commits[-1]["id"] == commits[-2]["id"]
    return {**block, "commits": commits[:-1] if whole else commits}


def _twice(block: Document) -> Document:
    """As an engine would that decides the block's first command again and does not see that it has."""
    return {**block, "commits": [*block["commits"], block["commits"][0]]}


def _true_ids(block: Document) -> Document:
    for commit in block["commits"]:
        commit["id"] = commit["id"].partition("~")[0]
    return block


def _under_an_id_of_its_own(envelope: Envelope, start: int, number: int) -> Envelope:
    return msgspec.structs.replace(envelope, id=f"{envelope.id}~{number}")


def _under_an_id_of_this_start(envelope: Envelope, start: int, number: int) -> Envelope:
    return msgspec.structs.replace(envelope, id=f"{envelope.id}~{start}")


def _shelves_always_full(domain: AnyDomain) -> AnyDomain:
    def decide(states: Mapping[str, object], command: object) -> list[object]:
        full = {
            name: Shelf(state.on_hand + 100, state.reserved) if isinstance(state, Shelf) else state
            for name, state in states.items()
        }
        return domain.decide(full, command)

    return replace(domain, decide=decide)


_NOT_DONE = "this was refused"


def _refused_and_written(domain: AnyDomain) -> AnyDomain:
    def decide(states: Mapping[str, object], command: object) -> list[object]:
        try:
            return domain.decide(states, command)
        except Rejected:
            if isinstance(command, CancelOrder):
                return [OrderCancelled(command.order_id, _NOT_DONE)]
            raise

    return replace(domain, decide=decide)


def _told_as_refused(envelope: Envelope, answer: Answer) -> Answer:
    written = isinstance(answer, Stored) and _NOT_DONE.encode() in bytes(answer.events)
    return Refused("order_unknown") if written else answer


def _of_the_next_block(envelope: Envelope, answer: Answer) -> Answer:
    return msgspec.structs.replace(answer, position=answer.position + 1) if isinstance(answer, Stored) else answer


def _uncertain_as_failed(envelope: Envelope, answer: Answer) -> Answer:
    return Unavailable("no_answer") if isinstance(answer, Unknown) else answer


HONEST = Bug("none", ())
BUGS = (
    Bug("answers before the acknowledgement", ("I1",), log=Early),
    Bug("appends without an expectation", ("I3",), log=Unfenced),
    Bug("takes a conflict for stored", ("I1",), log=Deaf),
    Bug("keeps its state after a conflict", ("I3", "I7"), log=Stubborn),
    Bug("does not look whether it still owns the log", ("I4", "I7"), log=Dreaming),
    Bug("does not remember ids", ("I5",), log=rewriting(_true_ids), envelope=_under_an_id_of_its_own),
    Bug("forgets ids at a restart", ("I5",), log=rewriting(_true_ids), envelope=_under_an_id_of_this_start),
    Bug("writes a command twice", ("I5",), log=rewriting(_twice)),
    Bug("does not chain blocks", ("I3",), log=rewriting(_unchained)),
    Bug("counts versions anew in each block", ("I3",), log=rewriting(_versions_from_one)),
    Bug("splits a unit of work", ("I7",), log=rewriting(_last_unit_split)),
    Bug("decides on stock that is not there", ("I16",), domain=_shelves_always_full),
    Bug("writes what it refuses", ("I2",), domain=_refused_and_written, answer=_told_as_refused),
    Bug("answers for the next block", ("I1",), answer=_of_the_next_block),
    Bug("tells an uncertain outcome as failed", ("I2",), answer=_uncertain_as_failed),
)
