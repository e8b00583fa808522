"""The rows of a CSV file, one at a time, each value checked as it is taken; what is no row is kept with the reason."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from domains.kernel import CENTS_MAX, ID_PATTERN

Word = TypeVar("Word", bound=str)

AMOUNT_MAX = Decimal(CENTS_MAX).scaleb(-2)
NUMBER_MAX = 1_000_000
TEXT_MAX = 150
SHOWN_MAX = 40
"""Characters of a bad value that are shown."""

_ID = re.compile(ID_PATTERN)
_AMOUNT = re.compile(r"(-?)[0-9]{1,16}(?:\.([0-9]{1,16}))?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


class FolderUnusable(Exception):
    """A file or a column is missing. The message says which."""


class BadRow(Struct, frozen=True):
    """A row that was skipped. `line` counts from 1, the header included."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


class Bad(Exception):
    """Why a row is skipped."""


class Row:
    """One row of a file: its values by column, each checked as it is taken."""

    __slots__ = ("_values", "line")

    def __init__(self, line: int, values: dict[str, str]) -> None:
        self.line = line
        self._values = values

    def raw(self, column: str) -> str:
        return self._values[column]

    def text(self, column: str, *, empty: bool = False) -> str:
        value = self._values[column]
        if not value and not empty:
            raise Bad(f"{column} is empty")
        if len(value) > TEXT_MAX:
            raise Bad(f"{column} has more than {TEXT_MAX} characters")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Bad(f"{column} is not UTF-8") from None
        return value

    def id(self, column: str) -> str:
        value = self.text(column)
        if not _ID.fullmatch(value):
            raise Bad(f"{column} {_shown(value)} is no id: 1 to 64 letters, digits, _ and -")
        return value

    def amount(self, column: str) -> Decimal:
        value = self.text(column)
        match = _AMOUNT.fullmatch(value)
        if match is None:
            raise Bad(f"{column} {_shown(value)} is no amount of money")
        if match[1]:
            raise Bad(f"{column} {_shown(value)} is negative")
        if len(match[2] or "") > 2:
            raise Bad(f"{column} {_shown(value)} has more than two decimals")
        amount = Decimal(value)
        if amount > AMOUNT_MAX:
            raise Bad(f"{column} {_shown(value)} is more than {AMOUNT_MAX}")
        return amount

    def number(self, column: str, highest: int = NUMBER_MAX) -> int:
        value = self.text(column)
        if not _NUMBER.fullmatch(value) or int(value) > highest:
            raise Bad(f"{column} {_shown(value)} is no number from 0 to {highest}")
        return int(value)

    def time(self, column: str) -> datetime:
        value = self.text(column)
        try:
            if not _TIME.fullmatch(value):
                raise ValueError
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            raise Bad(f"{column} {_shown(value)} is no time like 2018-07-24 20:41:37") from None

    def time_if_any(self, column: str) -> datetime | None:
        return self.time(column) if self._values[column] else None

    def one_of(self, column: str, words: Sequence[Word]) -> Word:
        value = self.text(column)
        for word in words:
            if value == word:
                return word
        raise Bad(f"{column} {_shown(value)} is unknown; known are {', '.join(words)}")


def rows(path: Path, columns: Sequence[str], bad: list[BadRow]) -> Iterator[Row]:
    """A file's rows, one at a time, with the columns that matter. Those that are no rows of it go to `bad`."""
    # Bytes that are not UTF-8 are let in here, so that only a row that needs them is bad.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines)
        except StopIteration:
            raise FolderUnusable(f"{path} is empty: its first line should name its columns") from None
        except csv.Error as error:
            raise FolderUnusable(f"{path} has no header that can be read: {error}") from error
        missing = [column for column in columns if column not in header]
        if missing:
            raise FolderUnusable(f"{path} has no column {', no column '.join(missing)}")
        places = {column: header.index(column) for column in columns}
        while True:
            line = lines.line_num + 1  # Where a row begins: a quoted value may go over several.
            try:
                values = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                bad.append(BadRow(path.name, line, f"is not CSV: {error}"))
                continue
            if not values:
                continue  # An empty line.
            if len(values) != len(header):
                bad.append(BadRow(path.name, line, f"has {len(values)} columns, its header has {len(header)}"))
                continue
            yield Row(line, {column: values[place] for column, place in places.items()})


def _shown(value: str) -> str:
    return repr(value if len(value) <= SHOWN_MAX else value[:SHOWN_MAX] + "...")
