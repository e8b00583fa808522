"""Buries the sockets of the killed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _bury_sockets() -> Iterator[None]:
    """A client that is closed while it is connecting again leaves the new socket to the collector, which warns of it
    wherever it happens to run: at the end of a long run within pytest, which does not survive that."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
