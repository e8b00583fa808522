"""Headers of a request, as the server gives them: pairs of bytes, names in lower case."""

from __future__ import annotations

from litestar.types import Scope


def header_of(scope: Scope, name: bytes) -> str | None:
    """A header by its name; of several the first. Without a parsed map of all of them."""
    for given, value in scope["headers"]:
        if given == name:
            return value.decode("latin-1")
    return None
