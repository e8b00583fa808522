"""What the long runs have to tell when they are over, and what the environment asks of them."""

from __future__ import annotations

import os

import pytest

FIGURES = pytest.StashKey[list[str]]()


def asked_for(variable: str, default: int) -> int:
    """A number from the environment: how many rounds or cuts, or the seed to begin with."""
    return int(os.environ.get(variable, default))


def tell(config: pytest.Config, line: str) -> None:
    """Show a line at the end of the whole run."""
    config.stash.setdefault(FIGURES, []).append(line)
