"""A read model that chokes on some texts and whose rows tell the order of events, and what it ought to show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from projections.batches import Batch
from projections.projection import Fact, Projection, Statement, bound
from tests.bus.counter import Added, Scribbled
from tests.projections.tally import Indigestible

POISON = "poison"
UNFIT = "unfit"
"""What the handler takes and the table does not: by then, statements before it have been executed."""
SUMS = "UPDATE picky SET n = (3 * n + length(:text)) % 1009, seen = :sequence WHERE counter_id = :counter_id"

Rows = list[tuple[object, ...]]
Places = list[tuple[str, int, int]]


@dataclass
class Appetite:
    """What the handler chokes on; `dead_after` so many events it finds that the disk is dead."""

    chokes: bool = True
    dead_after: int = -1
    handled: int = 0


@dataclass
class Picky:
    name: str = "picky"
    stream: str = "counters"
    appetite: Appetite = field(default_factory=Appetite)

    @property
    def projection(self) -> Projection:
        return Projection(
            name=self.name,
            version=1,
            stream=self.stream,
            key="counter_id",
            schema="""
            CREATE TABLE picky (counter_id TEXT PRIMARY KEY, n INTEGER NOT NULL, seen INTEGER NOT NULL)
                STRICT, WITHOUT ROWID
            """,
            on={
                Added: """
                    INSERT INTO picky VALUES (:counter_id, :amount, :sequence)
                    ON CONFLICT (counter_id) DO UPDATE SET n = (5 * n + excluded.n) % 1009, seen = excluded.seen
                """,
                Scribbled: self._scribbled,
            },
        )

    def _scribbled(self, fact: Fact) -> Iterable[Statement]:
        assert isinstance(fact.event, Scribbled)
        self.appetite.handled += 1
        if self.appetite.handled == self.appetite.dead_after:
            raise OSError("the disk is dead")
        if self.appetite.chokes and fact.event.text == POISON:
            raise Indigestible(fact.event.counter_id)
        if self.appetite.chokes and fact.event.text == UNFIT:
            yield bound("INSERT INTO picky VALUES (:counter_id, NULL, :sequence)", fact)
        yield bound(SUMS, fact)


def shown(batch: Batch, *, chokes: bool = True) -> tuple[Rows, Places]:
    """What the read model shows of these blocks, and what is parked: an independent fold, a key at a time."""
    rows: dict[str, tuple[int, int]] = {}
    parked: set[str] = set()
    places: Places = []
    for block in batch.blocks:
        for offset, commit in enumerate(block.commits):
            parts: dict[str, list[object]] = {}
            for event in commit.events:
                assert isinstance(event, Added | Scribbled)
                parts.setdefault(event.counter_id, []).append(event)
            for key, events in parts.items():
                poisoned = any(isinstance(event, Scribbled) and event.text in (POISON, UNFIT) for event in events)
                if key in parked or (chokes and poisoned):
                    parked.add(key)
                    places.append((key, block.sequence, offset))
                    continue
                for event in events:
                    if isinstance(event, Added):
                        n = (5 * rows[key][0] + event.amount) % 1009 if key in rows else event.amount
                        rows[key] = n, block.sequence
                    elif isinstance(event, Scribbled) and key in rows:
                        rows[key] = (3 * rows[key][0] + len(event.text)) % 1009, block.sequence
    return [(key, *rows[key]) for key in sorted(rows)], sorted(places)
