"""Who observes whose events, as data: process managers, and policies (`Policy` in `domains/kernel.py`).

Says nothing of how they run (see `processes.py`), and knows none of them (see the composition root).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from domains.kernel import Domain, Policy, Timing

AnyDomain = Domain[object, object, object]
AnyPolicy = Policy[object]


def intake(name: str, log: str) -> str:
    """The name of the reactor that tells a process or a policy of a log's events."""
    return f"{name}-from-{log}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process manager: its domain, which events of which logs it observes, the commands in what it records, and the
    domains that those are sent to."""

    domain: AnyDomain
    observes: dict[str, tuple[type, ...]]
    wrap: Callable[[object], tuple[str, Struct]]
    steps: Callable[[object], tuple[Struct, ...]]
    sends_to: tuple[str, ...]
    timing: Timing
    """When it wants to be woken, by what it records."""

    def intake(self, log: str) -> str:
        """The name of the reactor that tells it of events."""
        return intake(self.domain.name, log)

    @property
    def relay(self) -> str:
        """The name of the reactor that sends its commands."""
        return f"{self.domain.name}-relay"
