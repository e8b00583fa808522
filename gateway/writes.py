"""Writes: routes with a JSON body, handled right behind the check of the token.

A handler is written like any other, and is given and gives back the same. But from the wire to it and back leads one
step each, where the framework has layers for what these routes do not use: parameters in queries and headers,
dependencies, cookies, other media types. They take as long as all the rest of a write in this process.
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
from gateway.bodies import JsonBody, decode_body, read_body
from gateway.problems import Problem

_encode = msgspec.json.Encoder().encode
_id = re.compile(ID_PATTERN)


class Writes:
    """Around a route: handles it if it is a write, and leaves it to the framework if not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._write: _Write | None = None
        self._seen = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._seen:  # Of a middleware there is one a route and method.
            self._write, self._seen = _write_of(scope), True
        if self._write is not None and scope["type"] == ScopeType.HTTP:
            await self._write(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Write:
    def __init__(self, handle: Callable[..., Awaitable[Response[Any]]], body: type[Struct], status: int) -> None:
        self._handle = handle
        self._body = body
        self._status = status

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        for name, value in scope["path_params"].items():
            if not _id.search(value):
                raise Problem(422, "malformed", f"an id matches {ID_PATTERN}", field=f"path:{name}")
        content = await read_body(scope, receive)
        if not content:
            raise Problem(400, "not_json", "a JSON body is needed")
        data = decode_body(content, self._body)
        answer = await self._handle(request=Request(scope, receive, send), data=data, **scope["path_params"])
        encoded = _encode(answer.content)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(encoded))]
        headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        status = answer.status_code or self._status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": encoded, "more_body": False})


def _write_of(scope: Scope) -> _Write | None:
    """How a route is handled that takes a JSON body and, beside it, ids from its path at most."""
    handler = scope["route_handler"]
    if not isinstance(handler, HTTPRouteHandler):
        return None
    dto = handler.resolve_data_dto()
    taken = handler.parsed_fn_signature.parameters.keys()
    if dto is None or not issubclass(dto, JsonBody) or taken != {"request", "data", *scope["path_params"]}:
        return None
    return _Write(handler.fn, dto.model_type, handler.status_code)
