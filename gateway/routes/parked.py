"""What is parked: keys that read models could not handle, commands, jobs and reactions that were given up."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, TypeVar

from litestar import Response, get, post
from msgspec import Meta, Struct

from gateway.http.bodies import JsonBody
from gateway.http.gate import AnyRequest, PathId
from gateway.http.kinds import REQUEST, VIEW
from gateway.http.problems import refused, unavailable
from gateway.http.security import requires
from gateway.views import parked
from gateway.views.parked import AWAY, AllParked, NotMended
from projections.mending import REASON_CHARS_MAX
from projections.parking import Redriven

Result = TypeVar("Result")


class DiscardBody(Struct, frozen=True):
    """`sequence` and `offset`: of the commit that is given up, the first that waits for its key."""

    sequence: Annotated[int, Meta(ge=1)]
    offset: Annotated[int, Meta(ge=0)]
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_CHARS_MAX)]


@get("/v1/parked", opt=requires("staff") | VIEW, tags=["projections"])
async def list_parked(request: AnyRequest) -> AllParked:
    """Every parked key, each read model's longest waiting first; then every queued command that was given up, as a key
    of a read model called `commands`, and every job of a work queue, as one of `jobs`; then reactions that were given
    up, by key, each as of a read model called as what reacts. `silent` names services that do not say at the moment."""
    return await _mended(parked.parked(request.app.state.client))


@post("/v1/parked/{id:str}/redrive", status_code=200, opt=requires("admin") | REQUEST, tags=["projections"])
async def redrive_parked(request: AnyRequest, id: PathId, dry_run: bool = False) -> Redriven:
    """Deal again with what waits for a key, in order, up to the first that fails again; of a long queue the first part.
    With `dry_run` nothing is changed. A command or a job is put into its queue again, a reaction tried once."""
    return await _mended(parked.redrive(request.app.state.client, id, dry_run=dry_run))


@post(
    "/v1/parked/{id:str}/discard",
    dto=JsonBody[DiscardBody],
    return_dto=None,
    status_code=200,
    opt=requires("admin") | REQUEST,
    tags=["projections"],
)
async def discard_parked(request: AnyRequest, id: PathId, data: DiscardBody) -> Response[Redriven]:
    """Give up the first commit that waits for a key, for ever, and deal with what is behind it; reject a command, leave
    a job or a reaction undone."""
    doing = parked.discard(request.app.state.client, id, data.sequence, data.offset, data.reason)
    return Response(await _mended(doing), status_code=200)


async def _mended(doing: Awaitable[Result]) -> Result:
    """Raises `Problem`."""
    try:
        return await doing
    except NotMended as error:
        if error.code in AWAY:
            detail = "nobody keeps the read models and the queue, or reacts, at the moment"
            raise unavailable("unavailable", detail) from error
        if error.code == "not_done":
            raise unavailable("unavailable", error.detail) from error
        raise refused(error.code, error.detail) from error


routes = [list_parked, redrive_parked, discard_parked]
