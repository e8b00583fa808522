"""Read models: where they stand, and their rebuilds."""

from __future__ import annotations

from litestar import Response, get, post
from msgspec import Struct

from bus.announcements import RebuildProgress, Standing
from bus.control import ask
from gateway.http.gate import AnyRequest, PathId, gate_of
from gateway.http.kinds import REQUEST, VIEW
from gateway.http.pages import Page
from gateway.http.problems import Problem, refused, unavailable
from gateway.http.security import requires
from projections.worker import ALL, REBUILD

SILENT_MAX_S = 5.0
"""A read model that announced nothing for so long has nobody who keeps it up to date."""


class ReadModel(Struct, frozen=True):
    """`lag` in records of its log, `lag_events` about so many events, `lag_s` at most so old; that is null while the
    log's head, last seen `head_age_s` ago, is not seen. `state`: live, halted or unattended."""

    name: str
    version: int
    stream: str
    state: str
    position: int
    head: int
    lag: int
    lag_events: int
    lag_s: float | None
    head_age_s: float | None
    parked_keys: int
    parked_commits: int
    error: str
    rebuild: RebuildProgress | None


@get("/v1/projections", opt=requires("staff") | VIEW, tags=["projections"])
async def list_projections(request: AnyRequest) -> Page[ReadModel]:
    return Page([_read_model(request, name) for name in request.app.state.projections])


@get("/v1/projections/{name:str}", opt=requires("staff") | VIEW, tags=["projections"])
async def get_projection(request: AnyRequest, name: PathId) -> ReadModel:
    if name not in request.app.state.projections:
        raise Problem(404, "projection_unknown", f"there is no read model {name}")
    return _read_model(request, name)


@post("/v1/projections/{name:str}/rebuilds", status_code=202, opt=requires("admin") | REQUEST, tags=["projections"])
async def rebuild_projection(request: AnyRequest, name: PathId) -> Response[None]:
    """Begin to rebuild a read model, or `all`, beside the live one; `Location` shows how far it is."""
    reply = await ask(request.app.state.client, REBUILD, name=name)
    if reply.code in ("nobody_there", "no_answer", "not_ready"):
        raise unavailable("unavailable", "nobody keeps the read models at the moment")
    if reply.code:
        raise refused(reply.code, reply.detail)
    location = "/v1/projections" if name == ALL else f"/v1/projections/{name}"
    return Response(None, status_code=202, headers={"Location": location})


def _read_model(request: AnyRequest, name: str) -> ReadModel:
    standings = gate_of(request).standings
    standing = standings.latest(name)
    if standing is None:
        projection = request.app.state.projections[name]
        standing = Standing(name, projection.version, projection.stream, 0, 0)
    unattended = standings.silent_s(name) > SILENT_MAX_S
    return ReadModel(
        name=name,
        version=standing.version,
        stream=standing.stream,
        state="unattended" if unattended else "halted" if standing.error else "live",
        position=standing.sequence,
        head=standing.head,
        lag=max(0, standing.head - standing.sequence),
        lag_events=standing.lag_events,
        lag_s=standing.lag_s,
        head_age_s=standing.head_age_s,
        parked_keys=standing.parked_keys,
        parked_commits=standing.parked_commits,
        error=standing.error,
        rebuild=standing.rebuild,
    )


routes = [list_projections, get_projection, rebuild_projection]
