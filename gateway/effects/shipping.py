"""Pickups and their cancellations at the carrier; what it answers comes back as commands."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct

from bus.calls.over_http import HttpTransport, client
from bus.calls.path import CallPath
from bus.reactors.reactor import Occurrence, Reaction
from bus.sender import Sender
from domains.shipping.messages import (
    ConfirmCancellation,
    ConfirmPickup,
    RefusePickup,
    ShipmentRecalled,
    ShipmentScheduled,
)
from gateway.effects.effects import Effects, Means
from gateway.effects.outside import NOWHERE, Outside, cause_of

ACTOR = "shipping-effects"
CARRIER = "carrier"
"""What the destination is called in the policy file."""

log = logging.getLogger(__name__)


class Pickup(Struct, frozen=True):
    """The carrier's answer. `scheduled`: it calls us when it has the goods."""

    id: str
    status: str
    code: str = ""


class ShippingEffects:
    """Reactions to what is asked of the carrier. The order's id is the idempotency key there, too."""

    def __init__(self, carrier: CallPath, sender: Sender) -> None:
        self._carrier = Outside(carrier, sender, ACTOR)

    @property
    def reactions(self) -> Mapping[type, Reaction]:
        return {ShipmentScheduled: self._schedule, ShipmentRecalled: self._cancel}

    async def _schedule(self, what: Occurrence) -> None:
        asked = what.event
        assert isinstance(asked, ShipmentScheduled)
        parcel = [{"sku": item.sku, "quantity": item.quantity} for item in asked.items]
        body: dict[str, object] = {"order_id": asked.order_id, "items": parcel, "token": asked.token}
        made = await self._carrier.ask("/pickups", f"pickup-{asked.order_id}", body, Pickup, cause_of(what))
        match made.status:
            case "picked_up":
                await self._carrier.tell(ConfirmPickup(asked.order_id, made.id), cause_of(what))
            case "refused":
                await self._carrier.tell(RefusePickup(asked.order_id, made.code or "refused"), cause_of(what))
            case "scheduled":
                return
            case other:
                raise ValueError(f"the carrier answered a pickup with status {other}")

    async def _cancel(self, what: Occurrence) -> None:
        asked = what.event
        assert isinstance(asked, ShipmentRecalled)
        body: dict[str, object] = {"order_id": asked.order_id}
        made = await self._carrier.ask("/cancellations", f"cancel-{asked.order_id}", body, Pickup, cause_of(what))
        if made.status != "cancelled":
            raise ValueError(f"the carrier answered a cancellation with status {made.status}")
        await self._carrier.tell(ConfirmCancellation(asked.order_id), cause_of(what))


@asynccontextmanager
async def _opened(means: Means) -> AsyncIterator[Mapping[type, Reaction]]:
    if not means.settings.carrier_url:
        log.warning("TALLY_CARRIER_URL is not set: shipments wait until it is")
    async with client(means.settings.carrier_url or NOWHERE, means.trust) as http:
        yield ShippingEffects(means.mesh.path(CARRIER, HttpTransport(CARRIER, http)), means.sender).reactions


shipping_effects = Effects(ACTOR, "shipping", _opened)
