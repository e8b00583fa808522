"""One query answered, and the schema in words: all that the route knows of GraphQL, behind two functions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from graphql import GraphQLError
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types.execution import PreExecutionError

from gateway.graphql.loaders import Loaders
from gateway.graphql.schema import SCHEMA
from gateway.http.problems import Problem
from gateway.http.tokens import Principal
from projections.reader import Reader

log = logging.getLogger(__name__)


async def answer(
    query: str,
    variables: dict[str, Any] | None,
    operation_name: str | None,
    reader: Reader,
    principal: Principal,
    customer: Callable[[str], Awaitable[bytes | None]],
) -> dict[str, Any]:
    """`data`, and `errors` where there were some. Raises `Problem` for what is no query, or may cost too much."""
    try:
        result = await SCHEMA.execute(
            query,
            variables,
            context_value=Loaders(reader, principal, customer),
            operation_name=operation_name,
        )
    except CannotGetOperationTypeError as error:
        raise Problem(422, "query_invalid", error.as_http_error_reason(), field="/operationName") from error
    if isinstance(result, PreExecutionError):
        detail = "; ".join(error.message for error in result.errors or ())
        raise Problem(422, "query_invalid", detail, field="/query")
    content: dict[str, Any] = {"data": result.data}
    if result.errors:
        content["errors"] = [_told(error) for error in result.errors]
    return content


def description() -> str:
    """The schema, in its own language."""
    return SCHEMA.as_str()


def _told(error: GraphQLError) -> dict[str, Any]:
    """What of an error may be known outside."""
    cause = error.original_error
    if isinstance(cause, Problem):
        return {"message": cause.detail, "path": error.path, "extensions": {"code": cause.code}}
    if cause is None or isinstance(cause, GraphQLError):  # Of the query, such as a variable that is missing.
        return {"message": error.message, "path": error.path, "extensions": {"code": "malformed"}}
    log.error("a query failed at %s", error.path, exc_info=cause)
    return {"message": "something went wrong here", "path": error.path, "extensions": {"code": "internal_error"}}
