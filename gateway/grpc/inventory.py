"""`InventoryService`: reserve and release, by the commands that the checkout sends, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
import msgspec

from bus.commands import digest_of
from bus.engines.deciding import malformed
from domains.inventory.messages import ReleaseStock, ReserveStock
from domains.inventory.stock import inventory
from gateway.grpc.calls import Asked, Calls
from gateway.grpc.proto.tally.inventory.v1.inventory_pb2 import (
    DESCRIPTOR,
    ReleaseItemsRequest,
    ReleaseItemsResponse,
    ReserveItemsRequest,
    ReserveItemsResponse,
)
from gateway.http.commanding import Commanding, OutcomeUnknown, Written
from gateway.http.outcomes import asked_now, sealed
from gateway.http.problems import Problem, refused
from gateway.http.reservations import Reached, held
from gateway.http.tokens import Tokens
from projections.history import History

SERVICE: str = DESCRIPTOR.services_by_name["InventoryService"].full_name

Command = TypeVar("Command", ReserveStock, ReleaseStock)


class InventoryService:
    """`reached` waits for a read model, as the gateway does."""

    def __init__(self, commanding: Commanding, tokens: Tokens, history: History, reached: Reached) -> None:
        self._commanding = commanding
        self._tokens = tokens
        self._history = history
        self._reached = reached

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "ReserveItems": calls.method("ReserveItems", "staff", self.reserve, ReserveItemsRequest.FromString),
                "ReleaseItems": calls.method("ReleaseItems", "staff", self.release, ReleaseItemsRequest.FromString),
            },
        )

    async def reserve(self, asked: Asked, request: ReserveItemsRequest) -> ReserveItemsResponse:
        """Raises `Problem`."""
        written = await self._send(asked, "ReserveItems", _command(request, ReserveStock))
        already = await held(request.order_id, written, self._history, self._reached)
        return ReserveItemsResponse(position=written.position, version=written.version, already=already)

    async def release(self, asked: Asked, request: ReleaseItemsRequest) -> ReleaseItemsResponse:
        """Raises `Problem`."""
        written = await self._send(asked, "ReleaseItems", _command(request, ReleaseStock))
        already = written.repeated or written.events is None
        return ReleaseItemsResponse(position=written.position, version=written.version, already=already)

    async def _send(self, asked: Asked, method: str, command: ReserveStock | ReleaseStock) -> Written:
        key = asked.natural_key(f"{method} {command.order_id}", "reservation_differs")
        digest = digest_of(f"/{SERVICE}/{method}\n".encode() + msgspec.json.encode(command))
        try:
            return await self._commanding.send(
                command,
                key,
                digest=digest,
                principal=asked.principal,
                correlation=command.order_id,
                trace=asked.trace,
                left_s=asked.left_s,
            )
        except OutcomeUnknown as error:
            detail = "whether this was written is not known yet; under its Idempotency-Key it may also be repeated"
            status = sealed(asked_now(inventory.name, key.id, digest), self._tokens, asked.principal.subject)
            location = f"/v1/commands/{status}"
            raise Problem(504, "outcome_unknown", detail, headers={"Location": location}) from error


def _command(request: ReserveItemsRequest | ReleaseItemsRequest, kind: Callable[..., Command]) -> Command:
    """What a message asks for. Raises `Problem` for what no command can be."""
    items = [{"sku": item.sku, "quantity": item.quantity} for item in request.items]
    if not items:  # What a client of another version left out looks like that.
        raise refused("malformed", "an order has one item or more", "/items")
    try:
        command: Command = msgspec.convert({"order_id": request.order_id, "items": items}, kind)
    except msgspec.ValidationError as error:
        wrong = malformed(error)
        raise refused(wrong.code, wrong.detail, wrong.field) from error
    return command
