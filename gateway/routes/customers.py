"""Customers: registered, changed, shown, erased. Each sees and changes its own; staff everybody's.

What is shown comes from the service itself, which keeps it as states; a list of who there is comes from a read model.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import Response, delete, get, put
from litestar.exceptions import PermissionDeniedException
from msgspec import Struct

from domains.customers.customer import Erased, Registered, Unregistered
from domains.customers.messages import Address, Email, EraseCustomer, Phone, SaveCustomer
from domains.kernel import Name
from gateway.http.bodies import JsonBody
from gateway.http.gate import AnyRequest, PathId, gate_of, is_known
from gateway.http.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.http.problems import Problem
from gateway.http.security import requires
from projections.customers import CUSTOMERS, CUSTOMERS_OF_STATUS, CustomerStatus, customer_status

SERVICE = "customers"

_decode = msgspec.json.Decoder(Unregistered | Registered | Erased).decode


class CustomerBody(Struct, frozen=True):
    """All that is to be known: what is left out is forgotten."""

    name: Name
    email: Email
    phone: Phone | None = None
    address: Address | None = None


class Customer(Struct, frozen=True):
    customer_id: str
    name: str
    email: str
    phone: str | None
    address: Address | None
    version: int


@put("/v1/customers/{customer_id:str}", dto=JsonBody[CustomerBody], return_dto=None, tags=["customers"])
async def save_customer(request: AnyRequest, customer_id: PathId, data: CustomerBody) -> Response[Customer]:
    """Register a customer, or change what is known of it. 201 when it is new, 200 when it was known; `If-Match` guards
    a change. Who was erased is gone (410): a new customer needs a new id."""
    _may_see(request, customer_id)
    command = SaveCustomer(customer_id, data.name, data.email, data.phone, data.address)
    gate = gate_of(request)
    written = await gate.execute(
        request, gate.key(request), command, correlation=customer_id, location=f"/v1/customers/{customer_id}"
    )
    saved = Customer(customer_id, data.name, data.email, data.phone, data.address, written.version)
    status = 201 if written.version == 1 and written.events is not None else 200
    headers = {**written.headers, "Location": f"/v1/customers/{customer_id}"}
    return Response(saved, status_code=status, headers=headers)


@get("/v1/customers/{customer_id:str}", tags=["customers"])
async def get_customer(request: AnyRequest, customer_id: PathId) -> Response[Customer | None]:
    """One customer, as it is now. Its `ETag` serves `If-None-Match` here and `If-Match` on a change."""
    _may_see(request, customer_id)
    gate = gate_of(request)
    headers = await gate.fresh(request)  # What the service keeps is never behind what it told.
    kept = await gate.kept(request, SERVICE, customer_id)
    match _decode(kept.state):
        case Registered(name, email, phone, address):
            customer = Customer(customer_id, name, email, phone, address, kept.version)
        case Erased():
            raise Problem(410, "customer_erased", f"customer {customer_id} was erased")
        case Unregistered():
            raise Problem(404, "customer_unknown", f"there is no customer {customer_id}")
    headers["ETag"] = f'"{kept.version}"'
    if is_known(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    return Response(customer, headers=headers)


@delete("/v1/customers/{customer_id:str}", status_code=204, tags=["customers"])
async def erase_customer(request: AnyRequest, customer_id: PathId) -> Response[None]:
    """Forget who the customer is, for good; orders keep its id and go on. 204, again and again."""
    _may_see(request, customer_id)
    gate = gate_of(request)
    written = await gate.execute(
        request,
        gate.key(request),
        EraseCustomer(customer_id),
        correlation=customer_id,
        location=f"/v1/customers/{customer_id}",
    )
    return Response(None, status_code=204, headers=written.headers)


@get("/v1/customers", opt=requires("staff"), tags=["customers"])
async def list_customers(
    request: AnyRequest,
    status: Literal["registered", "erased"] | None = None,
    limit: Limit = LIMIT,
    cursor: Cursor = "",
) -> Response[Page[CustomerStatus]]:
    """Who there is and was, by id, without what they are called: all, or those of one status."""
    gate = gate_of(request)
    headers = await gate.fresh(request, customer_status)
    start = after(cursor)
    if status is None:
        rows = await gate.reader.all(CUSTOMERS, after=start, limit=limit + 1)
    else:
        rows = await gate.reader.all(CUSTOMERS_OF_STATUS, status=status, after=start, limit=limit + 1)
    content, links = page(request, rows, limit, lambda customer: customer.customer_id)
    return Response(content, headers={**headers, **links})


def _may_see(request: AnyRequest, customer_id: str) -> None:
    if customer_id != request.user.subject and not request.user.may("staff"):
        raise PermissionDeniedException("a customer sees and changes its own data only")


routes = [save_customer, get_customer, erase_customer, list_customers]
