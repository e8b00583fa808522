"""Parked keys: what read models could not handle, for whoever looks after it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get, post
from msgspec import Meta, Struct

from bus.control import ask
from gateway.bodies import JsonBody
from gateway.gate import AnyRequest, PathId
from gateway.openapi import REQUEST, VIEW
from gateway.problems import refused, unavailable
from gateway.security import requires
from projections.mending import DISCARD, PARKED, REASON_CHARS_MAX, REDRIVE, ParkedKeys
from projections.parking import Redriven


class DiscardBody(Struct, frozen=True):
    """`sequence` and `offset`: of the commit that is given up, the first that waits for its key."""

    sequence: Annotated[int, Meta(ge=1)]
    offset: Annotated[int, Meta(ge=0)]
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_CHARS_MAX)]


@get("/v1/parked", opt=requires("staff") | VIEW, tags=["projections"])
async def list_parked(request: AnyRequest) -> ParkedKeys:
    """Every parked key, each read model's longest waiting first."""
    return msgspec.json.decode(await _asked(request, PARKED), type=ParkedKeys)


@post("/v1/parked/{id:str}/redrive", status_code=200, opt=requires("admin") | REQUEST, tags=["projections"])
async def redrive_parked(request: AnyRequest, id: PathId, dry_run: bool = False) -> Redriven:
    """Deal again with what waits for a key, in order, up to the first that fails again; of a long queue the first part.
    With `dry_run` nothing is changed."""
    detail = await _asked(request, REDRIVE, id=id, dry_run="yes" if dry_run else "no")
    return msgspec.json.decode(detail, type=Redriven)


@post(
    "/v1/parked/{id:str}/discard",
    dto=JsonBody[DiscardBody],
    return_dto=None,
    status_code=200,
    opt=requires("admin") | REQUEST,
    tags=["projections"],
)
async def discard_parked(request: AnyRequest, id: PathId, data: DiscardBody) -> Response[Redriven]:
    """Give up the first commit that waits for a key, for ever, and deal with what is behind it."""
    place = {"sequence": str(data.sequence), "offset": str(data.offset)}
    detail = await _asked(request, DISCARD, id=id, reason=data.reason, **place)
    return Response(msgspec.json.decode(detail, type=Redriven), status_code=200)


async def _asked(request: AnyRequest, verb: str, **parameters: str) -> str:
    reply = await ask(request.app.state.client, verb, **parameters)
    if reply.code in ("nobody_there", "no_answer"):
        raise unavailable("unavailable", "nobody keeps the read models at the moment")
    if reply.code == "not_done":
        raise unavailable("unavailable", reply.detail)
    if reply.code:
        raise refused(reply.code, reply.detail)
    return reply.detail


routes = [list_parked, redrive_parked, discard_parked]
