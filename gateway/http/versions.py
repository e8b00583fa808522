"""Versions of the API side by side: what the earlier one of two says about itself, and which request is which."""

from __future__ import annotations

from typing import Any

from gateway.http.answers import HEADERS

DEPRECATED_SINCE = 1_795_219_200
"""2026-11-21, in seconds since the epoch."""
SUNSET = "Tue, 30 Nov 2027 00:00:00 GMT"
"""From then on it may be gone."""
SUPERSEDED: dict[str, Any] = {
    HEADERS: ((b"deprecation", b"@%d" % DEPRECATED_SINCE), (b"sunset", SUNSET.encode())),
}
"""For the `opt` of a route that has a later version (RFC 9745, RFC 8594)."""


def canonical(path: str) -> str:
    """A path as the first version has it: a repeat may come in another version, and is the same request."""
    return f"/v1/{path.removeprefix('/v2/')}" if path.startswith("/v2/") else path
