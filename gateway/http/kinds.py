"""What kind of route one is, where its method does not say so: for its `opt`, and for whoever describes it."""

from __future__ import annotations

from typing import Literal

Kind = Literal["health", "write", "query", "view", "request", "webhook"]
KIND = "kind"
VIEW: dict[str, Kind] = {KIND: "view"}
"""For the `opt` of a GET that shows no read model, so takes no position."""
REQUEST: dict[str, Kind] = {KIND: "request"}
"""For the `opt` of a POST that asks for something to be done and appends no command to a log."""
WEBHOOK: dict[str, Kind] = {KIND: "webhook"}
"""For the `opt` of a POST that is known by its signature."""
