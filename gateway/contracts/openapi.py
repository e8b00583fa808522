"""The API's description made whole: what routes of a kind have in common, the framework does not know.

It knows paths, parameters, bodies and what is answered when all goes well. What every write takes and gives beside its
body, every query, and whatever can go wrong is written here, once, by what kind of route it is. A new route has it by
being there; one that differs says so in its `opt`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute

from gateway import compose
from gateway.effects.webhooks import SIGNATURE
from gateway.http.gate import POSITIONS_MAX
from gateway.http.kinds import KIND, Kind
from gateway.http.security import PUBLIC
from gateway.http.tokens import Principal

Json = dict[str, Any]

_TEXT = {"type": "string"}
_SECONDS = {"type": "integer", "minimum": 1}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}

_PLACE = f"({'|'.join(each.name for each in compose.LOGS)})(\\.[0-9]{{1,2}})?=[0-9]{{1,18}}"

PARAMETERS: Json = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes a repeat harmless: the same key and body give the first answer again, another body 422.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": 'The ETag that it must have, such as "3", or any (*); else 412.',
        "schema": {"type": "string", "pattern": '^("[0-9]{1,18}(\\.[0-9]{1,18}){0,3}"|\\*)$'},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags that the client has: 304 where it is one of them.",
        "schema": _TEXT,
    },
    "MinPosition": {
        "name": "Min-Position",
        "in": "header",
        "description": "Positions that the answer must show, such as orders=12,inventory=7, from those of writes.",
        "schema": {"type": "string", "pattern": f"^({_PLACE}(, ?{_PLACE}){{0,{POSITIONS_MAX - 1}}})?$"},
    },
    "PreferWait": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=5`: how long Min-Position is waited for; `handling=stale`: then take what there is.",
        "schema": _TEXT,
    },
    "PreferAsync": {
        "name": "Prefer",
        "in": "header",
        "description": "`respond-async`: put it into the queue, and answer 202 with where to ask.",
        "schema": _TEXT,
    },
    "Signature": {
        "name": SIGNATURE,
        "in": "header",
        "description": "`t=<seconds since the epoch>,v1=<HMAC-SHA256 of time, full stop and body>`.",
        "required": True,
        "schema": _TEXT,
    },
    "Traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context, taken up and passed on.",
        "schema": _TEXT,
    },
}

HEADERS: Json = {
    "Position": {
        "description": "Where it lies, for Min-Position: orders=17; orders.2=17 where the log has several partitions."
        " Missing where an outbox tells of it later.",
        "schema": {"type": "string", "pattern": "^[a-z_]+(\\.[0-9]+)?=[0-9]+$"},
    },
    "ETag": {"description": "For If-Match and If-None-Match.", "schema": {"type": "string", "pattern": '^".+"$'}},
    "Location": {"description": "Where it is to be seen.", "schema": {"type": "string", "pattern": "^/v[0-9]+/"}},
    "RetryAfter": {"description": "Come again after so many seconds.", "schema": _SECONDS},
    "PreferenceApplied": {"description": "Where the client preferred it so.", "schema": {"const": "respond-async"}},
    "RateLimit": {
        "description": "Where that is limited: requests that are left (`r`), and when all are there again (`t`).",
        "schema": _TEXT,
    },
    "RateLimitPolicy": {"description": "So many requests (`q`) in so many seconds (`w`).", "schema": _TEXT},
    "Deprecation": {
        "description": "Since when there is a later version, as @seconds since the epoch (RFC 9745).",
        "required": True,
        "schema": {"type": "string", "pattern": "^@[0-9]+$"},
    },
    "Sunset": {"description": "From then on it may be gone (RFC 8594).", "required": True, "schema": _TEXT},
    "Link": {"description": "The next page (RFC 8288).", "schema": _TEXT},
    "Warning": {"description": "What is shown is older than Min-Position.", "schema": _TEXT},
    "Degraded": {"description": "What the answer does without, for it cannot be had at the moment.", "schema": _TEXT},
    "Traceparent": {"description": "The trace that this request belongs to.", "required": True, "schema": _TEXT},
    "Authenticate": {"description": "The scheme.", "required": True, "schema": {"const": "Bearer"}},
}

_SAID = {
    400: "It makes no sense: no JSON where JSON is needed, or a client that went away.",
    401: "A token is needed, and this is none.",
    403: "The token's role or subject does not allow it, or the signature is not good.",
    404: "There is no such thing, or none that one may know of.",
    408: "The body did not come in time.",
    409: "How things stand forbids it, or the same key is being worked on.",
    410: "It was erased, or is too long ago.",
    412: "It has another version than If-Match says.",
    413: "The body is too large.",
    422: "It is malformed, or breaks a rule; `field` names the culprit.",
    429: "The client asked too much in a short time, where that is limited.",
    503: "Not possible at the moment; nothing was written.",
}
_RETRIED = frozenset((429, 503))
_ALWAYS = (401, 403, 429)
_OF_KIND: Mapping[Kind, tuple[int, ...]] = {
    "health": (503,),
    "write": (*_ALWAYS, 404, 409, 410, 412, 422, 503),
    "query": (*_ALWAYS, 404, 410, 422, 503),
    "view": (*_ALWAYS, 404, 410, 422, 503),
    "request": (*_ALWAYS, 404, 409, 422, 503),
    "webhook": (400, 403, 408, 413, 422, 503),
}
_WITH_BODY = (400, 408, 413, 422)
_METHODS = ("get", "put", "post", "patch", "delete")


class WholeDescription(JsonRenderPlugin):
    """Renders the framework's description with all that it does not know."""

    def __init__(self, path: str) -> None:
        super().__init__(path=path)
        self._whole: bytes | None = None

    def render(self, request: Request[Principal, None, Any], openapi_schema: Json) -> bytes:
        if self._whole is None:
            self._whole = super().render(request, whole(openapi_schema, kinds_of(request.app)))
        return self._whole


