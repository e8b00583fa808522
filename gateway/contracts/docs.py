"""What there is to talk to, described, and as pages: the HTTP API as OpenAPI at `/schema/openapi.json` and `/docs`,
what travels on the broker as AsyncAPI at `/schema/asyncapi.json` and `/docs/messages`.

The pages' files come from the installed package; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import MediaType, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router

from bus.asyncapi import described
from bus.queues import command_queue_worker, parked_commands, parked_jobs
from bus.reactors.processes import PING
from gateway import compose
from gateway.contracts.messages_page import page_of
from gateway.contracts.openapi import WholeDescription
from projections.mending import DISCARD, PARKED, REDRIVE
from projections.worker import REBUILD, ROLL_BACK

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Tallystream: the API</title>
  <link rel="icon" href="/docs/files/favicon-32x32.png">
  <link rel="stylesheet" href="/docs/files/swagger-ui.css">
  <style>body { margin: 0 }</style>
</head>
<body>
  <div id="api"></div>
  <script src="/docs/files/swagger-ui-bundle.js"></script>
  <script>
    SwaggerUIBundle({ url: "/schema/openapi.json", dom_id: "#api", deepLinking: true, persistAuthorization: true })
  </script>
</body>
</html>
"""


@get("/docs", media_type=MediaType.HTML, exclude_from_auth=True, include_in_schema=False, sync_to_thread=False)
def page() -> str:
    return _PAGE


VERBS = {
    PING: "Whether processes, policies and effects run.",
    REBUILD: "Rebuild a read model.",
    ROLL_BACK: "Make the build before the live one live again.",
    PARKED: "List parked keys.",
    REDRIVE: "Deal again with what waits for a parked key.",
    DISCARD: "Give up the first that waits for a parked key.",
    command_queue_worker.PING: "Whether queued commands are handled.",
    parked_commands.VERBS.parked: "List queued commands that were given up.",
    parked_commands.VERBS.redrive: "Queue one of them again.",
    parked_commands.VERBS.discard: "Reject one of them.",
    parked_jobs.VERBS.parked: "List jobs of work queues that failed for good.",
    parked_jobs.VERBS.redrive: "Put one of them back into its queue.",
    parked_jobs.VERBS.discard: "Discard one of them.",
}


@cache
def messages() -> dict[str, Any]:
    """What travels on the broker."""
    return described(compose.LOGS, VERBS, version("tallystream"))


@get("/schema/asyncapi.json", exclude_from_auth=True, include_in_schema=False, sync_to_thread=False)
def asyncapi() -> dict[str, Any]:
    return messages()


@get("/docs/messages", media_type=MediaType.HTML, exclude_from_auth=True, include_in_schema=False, sync_to_thread=False)
def messages_page() -> str:
    return page_of(messages())


def files() -> Router:
    """Swagger UI's own files."""
    spec = importlib.util.find_spec("swagger_ui")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "static"
    return create_static_files_router(
        path="/docs/files", directories=[folder], opt={"exclude_from_auth": True}, include_in_schema=False
    )


openapi = OpenAPIConfig(
    title="Tallystream",
    version="1",
    description="Commands are on disk when they are answered. Errors are problem details (RFC 9457).",
    openapi_router=Router("/schema", route_handlers=[], opt={"exclude_from_auth": True}, include_in_schema=False),
    security=[{"bearer": []}],
    components=Components(
        security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
    ),
    render_plugins=[WholeDescription(path="/openapi.json")],
    use_handler_docstrings=True,
)
