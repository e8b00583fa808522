"""What is answered instead of what was asked for: problems, and how it stands with a command that is not done yet."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

HEADERS = "headers"
"""In a route's `opt` and in a scope's state: what every answer is to bear, whatever becomes of the request."""


class ProblemDetails(Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `field` is a JSON pointer into the body, or `header:NAME`, `query:NAME`, `path:NAME`."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    field: str = ""
    trace_id: str = ""


class CommandStatus(Struct, frozen=True, omit_defaults=True):
    """`problem` says why it was rejected; `position`, `version` and `location` are of what was done."""

    id: str
    status: Literal["pending", "done", "rejected"]
    position: str = ""
    version: int = 0
    location: str = ""
    detail: str = ""
    problem: ProblemDetails | None = None


class Accepted(Exception):
    """Raised instead of an answer; answered 202 with where to ask. `applied`: because the client preferred it so."""

    def __init__(self, id: str, detail: str, *, applied: bool = False) -> None:
        super().__init__(id)
        self.status = CommandStatus(id, "pending", detail=detail)
        self.applied = applied
