"""Routes that are handled ahead of the framework: writes with a JSON body, and pages asked for often.

A handler is written like any other, and is given and gives back the same; around it are the same middlewares. But from
the wire to it and back leads one step each, where the framework has layers for what these routes do not use: parameters
in queries and headers, dependencies, cookies, other media types. They take as long as all the rest of a request in this
process. Whatever is asked in any other way than the plain one, be it a path with a slash more or an id that is none, is
left to the framework, which answers it as it answers all.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from msgspec import Struct

from domains.kernel import ID_PATTERN
from gateway.http.bodies import JsonBody, decode_body, read_body
from gateway.http.problems import Problem, handle

DIRECT: dict[str, Any] = {"direct": True}
"""For the `opt` of a GET whose handler takes ids from its path, and else only what may be left out of the query."""
HOST_PATTERN = re.compile(rb"[0-9A-Za-z.:\[\]_-]*")

_encode = msgspec.json.Encoder().encode
_is_id = re.compile(ID_PATTERN).search
_STARTED = "direct_started"

Handle = Callable[..., Awaitable[Response[Any]]]


class Direct:
    """Around the framework: handles what is asked of these routes, and leaves to it whatever else there is."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._ways = _Ways()
        for route in routes:
            self._ways.add(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or (way := self._ways.find(scope)) is None:
            await self._app(scope, receive, send)
            return
        try:
            await way(scope, receive, send)
        except Exception as error:  # What becomes of any is decided where the framework's are.
            if _STARTED in scope["state"]:
                raise
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            await handle(request, error).to_asgi_response(app=None, request=request)(scope, receive, send)


class _Way(NamedTuple):
    """How a route is answered: its middlewares around what calls its handler, and what these ask the scope for."""

    app: ASGIApp
    handler: HTTPRouteHandler
    template: str
    ids: tuple[str, ...]


class _Ways:
    """The ways by method, below the parts of their paths: a part as it is written comes before an id."""

    def __init__(self) -> None:
        self._written: dict[str, _Ways] = {}
        self._any: _Ways | None = None
        self._by_method: dict[str, _Way] = {}

    def add(self, route: BaseRoute) -> None:
        """All of them are, for what is not direct may be written where another one has an id."""
        below, ids = self, []
        for part in route.path_components:
            if isinstance(part, str):
                below = below._written.setdefault(part, _Ways())
            else:
                below._any = below = below._any or _Ways()
                ids.append(part.name)
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if (app := _app_of(handler, {*ids})) is not None:
                way = _Way(_guarded(app, handler), handler, route.path_format, tuple(ids))
                below._by_method |= dict.fromkeys(map(str, handler.http_methods), way)

    def find(self, scope: HTTPScope) -> ASGIApp | None:
        """What answers this, if it does; then the scope says of the route what the framework says."""
        below, ids = self, []
        for part in scope["path"].split("/")[1:]:
            written = below._written.get(part)
            if written is None:
                written = below._any
                if written is None or not _is_id(part):
                    return None
                ids.append(part)
            below = written
        way = below._by_method.get(scope["method"])
        if way is None or (scope["query_string"] and scope["method"] == "GET") or not _has_plain_host(scope):
            return None
        scope["route_handler"] = way.handler
        scope["path_template"] = way.template
        scope["path_params"] = dict(zip(way.ids, ids, strict=True))
        return way.app


def _has_plain_host(scope: HTTPScope) -> bool:
    return all(name != b"host" or HOST_PATTERN.fullmatch(value) for name, value in scope["headers"])


def _app_of(handler: HTTPRouteHandler, ids: set[str]) -> ASGIApp | None:
    """What calls a handler that takes a JSON body and, beside it, ids from its path at most, or that is `DIRECT`."""
    if handler.opt.get("direct") and handler.http_methods == {"GET"}:
        return _Read(handler.fn)
    dto = handler.resolve_data_dto()
    if dto is None or not issubclass(dto, JsonBody):
        return None
    if handler.parsed_fn_signature.parameters.keys() != {"request", "data", *ids}:
        return None
    return _Write(handler.fn, dto.model_type, handler.status_code)


def _guarded(app: ASGIApp, handler: HTTPRouteHandler) -> ASGIApp:
    for middleware in handler.resolve_middleware():
        assert isinstance(middleware, DefineMiddleware), "written in another way than in `gateway/app.py`"
        app = middleware(app=app)
    return app


class _Write:
    def __init__(self, handle: Handle, body: type[Struct], status: int) -> None:
        self._handle = handle
        self._body = body
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP
        content = await read_body(scope, receive)
        if not content:
            raise Problem(400, "not_json", "a JSON body is needed")
        data = decode_body(content, self._body)
        answer = await self._handle(request=Request(scope, receive, send), data=data, **scope["path_params"])
        await _send(answer, answer.status_code or self._status, scope, send)


class _Read:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._handle(request=Request(scope, receive, send), **scope["path_params"])
        await _send(answer, answer.status_code or 200, scope, send)


async def _send(answer: Response[Any], status: int, scope: Scope, send: Send) -> None:
    headers = [(_header(name), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.content is None:
        encoded = b""
    else:
        encoded = _encode(answer.content)
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(encoded))]
    scope["state"][_STARTED] = True
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": encoded, "more_body": False})


@cache
def _header(name: str) -> bytes:
    """They are names that routes give, and so few."""
    return name.lower().encode()
