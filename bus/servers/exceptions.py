"""What the start-up check of the broker may be told to let pass (`bus/servers/safety.py`), each by its name."""

from __future__ import annotations

from typing import Final

EXCEPTIONS: Final[dict[str, str]] = {
    "lazy-sync": "Servers may acknowledge writes before they are on disk: a power cut loses them.",
    "no-tls": "Servers may listen beyond loopback without TLS and users.",
    "no-file-limit": "Servers may fill their disk: it stops them dead.",
    "unverified": "How servers sync and what they may store is not looked up.",
}
"""`--unsafe-lazy-sync`, or `lazy-sync` in `TALLY_UNSAFE`."""
