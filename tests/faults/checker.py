"""The checker: what clients were answered, held against what lies in the log. Pure, and independent of the engine.

It knows the promises by their numbers in the list below and names each one that is broken. It re-decides the whole
log with the domain's own decider, for that is what the log must be explained by, but decodes, chains, groups, counts
and keeps the books of the stock by itself: a defect that the engine and its reader share must not hide here.

    I1  every acknowledged command is in the log exactly once, at its position, with the content it was answered with
    I2  nothing that was only ever answered as definitely failed is in the log, and nothing that nobody asked for
    I3  one log: one epoch, no gap, the chain intact, each aggregate's versions 1..n
    I4  the log's order respects real time: what was asked after an answer was heard lies after it, or rests on it
    I5  a command id takes effect once, and keeps its first answer
    I7  every unit of work is what the decider says on the states before it, whole; and so is every refusal
    I16 the stock's books balance after every commit: nothing reserved or available is below zero
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, groupby
from typing import Generic, NamedTuple, TypeVar, Union

import msgspec

from bus.commands import Answer, Refused, Stored, Unavailable, Unchanged, digest_of
from bus.logs.blocks import GENESIS, Block, Commit
from bus.logs.log import Record
from domains.inventory.messages import ItemDispatched, ItemReleased, ItemReserved, StockReceived
from domains.kernel import Domain, Rejected

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

OWN_REFUSALS = ("id_reused", "malformed", "malformed_frame", "internal_error", "command_too_large", "no_answers")
"""Refusals that are the engine's or the sender's, not a decider's."""
NEVER = 1 << 62

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class Asked:
    """One sending of a command by one client, and what it heard. `began` and `ended` are ticks of one clock that all
    clients share; without an answer `ended` is 0."""

    log: str
    id: str
    content: bytes
    expect: int | None = None
    began: int = 0
    ended: int = 0
    answer: Answer | None = None

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    @property
    def failed(self) -> bool:
        """Whether the client was told for certain that this sending wrote nothing."""
        return isinstance(self.answer, Refused | Unavailable | Unchanged)

    def __str__(self) -> str:
        return f"{self.id} ({self.content.decode()[:80]}), answered {self.answer}"


class Violation(NamedTuple):
    """A promise that was broken: which, in which log, and how."""

    invariant: str
    log: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} in {self.log}: {self.what}"


class Unit(NamedTuple, Generic[Event]):
    """The commits that one command left, side by side in one block."""

    sequence: int
    commits: list[Commit[Event]]


def violations(
    domain: Domain[State, Command, Event], epoch: str, asked: Iterable[Asked], records: Sequence[Record]
) -> list[Violation]:
    """Everything that is wrong with a log, given all that was ever asked of it. Empty: every promise was kept.

    `asked` may hold commands that are not answered yet, if `records` were read after the last answer in it was heard.
    """
    check = _Check(domain, epoch, [one for one in asked if one.log == domain.name])
    check.chain(records)
    check.answers()
    check.order()
    check.decisions()
    return [Violation(invariant, domain.name, what) for invariant, what in check.found]


