"""What an effect is to those who run it: reactions to the events of a log, or jobs of a queue, that reach outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bus.calls.discovery import Discovery
from bus.calls.mesh import Mesh
from bus.queues.work_queue import Do
from bus.reactors.reactor import Reaction
from bus.sender import Sender
from bus.servers.connection import Client
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Means:
    """What effects are given: who they may ask and tell inside, and where the outside is."""

    settings: Settings
    client: Client
    sender: Sender
    mesh: Mesh
    discovery: Discovery


@dataclass(frozen=True, slots=True)
class Effects:
    """`name` is the reactor's; `log` is that of the service that they belong to. What `opened` holds is let go of when
    it is left."""

    name: str
    log: str
    opened: Callable[[Means], AbstractAsyncContextManager[Mapping[type, Reaction]]]


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of a work queue, and what does them. `service` is whose business that is."""

    queue: str
    service: str
    opened: Callable[[Means], AbstractAsyncContextManager[Do]]
