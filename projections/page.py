"""Pages: what several queries find by one id. Many pages are read in one statement a read model.

To run a statement takes SQLite and Python's wrapper longer than to find one row more; and the wrapper lets go of the
interpreter at each row, where the threads that take requests in wait for it. So the ids go in as one JSON array, and
all rows come out as one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from projections.projection import Projection
from projections.reader import Query

_decode = msgspec.json.Decoder(list[list[list[list[str | int | None]]]]).decode


class Part(NamedTuple):
    """Of one read model: a statement that takes `:keys`, and which of the page's queries it answers."""

    projection: Projection
    sql: str
    places: tuple[int, ...]


class Page:
    """Queries by key, each with one and the same parameter, an id. Of texts and whole numbers: SQLite writes other
    numbers into JSON with fewer digits than they have."""

    def __init__(self, key: str, *queries: Query[Any]) -> None:
        for query in queries:
            if not query.by_key or set(re.findall(r":(\w+)", query.sql)) != {key}:
                raise ValueError(f"not by {key} alone: {query.sql}")
            if wrong := [name for name, kind in get_type_hints(query.result).items() if not _is_plain(kind)]:
                raise ValueError(f"neither texts nor whole numbers: {', '.join(wrong)}")
        self.key = key
        self.queries = queries
        places: dict[str, list[int]] = {}
        for place, query in enumerate(queries):
            places.setdefault(query.projection.name, []).append(place)
        self.parts = [self._part(each) for each in places.values()]

    def _part(self, places: Sequence[int]) -> Part:
        queries = [self.queries[place] for place in places]
        rows = ", ".join(self._rows(query) for query in queries)
        sql = f"SELECT json_group_array(json_array({rows})) FROM json_each(:keys) AS asked"  # Our own texts.
        return Part(queries[0].projection, sql, tuple(places))

    def _rows(self, query: Query[Any]) -> str:
        columns = ", ".join(query.result.__struct_fields__)
        found = re.sub(rf":{self.key}\b", "asked.value", query.sql)
        return f"(SELECT json_group_array(json_array({columns})) FROM ({found}))"

    def rows_of(self, part: Part, answer: str) -> list[list[list[msgspec.Struct]]]:
        """What a part's statement gave: of each key, of each of its queries, the rows."""
        results = [self.queries[place].result for place in part.places]
        return [
            [[result(*row) for row in rows] for result, rows in zip(results, of_key, strict=True)]
            for of_key in _decode(answer)
        ]


def _is_plain(kind: object) -> bool:
    return {*(get_args(kind) or (kind,))} <= {str, int, NoneType}
