"""Client-side discovery: which instances of a destination are there, handed to its balancer as they come and go.

Who answers calls says so with its presence, at an address that reaches it and no other (`Offer`). One that dies is left
out once it was silent for `SILENT_S`, at most two seconds later; until then its calls fail at once or count as slow, so
the balancer hardly chooses it. Where nobody offers anything calls go `otherwise`, as to a subject that any instance
hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nats.aio.client import Client

from bus.calls.balancing import Balancer
from bus.calls.call import Step
from bus.calls.over_nats import NatsTransport, instances
from bus.presence import Offer, Present

LOOK_EVERY_S = 0.25
INSTANCES_MAX = 256
"""Of one destination; more are not asked."""

Reach = Callable[[str], Step]
"""Makes the transport to an address."""


@dataclass(slots=True)
class _Followed:
    reach: Reach
    otherwise: Mapping[str, Step]
    balancer: Balancer
    seen: Mapping[str, Offer]
    steps: dict[str, Step]


class Discovery:
    """The balancers of one process, each kept at what is present."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._followed: dict[str, _Followed] = {}

    def balancer(self, destination: str, reach: Reach, otherwise: Mapping[str, Step] | None = None) -> Balancer:
        """The end of a path to a destination. Who asks again gets the same one."""
        found = self._followed.get(destination)
        if found is None:
            otherwise = otherwise or {}
            found = _Followed(reach, otherwise, Balancer(destination, otherwise), {}, {})
            self._followed[destination] = found
            self.look()
        return found.balancer

    def over_nats(self, destination: str, client: Client) -> Balancer:
        """The same for a service of ours, whose instances have subjects of their own beside the one that all hear."""
        transport = NatsTransport(destination, client)
        return self.balancer(destination, instances(transport), {"any": transport})

    def look(self) -> None:
        """Tell the balancers who is there now."""
        for destination, followed in self._followed.items():
            offers = dict(list(self._present.offers(destination).items())[:INSTANCES_MAX])
            if offers == followed.seen:
                continue
            followed.seen = offers
            followed.steps = {name: followed.steps.get(name) or followed.reach(name) for name in offers}
            versions = {name: offer.version for name, offer in offers.items()}
            followed.balancer.know(followed.steps or followed.otherwise, versions)

    async def watch(self, every_s: float = LOOK_EVERY_S) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(every_s)
