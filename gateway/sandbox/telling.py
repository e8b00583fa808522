"""The simulated provider's webhooks: what it decides later is told, signed, until that is heard."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable

import httpx

from gateway.effects.webhooks import SIGNATURE, sign
from gateway.sandbox.ledger import Ledger
from gateway.sandbox.provider import Provider

TELLS_MAX = 100
"""Messages that are sent in a row."""
TELL_TIMEOUT_S = 5.0
TELL_AGAIN_S = 1.0

log = logging.getLogger(__name__)


async def keep_telling(
    provider: Provider, secret: str, target: Callable[[], str], trust: ssl.SSLContext | bool
) -> None:
    """Until cancelled. `target` is asked for the URL each time."""
    async with httpx.AsyncClient(timeout=TELL_TIMEOUT_S, verify=trust) as http:
        while True:
            provider.deferred.clear()
            provider.ledger.decide(time.time(), provider.mode.webhook_copies)
            heard = await _tell(http, provider.ledger, secret, target())
            due_at = provider.ledger.next_due()
            waits_s = TELL_AGAIN_S if not heard else None if due_at is None else max(0.0, due_at - time.time())
            try:
                async with asyncio.timeout(waits_s):
                    await provider.deferred.wait()
            except TimeoutError:
                continue


async def _tell(http: httpx.AsyncClient, ledger: Ledger, secret: str, url: str) -> bool:
    """Whether all that there is was heard."""
    for number, body in ledger.untold(TELLS_MAX):
        headers = {SIGNATURE: sign(secret, body, int(time.time())), "Content-Type": "application/json"}
        try:
            answer = await http.post(url, content=body, headers=headers)
        except httpx.TransportError as error:
            log.info("%s is not heard yet: %s", url, error)
            return False
        if answer.status_code >= 500 or answer.status_code == 429:
            return False
        if answer.is_error:
            log.warning("a webhook was refused with %d: %s", answer.status_code, answer.text)
        ledger.told(number)
    return not ledger.untold(1)
