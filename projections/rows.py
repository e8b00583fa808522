"""Many rows with one statement, in few steps.

Between two steps SQLite's wrapper takes Python's lock again, and waits for it as long as another thread decodes: for a
row a step that is most of the time of a build.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from projections.projection import Value

ROWS = "{rows}"
"""In a statement: where `VALUES (...), (...)` stands, whose columns are called `column1`, `column2` and so on."""
ROWS_AT_ONCE = 256
"""In a step. SQLite takes 32,766 values, so rows may have 127."""
TEXTS_MAX = 256


def write(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Value]]) -> None:
    """Execute `sql`, which has `ROWS` in it, for these rows, all as wide."""
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[begin : begin + ROWS_AT_ONCE]
        connection.execute(_text(sql, len(some), len(some[0])), list(chain.from_iterable(some)))


@lru_cache(maxsize=TEXTS_MAX)
def _text(sql: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql.replace(ROWS, f"VALUES {', '.join([row] * rows)}")
