"""Problems as gRPC's status codes: the one place where that is decided.

A problem's code says what is wrong, and travels in the trailing metadata; its HTTP status says of which kind it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from grpc import StatusCode

from gateway.http.problems import Problem

BY_STATUS: Final[Mapping[int, StatusCode]] = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.INVALID_ARGUMENT,
    409: StatusCode.FAILED_PRECONDITION,
    410: StatusCode.NOT_FOUND,
    412: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}

BY_CODE: Final[Mapping[str, StatusCode]] = {
    "still_running": StatusCode.ABORTED,  # The same call, repeated a little later, is answered.
}
"""Those that are not of their kind."""


def status_of(problem: Problem) -> StatusCode:
    return BY_CODE.get(problem.code) or BY_STATUS.get(problem.status, StatusCode.UNKNOWN)