def kinds_of(app: Litestar) -> dict[tuple[str, str], Kind]:
    """The kind of each route, by path and method."""
    return {
        (route.path_format, method.lower()): _kind(handler, method)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    }


def _kind(handler: HTTPRouteHandler, method: str) -> Kind:
    kind: Kind | None = handler.opt.get(KIND)
    if kind is not None:
        return kind
    if handler.opt.get(PUBLIC):
        return "health"
    return "query" if method == "GET" else "write"


def whole(described: Json, kinds: Mapping[tuple[str, str], Kind]) -> Json:
    """The description with parameters, headers and problems of each operation's kind."""
    components = described["components"]
    components["parameters"] = PARAMETERS
    components["headers"] = HEADERS
    components["schemas"]["ProblemDetails"] = _problem_details()
    components["responses"] = {str(status): _problem(status) for status in _SAID}
    for path, operations in described["paths"].items():
        for method in _METHODS:
            if method in operations:
                _complete(operations[method], method, kinds[path, method], "{" in path)
    return described


def _complete(operation: Json, method: str, kind: Kind, has_ids: bool) -> None:
    operation["responses"].pop("400", None)  # The framework's own form of it, which is never sent.
    if kind == "write" and method == "put":
        operation["responses"]["201"] = {**deepcopy(operation["responses"]["200"]), "description": "It is new."}
    maybe_unchanged = False
    names = ("Deprecation", "Sunset") if operation.get("deprecated") else ()
    for status, answer in operation["responses"].items():
        answer["headers"] = {**answer.get("headers", {}), **_headers(names)}
        maybe_unchanged |= _well(answer, int(status), kind)
    parameters = operation.setdefault("parameters", [])
    if kind in ("health", "webhook"):
        operation["security"] = []
    if kind == "webhook":
        parameters += _refs("parameters", ("Signature", "Traceparent"))
    elif kind == "write":
        parameters += _refs("parameters", ("IdempotencyKey", "IfMatch", "PreferAsync", "Traceparent"))
    elif kind == "query":
        parameters += _refs("parameters", ("MinPosition", "PreferWait", "Traceparent"))
    wrong = set(_OF_KIND[kind])
    if not has_ids and method == "get":
        wrong -= {404, 410}
    if "requestBody" in operation:
        wrong |= set(_WITH_BODY)
        operation["requestBody"]["required"] = True
    if maybe_unchanged:
        parameters += _refs("parameters", ("IfNoneMatch",))
        operation["responses"]["304"] = {
            "description": "The client has it already (If-None-Match).",
            "headers": _headers(("ETag", "Traceparent")),
        }
    if kind == "write":
        operation["responses"]["202"] = {
            "description": "It waits in the queue, as preferred, or it is not known yet whether it was written:"
            " `Location` says later.",
            "headers": _headers(("Location", "RetryAfter", "PreferenceApplied", "Traceparent")),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CommandStatus"}}},
        }
    for status in sorted(wrong):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    if not parameters:
        del operation["parameters"]


def _well(answer: Json, status: int, kind: Kind) -> bool:
    """Complete what is answered when all goes well. Whether a client may have it already: such a handler answers
    nothing then, so its content may be null."""
    names = ["Traceparent"] + (["RateLimit", "RateLimitPolicy"] if kind != "health" else [])
    if kind == "write":
        names += ["Position", "ETag"] + (["Location"] if status == 201 else [])
    elif kind == "query":
        names += ["Warning", "Link", "Degraded"]
    elif kind == "request":
        names += ["Location"] if status == 202 else ["Degraded"]
    maybe_unchanged = False
    for content in answer.get("content", {}).values():
        schema = content["schema"]
        something = [each for each in schema.get("oneOf", ()) if each != {"type": "null"}]
        if len(something) == 1:
            content["schema"], maybe_unchanged = something[0], True
    if maybe_unchanged:
        names += ["ETag"]
    if status == 204 or (kind == "request" and status == 202):
        answer.pop("content", None)
    answer["headers"] = {**answer.get("headers", {}), **_headers(names)}
    return maybe_unchanged


def _problem(status: int) -> Json:
    names = ["Traceparent"]
    if status in _RETRIED:
        names += ["RetryAfter"]
    if status == 429:
        names += ["RateLimit", "RateLimitPolicy"]
    if status == 401:
        names += ["Authenticate"]
    return {"description": _SAID[status], "headers": _headers(names), "content": _PROBLEM}


def _problem_details() -> Json:
    text = {"type": "string", "minLength": 1}
    return {
        "title": "ProblemDetails",
        "description": "RFC 9457. `code` is stable; `field` is a JSON pointer into the body, or `header:NAME`,"
        " `query:NAME`, `path:NAME`.",
        "type": "object",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:tallystream:problem:[a-z0-9_]+$"},
            "title": text,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
            "detail": text,
            "field": text,
            "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        },
    }


_WIRE = {
    "RateLimitPolicy": "RateLimit-Policy",
    "RetryAfter": "Retry-After",
    "PreferenceApplied": "Preference-Applied",
    "Authenticate": "WWW-Authenticate",
    "Traceparent": "traceparent",
}


def _headers(names: Iterable[str]) -> Json:
    return {_WIRE.get(name, name): {"$ref": f"#/components/headers/{name}"} for name in names}


def _refs(of: str, names: Iterable[str]) -> list[Json]:
    return [{"$ref": f"#/components/{of}/{name}"} for name in names]
