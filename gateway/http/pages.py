"""Lists: cursor-paged, at most `LIMIT_MAX` items a page, the next page linked (RFC 8288)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from litestar.params import Parameter
from msgspec import Struct

from domains.kernel import ID_PATTERN
from gateway.http.gate import AnyRequest
from gateway.http.problems import Problem

LIMIT = 50
LIMIT_MAX = 200

Item = TypeVar("Item")
Limit = Annotated[int, Parameter(ge=1, le=LIMIT_MAX, description="Items a page.")]
Cursor = Annotated[
    str,
    Parameter(
        max_length=128, pattern=r"^[A-Za-z0-9_=-]*$", description="Where the page before ended; from its `next`."
    ),
]


class Page(Struct, Generic[Item], frozen=True):
    items: list[Item]
    next: str | None = None


def after(cursor: str) -> str:
    """The key that a cursor stands for; empty for the first page."""
    try:
        key = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "malformed", "not a cursor of ours", field="query:cursor") from error
    if key and not re.fullmatch(ID_PATTERN, key):
        raise Problem(422, "malformed", "not a cursor of ours", field="query:cursor")
    return key


def cursor_of(key: str) -> str:
    """What stands for the last key of a page."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def page(
    request: AnyRequest, rows: Sequence[Item], limit: int, key: Callable[[Item], str]
) -> tuple[Page[Item], dict[str, str]]:
    """The page and its `Link` header. `rows` hold one more than `limit` when there is a next page."""
    if len(rows) <= limit:
        return Page(list(rows)), {}
    cursor = cursor_of(key(rows[limit - 1]))
    query = urlencode({**dict(request.query_params.items()), "cursor": cursor})
    return Page(list(rows[:limit]), cursor), {"Link": f'<{request.url.path}?{query}>; rel="next"'}
