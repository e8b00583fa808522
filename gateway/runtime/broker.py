"""What a process does before it uses the broker."""

from __future__ import annotations

from bus.servers.safety import check
from bus.servers.tls import SYSTEM
from gateway.runtime.running import identity_of, nats_urls
from gateway.settings import Settings


async def check_broker(settings: Settings) -> None:
    """Raises `BrokerUnsafe`, `SettingsError`, `BrokerUnreachable`, `CertificateUnusable`."""
    url, system_url = nats_urls(settings)
    system = identity_of(settings, SYSTEM)
    await check(url, system_url or (url if system else ""), settings.unsafe, system=system)
