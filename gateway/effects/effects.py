"""What an effect is to those who run it: reactions to the events of a log, or jobs of a queue, that reach outside."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bus.calls.discovery import Discovery
from bus.calls.mesh import Mesh
from bus.queues.work_queue import Do
from bus.reactors.reactor import Reaction
from bus.sender import Sender
from bus.servers.connection import Client
from bus.servers.tls import Identity
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Means:
    """What effects are given: who they may ask and tell inside, and where the outside is."""

    settings: Settings
    client: Client
    sender: Sender
    mesh: Mesh
    discovery: Discovery
    identity: Identity | None = None

    @property
    def trust(self) -> ssl.SSLContext | bool:
        """With what services outside are verified, and are shown who asks."""
        return True if self.identity is None else self.identity.outside


@dataclass(frozen=True, slots=True)
class Effects:
    """`name` is the reactor's; `log` is that of the service that they belong to. What `opened` holds is let go of when
    it is left."""

    name: str
    log: str
    opened: Callable[[Means], AbstractAsyncContextManager[Mapping[type, Reaction]]]
    puts: tuple[str, ...] = ()
    """The work queues that it puts jobs into."""
    asks: tuple[str, ...] = ()
    """The services that it asks what they keep."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of a work queue, and what does them. `service` is whose business that is."""

    queue: str
    service: str
    opened: Callable[[Means], AbstractAsyncContextManager[Do]]