class _Check(Generic[State, Command, Event]):
    def __init__(self, domain: Domain[State, Command, Event], epoch: str, asked: list[Asked]) -> None:
        self.domain = domain
        self.epoch = epoch
        self.asked = asked
        self.found: list[tuple[str, str]] = []
        self.units: list[Unit[Event]] = []
        self.homes: dict[str, Unit[Event]] = {}
        self.by_content: dict[tuple[str, str], list[Asked]] = {}
        for one in asked:
            self.by_content.setdefault((one.id, one.digest), []).append(one)

    def wrong(self, invariant: str, what: str) -> None:
        self.found.append((invariant, what))

    # -- I3, I5: the log in itself -----------------------------------------------------------------------------------

    def chain(self, records: Sequence[Record]) -> None:
        """Decode, and see that it is one chain of contiguous versions in which an id stands once."""
        decode = msgspec.json.Decoder(Block[Union[self.domain.events]]).decode  # type: ignore[name-defined]  # noqa: UP007
        tips: dict[int, str] = {}
        versions: dict[str, int] = {}
        for sequence, record in enumerate(records, start=2):
            if record.sequence != sequence:
                self.wrong("I3", f"record {record.sequence} stands where {sequence} should")
            try:
                block: Block[Event] = decode(record.data)
            except msgspec.DecodeError as error:
                self.wrong("I3", f"record {record.sequence} is no block: {error}")
                continue
            if block.epoch != self.epoch:
                self.wrong("I3", f"block {record.sequence} is of epoch {block.epoch}, not {self.epoch}")
            if block.prev != tips.get(record.partition, GENESIS):
                self.wrong("I3", f"block {record.sequence} does not continue the block before it")
            tips[record.partition] = sha256(record.data).hexdigest()
            for commit_id, commits in groupby(block.commits, key=lambda commit: commit.id):
                unit = Unit(record.sequence, list(commits))
                self.units.append(unit)
                if commit_id in self.homes:
                    before = self.homes[commit_id].sequence
                    self.wrong("I5", f"{commit_id} took effect in block {before} and in block {unit.sequence}")
                self.homes.setdefault(commit_id, unit)
                for commit in unit.commits:
                    version = versions.get(commit.aggregate, 0)
                    if commit.version != version + 1:
                        what = f"{commit.aggregate} goes from version {version} to {commit.version}"
                        self.wrong("I3", f"block {unit.sequence}: {what}")
                    versions[commit.aggregate] = commit.version

    # -- I1, I2, I5: each answer -------------------------------------------------------------------------------------

    def answers(self) -> None:
        """Hold each answer against the log, and each unit of the log against the answers."""
        head = self.units[-1].sequence if self.units else 1
        first: dict[str, Asked] = {}
        given_first: set[str] = set()
        for one in sorted(self.asked, key=lambda one: one.ended or NEVER):
            match one.answer:
                case Stored() as told:
                    self._stored(one, told)
                    if not told.repeated and one.id in given_first:
                        self.wrong("I5", f"{one} as if for the first time, for the second time")
                    if not told.repeated:
                        given_first.add(one.id)
                    first.setdefault(one.id, one)
                case Unchanged(position=position) if position > head:
                    self.wrong("I1", f"{one}, which rests on a block that is not in the log")
                case Refused(code="id_reused"):
                    home = self.homes.get(one.id)
                    if home is not None and home.commits[0].digest == one.digest:
                        self.wrong("I5", f"{one}, but the log holds it with this very content")
                    continue
            known = first.get(one.id)
            again = isinstance(one.answer, Refused | Unchanged)
            if again and known is not None and known.digest == one.digest and known.ended < one.began:
                self.wrong("I5", f"{one}, but it had been answered as stored before")
        for unit in self.units:
            commit = unit.commits[0]
            askings = self.by_content.get((commit.id, commit.digest), [])
            if not askings:
                self.wrong("I2", f"{commit.id} is in block {unit.sequence}, but nobody asked for that")
            elif all(one.failed for one in askings):
                self.wrong("I2", f"{askings[0]}, but it is in block {unit.sequence}")

    def _stored(self, one: Asked, told: Stored) -> None:
        home = self.homes.get(one.id)
        if home is None:
            self.wrong("I1", f"{one}, but it is not in the log")
            return
        own = home.commits[0]
        if home.sequence != told.position:
            self.wrong("I1", f"{one}, but it is in block {home.sequence}")
        if own.version != told.version:
            self.wrong("I1", f"{one}, but it made version {own.version}")
        if own.digest != one.digest:
            self.wrong("I1", f"{one}, but the log holds another command under this id")
        if _encode(own.events) != bytes(told.events):
            self.wrong("I1", f"{one}, but the log holds other events")

    # -- I4: real time -----------------------------------------------------------------------------------------------

    def order(self) -> None:
        """What was first asked after an answer was heard lies in a later block than what that answer told of."""
        self.floors = _Floors(self.asked)
        asked_first: dict[str, int] = {}
        for one in self.asked:
            asked_first[one.id] = min(one.began, asked_first.get(one.id, NEVER))
            if isinstance(one.answer, Unchanged) and one.answer.position < self.floors.at(one.began):
                self.wrong(
                    "I4", f"{one}, but block {self.floors.at(one.began)} had been acknowledged before it was asked"
                )
        for command_id, unit in self.homes.items():
            if (floor := self.floors.at(asked_first.get(command_id, 0))) >= unit.sequence:
                what = f"{command_id} is in block {unit.sequence}"
                self.wrong("I4", f"{what}, but block {floor} had been acknowledged before it was asked")
        self.asked_first = asked_first

    # -- I7, I16: each decision --------------------------------------------------------------------------------------

    def decisions(self) -> None:
        """Decide the whole log anew, a unit at a time; on the way look for a moment that explains each refusal."""
        replay = _Replay(self.domain)
        stock = _Stock()
        refusals = _Refusals(replay, self._windows())
        for sequence, units in groupby(self.units, key=lambda unit: unit.sequence):
            refusals.open(sequence - 1)
            for unit in units:
                commit = unit.commits[0]
                askings = self.by_content.get((commit.id, commit.digest), [])
                if askings and (problem := replay.explain(askings, unit)):
                    self.wrong("I7", f"block {unit.sequence}: {problem}")
                for part in unit.commits:
                    for event in part.events:
                        if problem := stock.take(event):
                            self.wrong("I16", f"block {unit.sequence}, {commit.id}: {problem}")
                replay.fold(unit)
                refusals.look({part.aggregate for part in unit.commits})
            refusals.close(sequence)
        refusals.open(NEVER)
        for one in refusals.left():
            self.wrong("I7", f"{one}, but on no state of its time would that be decided")

    def _windows(self) -> list[_Window]:
        """For each answer that wrote nothing: after which block it was decided at the earliest, and at the latest."""
        begun = sorted((self.asked_first.get(command_id, 0), unit.sequence) for command_id, unit in self.homes.items())
        lowest = list(accumulate((sequence for _, sequence in reversed(begun)), min))[::-1]
        found = []
        for one in self.asked:
            decided = isinstance(one.answer, Unchanged) or (
                isinstance(one.answer, Refused) and one.answer.code not in OWN_REFUSALS
            )
            if decided:
                later = bisect_right(begun, one.ended, key=lambda pair: pair[0])
                until = lowest[later] if later < len(lowest) else NEVER
                found.append(_Window(one, self.floors.at(one.began), until))
        return sorted(found, key=lambda window: window.after)


