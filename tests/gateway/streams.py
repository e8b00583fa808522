"""Server-sent events as a client sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx


class Event(NamedTuple):
    name: str
    id: str
    data: dict[str, Any]

    @property
    def what(self) -> tuple[str, str]:
        return self.data["domain"], ",".join(self.data["events"])


@contextmanager
def following(
    http: httpx.Client, path: str, headers: dict[str, str], params: dict[str, str] | None = None
) -> Iterator[Iterator[Event]]:
    """The events of a stream, as they come."""
    with http.stream("GET", path, params=params, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield _events(answer)


def _events(answer: httpx.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


def taken(events: Iterator[Event], count: int) -> list[Event]:
    return [next(events) for _ in range(count)]
