"""Routes that are handled right behind the check of the token: writes with a JSON body, and pages asked for often.

A handler is written like any other, and is given and gives back the same. But from the wire to it and back leads one
step each, where the framework has layers for what these routes do not use: parameters in queries and headers,
dependencies, cookies, other media types. They take as long as all the rest of a request in this process.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from msgspec import Struct

from domains.kernel import ID_PATTERN
from gateway.http.bodies import JsonBody, decode_body, read_body
from gateway.http.problems import Problem

_encode = msgspec.json.Encoder().encode
_id = re.compile(ID_PATTERN)


DIRECT: dict[str, Any] = {"direct": True}
"""For the `opt` of a GET whose handler takes ids from its path, and else only what may be left out of the query."""

Handle = Callable[..., Awaitable[Response[Any]]]
Way = Callable[[HTTPScope, Receive, Send], Awaitable[None]]


class Direct:
    """Around a route: handles it if it is one of these, and leaves it to the framework if not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._way: Way | None = None
        self._seen = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._seen:  # Of a middleware there is one a route and method.
            self._way, self._seen = _way_of(scope), True
        if self._way is None or scope["type"] != ScopeType.HTTP or (scope["method"] == "GET" and scope["query_string"]):
            await self._app(scope, receive, send)
        else:
            await self._way(scope, receive, send)


class _Write:
    def __init__(self, handle: Handle, body: type[Struct], status: int) -> None:
        self._handle = handle
        self._body = body
        self._status = status

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        _check_ids(scope)
        content = await read_body(scope, receive)
        if not content:
            raise Problem(400, "not_json", "a JSON body is needed")
        data = decode_body(content, self._body)
        answer = await self._handle(request=Request(scope, receive, send), data=data, **scope["path_params"])
        await _send(answer, answer.status_code or self._status, send)


class _Read:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        _check_ids(scope)
        answer = await self._handle(request=Request(scope, receive, send), **scope["path_params"])
        await _send(answer, answer.status_code or 200, send)


def _check_ids(scope: HTTPScope) -> None:
    for name, value in scope["path_params"].items():
        if not _id.search(value):
            raise Problem(422, "malformed", f"an id matches {ID_PATTERN}", field=f"path:{name}")


async def _send(answer: Response[Any], status: int, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.content is None:
        encoded = b""
    else:
        encoded = _encode(answer.content)
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(encoded))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": encoded, "more_body": False})


def _way_of(scope: Scope) -> Way | None:
    """How a route is handled that takes a JSON body and, beside it, ids from its path at most, or that is `DIRECT`."""
    handler = scope["route_handler"]
    if not isinstance(handler, HTTPRouteHandler):
        return None
    if scope["type"] == ScopeType.HTTP and scope["method"] == "GET" and handler.opt.get("direct"):
        return _Read(handler.fn)
    dto = handler.resolve_data_dto()
    taken = handler.parsed_fn_signature.parameters.keys()
    if dto is None or not issubclass(dto, JsonBody) or taken != {"request", "data", *scope["path_params"]}:
        return None
    return _Write(handler.fn, dto.model_type, handler.status_code)