class _Floors:
    """At each tick, the last block that some client had been told of."""

    def __init__(self, asked: Iterable[Asked]) -> None:
        told = sorted((one.ended, one.answer.position) for one in asked if isinstance(one.answer, Stored | Unchanged))
        self._ticks = [ended for ended, _ in told]
        self._floors = list(accumulate((position for _, position in told), max))

    def at(self, tick: int) -> int:
        before = bisect_right(self._ticks, tick)
        return self._floors[before - 1] if before else 0


class _Replay(Generic[State, Command, Event]):
    """The states that the log's own events lead to, and what the decider says on them."""

    def __init__(self, domain: Domain[State, Command, Event]) -> None:
        self._domain = domain
        self._decode = msgspec.json.Decoder(Union[domain.commands]).decode  # noqa: UP007  # Made at run time.
        self._states: dict[str, State] = {}
        self._versions: dict[str, int] = {}

    def targets(self, one: Asked) -> tuple[str, ...]:
        return self._domain.targets(self._decode(one.content))

    def decide(self, one: Asked) -> tuple[int, list[Event]]:
        """The version of the command's own aggregate, and the events that would come of it now. Raises `Rejected`."""
        command: Command = self._decode(one.content)
        targets = self._domain.targets(command)
        version = self._versions.get(targets[0], 0)
        if one.expect is not None and one.expect != version:
            raise Rejected("version_conflict")
        return version, self._domain.decide({each: self._state(each) for each in targets}, command)

    def explain(self, askings: Sequence[Asked], unit: Unit[Event]) -> str:
        """Empty when the unit is what one of the askings causes here; otherwise what is wrong with it."""
        problem = ""
        for one in askings:
            try:
                _, events = self.decide(one)
            except Rejected as refusal:
                problem = f"{one.id} would be refused here: {refusal.code}"
                continue
            wanted: dict[str, list[Event]] = {}
            for event in events:
                wanted.setdefault(self._domain.owner(event), []).append(event)
            if wanted == {commit.aggregate: commit.events for commit in unit.commits}:
                return ""
            problem = f"{one.id} would cause {events} here, not {[commit.events for commit in unit.commits]}"
        return problem

    def fold(self, unit: Unit[Event]) -> None:
        for commit in unit.commits:
            state = self._state(commit.aggregate)
            for event in commit.events:
                state = self._domain.evolve(state, event)
            self._states[commit.aggregate] = state
            self._versions[commit.aggregate] = commit.version

    def _state(self, aggregate: str) -> State:
        state = self._states.get(aggregate)
        return self._domain.initial(aggregate) if state is None else state


