"""Webhooks: how a message from outside proves who sent it, and when.

The signature is over the time and the body together, so neither can be changed, and what is older than a few minutes is
refused, so what somebody recorded cannot be sent again later. Within that time it can: a message twice must do no harm.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

SIGNATURE = "Tally-Signature"
WINDOW_S = 300
"""How old a message may be, and how far ahead the sender's clock."""
_PATTERN = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


class WebhookRefused(Exception):
    """It is not shown to be from whom it says, or not from now."""


def sign(secret: str, body: bytes, at: int) -> str:
    """The header for a message that is sent at this time, in seconds since the epoch."""
    return f"t={at},v1={_digest(secret, body, at)}"


def verify(secret: str, signature: str, body: bytes, now: float) -> None:
    """Raises `WebhookRefused`."""
    found = _PATTERN.fullmatch(signature)
    if found is None:
        raise WebhookRefused(f"{SIGNATURE} is missing or makes no sense")
    at = int(found[1])
    if not hmac.compare_digest(found[2], _digest(secret, body, at)):
        raise WebhookRefused("the signature is not of this body and time")
    if abs(now - at) > WINDOW_S:
        raise WebhookRefused(f"it was signed more than {WINDOW_S} s before or after now")


def _digest(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), b"%d.%s" % (at, body), sha256).hexdigest()
