"""Errors on the way out: RFC 9457 problem details with a stable `type` and `code`, never a stack trace.

Domains name what is wrong; which HTTP status that is, is decided here and nowhere else.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException

from bus.logs.log import LogDamaged, LogUnreachable
from bus.queues.command_queue import QueueUnreachable
from gateway.http.answers import Accepted, ProblemDetails
from gateway.http.tokens import Principal
from projections.reader import ReadModelMissing

log = logging.getLogger(__name__)

AnyRequest = Request[Principal, None, State]

STATUS: Final[dict[str, int]] = {
    "malformed": 422,
    "id_reused": 422,
    "order_has_no_lines": 422,
    "order_has_no_value": 422,
    "order_too_large": 422,
    "payment_too_large": 422,
    "shelf_full": 422,
    "product_unknown": 422,
    "currency_differs": 422,
    "workflow_unknown": 422,
    "order_unknown": 404,
    "customer_unknown": 404,
    "customer_erased": 410,
    "erased_since": 410,
    "payment_unknown": 404,
    "shipment_unknown": 404,
    "process_unknown": 404,
    "projection_unknown": 404,
    "parked_unknown": 404,
    "version_conflict": 412,
    "command_too_large": 413,
    "internal_error": 500,
    "malformed_frame": 500,
}
"""What is not here and was refused by a domain is a conflict with how things stand: 409."""

CONFLICT = 409


class Problem(Exception):
    """Raised by routes; answered as problem+json."""

    def __init__(
        self, status: int, code: str, detail: str = "", *, field: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = headers or {}


def unavailable(code: str, detail: str, retry_after_s: float = 1.0) -> Problem:
    """503, and when to come again."""
    return Problem(503, code, detail, headers={"Retry-After": str(max(1, round(retry_after_s)))})


def refused(code: str, detail: str, field: str = "") -> Problem:
    """A domain's no."""
    return Problem(STATUS.get(code, CONFLICT), code, detail, field=field)


def handle(request: AnyRequest, error: Exception) -> Response[bytes]:
    """The one exception handler."""
    if isinstance(error, Accepted):
        return accepted(error)
    match error:
        case Problem():
            problem = error
        case ReadModelMissing():
            problem = unavailable("read_model_missing", str(error))
        case QueueUnreachable():
            problem = unavailable("unavailable", "the queue of commands cannot be reached")
        case LogUnreachable():
            problem = unavailable("unavailable", "the log cannot be reached")
        case LogDamaged():
            log.critical("%s %s: %s", request.method, request.url.path, error)
            problem = unavailable("log_damaged", "the log is not what it was; `tally doctor` says more", 60.0)
        case ValidationException():
            problem = _invalid(error)
        case HTTPException(status_code=status):
            headers = {
                name: _with_head(value) for name, value in (error.headers or {}).items() if name.lower() == "allow"
            }
            problem = Problem(status, _CODES.get(status, f"http_{status}"), error.detail, headers=headers)
        case _:
            log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
            problem = Problem(500, "internal_error", "something went wrong here; the trace id finds it in the log")
    return respond(problem, str(request.scope["state"].get("trace_id", "")))


def accepted(what: Accepted) -> Response[bytes]:
    """Where to ask what became of a command."""
    headers = {"Location": f"/v1/commands/{what.status.id}", "Retry-After": "1"}
    if what.applied:
        headers["Preference-Applied"] = "respond-async"
    content = msgspec.json.encode(what.status)
    return Response(content, status_code=202, media_type="application/json", headers=headers)


def details_of(problem: Problem, trace_id: str = "") -> ProblemDetails:
    return ProblemDetails(
        type=f"urn:tallystream:problem:{problem.code}",
        title=problem.code.replace("_", " ").capitalize(),
        status=problem.status,
        code=problem.code,
        detail=problem.detail,
        field=problem.field,
        trace_id=trace_id,
    )


def respond(problem: Problem, trace_id: str) -> Response[bytes]:
    headers = dict(problem.headers)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(details_of(problem, trace_id)),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=headers,
    )


def _with_head(allowed: str) -> str:
    """What may be asked with GET may be asked with HEAD (`gateway/app.py`)."""
    methods = [each.strip() for each in allowed.split(",")]
    return ", ".join(dict.fromkeys([*methods, "HEAD"] if "GET" in methods else methods))


_CODES: Final[dict[int, str]] = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def _invalid(error: ValidationException) -> Problem:
    """What Litestar says of a path, query or header parameter."""
    extra = error.extra
    first = extra[0] if isinstance(extra, list) and extra and isinstance(extra[0], dict) else {}
    source, key = first.get("source", ""), first.get("key", "")
    if str(first.get("message", "")).strip("'") == "data":
        return Problem(400, "not_json", "a JSON body is needed")
    if not source:
        return Problem(400, "bad_request", str(first.get("message") or error.detail))
    return Problem(422, "malformed", str(first.get("message", "")), field=f"{getattr(source, 'value', source)}:{key}")
