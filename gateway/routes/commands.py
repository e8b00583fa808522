"""Commands that were answered before they were done, or before that was known: what became of them."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.params import Parameter

from gateway.http.answers import CommandStatus
from gateway.http.gate import AnyRequest, gate_of
from gateway.http.kinds import VIEW
from gateway.http.outcomes import opened
from gateway.http.problems import Problem

SealedId = Annotated[str, Parameter(max_length=512, description="From the `Location` of a 202.")]


@get("/v1/commands/{command_id:str}", opt=VIEW, tags=["commands"])
async def get_command(request: AnyRequest, command_id: SealedId) -> Response[CommandStatus]:
    """Whether it was written: pending, done (with `Location`, `Position` and `ETag`) or rejected, which is definite."""
    asked = opened(command_id, request.app.state.tokens, request.user.subject)
    gate = gate_of(request)
    if asked is None or asked.log not in gate.logs:
        raise Problem(404, "command_unknown", "no such command of yours is known")
    status = await gate.outcomes.of(command_id, asked)
    headers = {}
    if status.status == "done":
        given = {"Location": status.location, "Position": status.position, "ETag": f'"{status.version}"'}
        headers = {name: value for name, value in given.items() if value}
    elif status.status == "pending":
        headers = {"Retry-After": "1"}
    return Response(status, headers=headers)


routes = [get_command]
