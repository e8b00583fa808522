"""Who may do what: the token is checked once a request, the role by a guard on the route."""

from __future__ import annotations

from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import Guard

from gateway.tokens import InvalidToken, Role, Tokens


class Authentication(AbstractAuthenticationMiddleware):
    """Every route needs a token but those marked `exclude_from_auth`."""

    async def authenticate_request(
        self, connection: ASGIConnection[object, object, object, State]
    ) -> AuthenticationResult:
        scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthorizedException("a bearer token is needed: `tally token --role staff` prints one")
        tokens: Tokens = connection.app.state.tokens
        try:
            return AuthenticationResult(user=tokens.check(token.strip()), auth=None)
        except InvalidToken as error:
            raise NotAuthorizedException(str(error)) from error


def requires(role: Role) -> Guard:
    """A guard: this role or a higher one."""

    def guard(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]  # As Litestar types its guards.
        if not connection.user.may(role):
            raise PermissionDeniedException(f"this needs the role {role}")

    return guard
