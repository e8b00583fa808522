"""GraphQL: one query over orders, lines, products, payments and customers, where REST would take many."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated, Any

from graphql import GraphQLError
from litestar import MediaType, Response, get, post
from msgspec import Meta, Struct, field
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types.execution import PreExecutionError

from gateway.contracts.openapi import REQUEST
from gateway.graphql.loaders import Loaders
from gateway.graphql.schema import SCHEMA
from gateway.http.bodies import JsonBody
from gateway.http.gate import AnyRequest, gate_of
from gateway.http.problems import Problem
from gateway.routes.customers import SERVICE
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.payments import payments
from projections.products import products

log = logging.getLogger(__name__)


class GraphQLBody(Struct, frozen=True):
    query: Annotated[str, Meta(min_length=1)]
    variables: dict[str, Any] | None = None
    operation_name: str | None = field(default=None, name="operationName")


@post("/v1/graphql", dto=JsonBody[GraphQLBody], return_dto=None, status_code=200, opt=REQUEST, tags=["graphql"])
async def query_graphql(request: AnyRequest, data: GraphQLBody) -> Response[dict[str, Any]]:
    """Answer a query; `/schema/graphql` says what may be asked. A customer sees its own orders only. What is no query,
    goes too deep or may cost too much is 422; what fails while it is answered stands in `errors`."""
    gate = gate_of(request)
    headers = await gate.fresh(request, order_detail, order_summary, payments, products)
    try:
        result = await SCHEMA.execute(
            data.query,
            data.variables,
            context_value=Loaders(gate.reader, request.user, partial(_customer, request)),
            operation_name=data.operation_name,
        )
    except CannotGetOperationTypeError as error:
        raise Problem(422, "query_invalid", error.as_http_error_reason(), field="/operationName") from error
    if isinstance(result, PreExecutionError):
        detail = "; ".join(error.message for error in result.errors or ())
        raise Problem(422, "query_invalid", detail, field="/query")
    content: dict[str, Any] = {"data": result.data}
    if result.errors:
        content["errors"] = [_told(error) for error in result.errors]
    return Response(content, headers=headers)


async def _customer(request: AnyRequest, customer_id: str) -> bytes | None:
    return bytes((await gate_of(request).kept(request, SERVICE, customer_id)).state)


def _told(error: GraphQLError) -> dict[str, Any]:
    """What of an error may be known outside."""
    cause = error.original_error
    if isinstance(cause, Problem):
        return {"message": cause.detail, "path": error.path, "extensions": {"code": cause.code}}
    if cause is None or isinstance(cause, GraphQLError):  # Of the query, such as a variable that is missing.
        return {"message": error.message, "path": error.path, "extensions": {"code": "malformed"}}
    log.error("a query failed at %s", error.path, exc_info=cause)
    return {"message": "something went wrong here", "path": error.path, "extensions": {"code": "internal_error"}}


@get(
    "/schema/graphql", media_type=MediaType.TEXT, exclude_from_auth=True, include_in_schema=False, sync_to_thread=False
)
def describe_graphql() -> str:
    return SCHEMA.as_str()


routes = [query_graphql, describe_graphql]
