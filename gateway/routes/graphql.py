"""GraphQL: one query over orders, lines, products, payments, shipments and customers, where REST would take many."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from litestar import MediaType, Response, get, post
from msgspec import Meta, Struct, field

from gateway.http.bodies import JsonBody
from gateway.http.degraded import headers_of, lacking
from gateway.http.gate import AnyRequest, gate_of
from gateway.http.kinds import REQUEST
from gateway.routes.customers import SERVICE
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.payments import payments
from projections.products import products
from projections.shipments import shipments


class GraphQLBody(Struct, frozen=True):
    query: Annotated[str, Meta(min_length=1)]
    variables: dict[str, Any] | None = None
    operation_name: str | None = field(default=None, name="operationName")


@post("/v1/graphql", dto=JsonBody[GraphQLBody], return_dto=None, status_code=200, opt=REQUEST, tags=["graphql"])
async def query_graphql(request: AnyRequest, data: GraphQLBody) -> Response[dict[str, Any]]:
    """Answer a query; `/schema/graphql` says what may be asked. A customer sees its own orders only. What is no query,
    goes too deep or may cost too much is 422; what fails while it is answered stands in `errors`. Customers are null
    while their service is away: then `extensions.degraded`, and the header, name it."""
    gate = gate_of(request)
    headers = await gate.fresh(request, order_detail, order_summary, payments, shipments, products)
    await asyncio.to_thread(_load)
    from gateway.graphql.answering import answer

    customer = partial(_customer, request)
    content = await answer(data.query, data.variables, data.operation_name, gate.reader, request.user, customer)
    if missing := lacking(request):
        content["extensions"] = {"degraded": missing}
    return Response(content, headers={**headers, **headers_of(request)})


async def _customer(request: AnyRequest, customer_id: str) -> bytes | None:
    kept = await gate_of(request).kept_if_told(request, SERVICE, customer_id)
    return bytes(kept.state) if kept is not None else None


@get("/schema/graphql", media_type=MediaType.TEXT, exclude_from_auth=True, include_in_schema=False, sync_to_thread=True)
def describe_graphql() -> str:
    from gateway.graphql.answering import description

    return description()


def _load() -> None:
    """When the first query comes, and off the loop: the library takes a fifth of a gateway's start."""
    import gateway.graphql.answering  # noqa: F401  # For its being there.


routes = [query_graphql, describe_graphql]
