"""How errors end: what a known trouble's exit code is. Imported only where there was one, for it knows all of them."""

from __future__ import annotations

from bus.calls.mesh import MeshInvalid
from bus.logs.log import LogDamaged
from bus.logs.streams import StreamMisconfigured
from bus.servers.broker import BrokerFailed, BrokerMissing
from bus.servers.connection import BrokerUnreachable
from bus.servers.safety import BrokerUnsafe
from bus.servers.tls import CertificateUnusable
from gateway.runtime.running import CannotStart, WorkerFailed
from gateway.runtime.supervisor import ChildFailed
from gateway.settings import SettingsError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_START = 3

_CODES: dict[tuple[type[Exception], ...], int] = {
    (SettingsError, MeshInvalid): EXIT_USAGE,
    (
        CannotStart,
        ChildFailed,
        BrokerMissing,
        BrokerFailed,
        BrokerUnreachable,
        BrokerUnsafe,
        CertificateUnusable,
        StreamMisconfigured,
    ): EXIT_CANNOT_START,
    (LogDamaged, WorkerFailed): EXIT_FAILED,
}


def code_of(error: Exception) -> int | None:
    """None for what nobody expected."""
    return next((code for kinds, code in _CODES.items() if isinstance(error, kinds)), None)