class _Window(NamedTuple):
    """An answer that wrote nothing, and between which blocks it was decided."""

    one: Asked
    after: int
    until: int


class _Refusals(Generic[State, Command, Event]):
    """Answers that wrote nothing and wait for a state that explains them. Each is looked at again only when one of
    its aggregates has changed."""

    def __init__(self, replay: _Replay[State, Command, Event], windows: list[_Window]) -> None:
        self._replay = replay
        self._coming = deque(windows)
        self._open: dict[int, _Window] = {}
        self._touching: dict[str, set[int]] = {}
        self._unexplained: list[Asked] = []

    def open(self, sequence: int) -> None:
        """The log stands after this block."""
        while self._coming and self._coming[0].after <= sequence:
            window = self._coming.popleft()
            if not self._explained(window.one):
                self._open[id(window)] = window
                for aggregate in self._replay.targets(window.one):
                    self._touching.setdefault(aggregate, set()).add(id(window))

    def look(self, touched: Iterable[str]) -> None:
        for aggregate in touched:
            for key in list(self._touching.get(aggregate, ())):
                if self._explained(self._open[key].one):
                    self._forget(key)

    def close(self, sequence: int) -> None:
        """This block was the last that some of them can rest on."""
        for key in [key for key, window in self._open.items() if window.until <= sequence]:
            self._unexplained.append(self._open[key].one)
            self._forget(key)

    def left(self) -> list[Asked]:
        """Those that nothing explains."""
        return [*self._unexplained, *(window.one for window in self._open.values())]

    def _forget(self, key: int) -> None:
        window = self._open.pop(key)
        for aggregate in self._replay.targets(window.one):
            self._touching[aggregate].discard(key)

    def _explained(self, one: Asked) -> bool:
        try:
            version, events = self._replay.decide(one)
        except Rejected as refusal:
            return isinstance(one.answer, Refused) and one.answer.code == refusal.code
        return not events and isinstance(one.answer, Unchanged) and one.answer.version == version


class _Stock:
    """The books of the stock, kept from events alone: what came in, what is promised, what went out."""

    def __init__(self) -> None:
        self._received: Counter[str] = Counter()
        self._reserved: Counter[str] = Counter()
        self._shipped: Counter[str] = Counter()

    def take(self, event: object) -> str:
        """Empty, or what the event makes impossible."""
        match event:
            case StockReceived(sku=sku, quantity=quantity):
                self._received[sku] += quantity
            case ItemReserved(sku=sku, quantity=quantity):
                self._reserved[sku] += quantity
            case ItemReleased(sku=sku, quantity=quantity):
                self._reserved[sku] -= quantity
            case ItemDispatched(sku=sku, quantity=quantity):
                self._reserved[sku] -= quantity
                self._shipped[sku] += quantity
            case _:
                return ""
        reserved = self._reserved[sku]
        available = self._received[sku] - self._shipped[sku] - reserved
        return f"{sku} has {available} available and {reserved} reserved" if min(available, reserved) < 0 else ""
