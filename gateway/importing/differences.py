"""What a reconciliation is made of: tables of sums, and differences by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

Kind = Literal["count", "cents"]


class Line(Struct, frozen=True):
    """One key of a table: what the rows add up to and what the read model says, by column. Absent there: empty."""

    key: str
    csv: dict[str, int]
    read_model: dict[str, int]


class Table(Struct, frozen=True):
    """One comparison. `columns` name the figures in order, and what they count."""

    by: str
    columns: dict[str, Kind]
    lines: list[Line]

    def differences(self) -> Iterator[Difference]:
        for line in self.lines:
            for column, kind in self.columns.items():
                csv, read_model = line.csv.get(column, 0), line.read_model.get(column, 0)
                if csv != read_model:
                    yield Difference(f"{self.by} {line.key}, {column}", shown(csv, kind), shown(read_model, kind))


class Difference(Struct, frozen=True):
    """Where rows and read models do not agree."""

    where: str
    csv: str
    read_model: str

    def __str__(self) -> str:
        return f"{self.where}: {self.csv} in the CSV, {self.read_model} in the read model"


class Reconciliation(Struct, frozen=True):
    """`others`: orders in the read models that were not imported from this folder, and are left out here."""

    orders: int
    others: int
    tables: list[Table]
    differences: list[Difference]

    @property
    def equal(self) -> bool:
        return not self.differences


def shown(value: int, kind: Kind) -> str:
    """A figure for people: 1234567 cents are 12,345.67."""
    if kind == "count":
        return f"{value:,}"
    sign, value = ("-" if value < 0 else ""), abs(value)
    return f"{sign}{value // 100:,}.{value % 100:02}"
