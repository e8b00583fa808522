"""Who may do what: a token a request and a role a route, checked in one place before anything of the route runs."""

from __future__ import annotations

from typing import Any

from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.http.headers import header_of
from gateway.http.tokens import InvalidToken, Principal, Role, Tokens

PUBLIC = "exclude_from_auth"
ROLE = "role"


def requires(role: Role) -> dict[str, Any]:
    """For a route's `opt`: this role or a higher one.

    Not a guard of the framework's: it gives every guard a copy of the route a request, and runs it in a thread.
    """
    return {ROLE: role}


class Authentication:
    """Every route needs a token but those marked `exclude_from_auth`; `scope["user"]` is whose it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rules = scope["route_handler"].opt
        if not rules.get(PUBLIC) and scope.get("method") != "OPTIONS":
            principal = _principal(scope)
            role: Role | None = rules.get(ROLE)
            if role is not None and not principal.may(role):
                raise PermissionDeniedException(f"this needs the role {role}")
            scope["user"] = principal
            scope["auth"] = None
        await self._app(scope, receive, send)


def _principal(scope: Scope) -> Principal:
    tokens: Tokens = scope["litestar_app"].state.tokens
    try:
        return tokens.bearer(header_of(scope, b"authorization") or "")
    except InvalidToken as error:
        raise NotAuthorizedException(str(error)) from error
