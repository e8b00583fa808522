"""Statements that are grouped and folded do what they would do one by one, in fewer statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from random import Random

import pytest
from msgspec import Struct

from bus.logs.blocks import Commit
from domains.orders.messages import OrderCancelled, OrderLine, OrderPaid, OrderPlaced, OrderReserved, OrderShipped
from projections import grouping
from projections import rows as many_rows
from projections.grouping import grouped
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.projection import Fact, Projection, Recorded, Statement, bound, recorded_of
from tests.bus.written import AT


class Opened(Struct, frozen=True):
    key: str
    a: int
    b: str | None


class MovedA(Struct, frozen=True):
    key: str
    a: int


class MovedB(Struct, frozen=True):
    key: str
    b: str | None


class Noted(Struct, frozen=True):
    key: str
    text: str


class Doubled(Struct, frozen=True):
    key: str


class Copied(Struct, frozen=True):
    key: str


class Closed(Struct, frozen=True):
    key: str


class Told(Struct, frozen=True):
    key: str
    texts: tuple[str, ...]


def told(fact: Fact) -> Iterable[Statement]:
    event = fact.event
    assert isinstance(event, Told)
    yield bound("UPDATE thing SET b = 'told, really', version = :version WHERE key = :key", fact)
    for text in event.texts:
        yield "INSERT INTO note VALUES (:key, :text, 'told', NULL, 7)", {"key": event.key, "text": text}


def things(schema: str = "", key: str = "key") -> Projection:
    return Projection(
        name="things",
        version=1,
        stream="things",
        key=key,
        schema=f"""
        CREATE TABLE thing (a INTEGER, key TEXT PRIMARY KEY, b TEXT, state TEXT NOT NULL, version INTEGER NOT NULL);
        CREATE TABLE note (key TEXT NOT NULL, text TEXT NOT NULL, kind TEXT, more TEXT, n INTEGER);
        CREATE TABLE old (key TEXT NOT NULL, a INTEGER);
        {schema}
        """,
        on={
            Opened: "INSERT INTO thing VALUES (:a, :key, :b, 'open', :version)",
            MovedA: "UPDATE thing SET a = :a, state = 'moved' WHERE key = :key",
            MovedB: (
                "UPDATE thing SET b = :b, state = 'it''s', version = :version WHERE key = :key",
                "UPDATE note SET n = -1 WHERE key = :key",
            ),
            Noted: "INSERT INTO note VALUES (:key, :text, 'noted', :at, :sequence)",
            Doubled: "UPDATE thing SET a = 2 * a WHERE key = :key",
            Copied: "INSERT INTO old SELECT key, a FROM thing WHERE key = :key",
            Closed: "DELETE FROM thing WHERE key = :key",
            Told: told,
        },
    )


def recorded(events: Sequence[object], a_commit: int = 1) -> list[Recorded]:
    commits = [
        Commit(id=f"c{n}", aggregate="x", version=n + 1, events=list(events[n : n + a_commit]))
        for n in range(0, len(events), a_commit)
    ]
    return recorded_of(7, AT, commits)


def one_by_one(projection: Projection, batch: Sequence[Recorded]) -> dict[str, list[object]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        memory.executescript(projection.schema)
        for each in batch:
            for sql, row in projection.statements(each):
                memory.execute(sql, row)
        return tables(memory)


def together(projection: Projection, batch: Sequence[Recorded], split: int) -> dict[str, list[object]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        memory.executescript(projection.schema)
        for part in (batch[:split], batch[split:]):
            for group in grouped(projection, part):
                group.execute(memory)
        return tables(memory)


def tables(memory: sqlite3.Connection) -> dict[str, list[object]]:
    """Rows in any order: what is executed together may be written in another one, but not to the same key."""
    names = [name for (name,) in memory.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {name: sorted(memory.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def life(random: Random) -> list[object]:
    open_: set[str] = set()
    events: list[object] = []
    for n in range(random.randint(1, 60)):
        key = random.choice("pqr")
        if random.random() < 0.3:
            events.append(Closed(key) if key in open_ else Opened(key, n, random.choice([None, "b", "nul\0nul"])))
            open_ ^= {key}
        else:
            other: list[object] = [
                MovedA(key, n),
                MovedB(key, random.choice([None, f"b{n}", "\u00e9\U0001f600\"'\\\n", "nul\0nul"])),
                Noted(key, f"t{n}"),
                Doubled(key),
                Copied(key),
                Told(key, tuple(f"t{n}.{m}" for m in range(random.randint(0, 2)))),
            ]
            events.append(random.choice(other))
    return events


@pytest.mark.parametrize("at_once", [1, 1_000], ids=["some rows a step", "rows one by one"])
@pytest.mark.parametrize(
    "projection",
    [things(), things("CREATE TABLE more (n INTEGER CHECK (n > 0));"), things(key="")],
    ids=["folded", "with a rule", "without a key"],
)
def test_grouped_statements_do_what_they_do_one_by_one(
    projection: Projection, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "TOGETHER_ROWS", at_once)
    monkeypatch.setattr(many_rows, "ROWS_AT_ONCE", 3)
    random = Random(7)
    for _ in range(100):
        batch = recorded(life(random), random.randint(1, 3))
        assert together(projection, batch, random.randint(0, len(batch))) == one_by_one(projection, batch)


def test_a_life_within_a_batch_is_one_row() -> None:
    lines = (OrderLine("sku", "thing", "toys", 1, 100, 0), OrderLine("sku2", "thing", "toys", 1, 100, 0))
    placed = OrderPlaced("o1", "c1", "EUR", lines, 2, 200, 0, 200, payment_token="tok_ok", workflow="recorded")
    life = [placed, OrderReserved("o1"), OrderPaid("o1", 200), OrderShipped("o1")]
    (summary,) = grouped(order_summary, recorded(life))
    assert [row[2] for row in summary.rows] == ["shipped"]
    detail, line = grouped(order_detail, recorded(life))
    assert (len(detail.rows), len(line.rows)) == (1, 2)
    (moved,) = grouped(order_summary, recorded([OrderReserved("o1"), OrderPaid("o2", 1), OrderCancelled("o1", "x")]))
    assert [(row[0], row[-1]) for row in moved.rows] == [("cancelled", "o1"), ("paid", "o2")]


def test_where_it_may_matter_how_often_a_row_is_written_it_is_written_as_often() -> None:
    events: list[object] = [Opened("p", 1, "b"), MovedA("p", 2), MovedA("p", 3)]
    for schema, rows in (("", 1), ("CREATE TABLE more (n INTEGER CHECK (n > 0));", 3)):
        assert sum(len(group.rows) for group in grouped(things(schema), recorded(events))) == rows


def test_rows_of_one_statement_are_written_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "TOGETHER_ROWS", 2)
    steps: list[str] = []
    events: list[object] = [Opened("p", 1, "b"), Opened("q", 1, None)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        memory.executescript(things().schema)
        memory.set_trace_callback(steps.append)
        for group in grouped(things(), recorded(events)):
            group.execute(memory)
        moves: list[object] = [MovedA("p", 2), MovedA("q", 3)]
        for group in grouped(things(), recorded(moves)):
            group.execute(memory)
        assert len(steps) == 2
        assert tables(memory)["thing"] == [(2, "p", "b", "moved", 1), (3, "q", None, "moved", 2)]
