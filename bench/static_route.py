"""A POST whose body is decoded and which is answered with a constant: what the web server and framework take.

Served as the gateway is: the same server, loop and number of processes.
"""

from __future__ import annotations

import sys

from litestar import Litestar, Response, post
from msgspec import Struct

from bus.lifetime import die_with_parent
from gateway.serve import serve
from gateway.settings import Settings

PATH = "/static"
ANSWER: dict[str, str | int] = {"order_id": "o-1", "status": "placed", "version": 1, "total_cents": 1_250}


class Body(Struct, frozen=True):
    order_id: str


@post(PATH)
async def answer(data: Body) -> Response[dict[str, str | int]]:
    return Response(ANSWER, status_code=201)


def served() -> Litestar:
    """What granian's workers run."""
    die_with_parent()
    return Litestar([answer], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    serve(Settings(log_level="WARNING"), "bench.static_route:served", port=int(sys.argv[1]))
