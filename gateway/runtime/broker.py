"""What a process does before it uses the broker."""

from __future__ import annotations

from bus.servers.safety import check
from gateway.runtime.running import nats_urls
from gateway.settings import Settings


async def check_broker(settings: Settings) -> None:
    """Raises `BrokerUnsafe`, `SettingsError`, `BrokerUnreachable`."""
    url, system_url = nats_urls(settings)
    await check(url, system_url, settings.unsafe)
