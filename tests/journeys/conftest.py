"""One running system for all journeys: what they check of money and stock is about all of its orders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import Shop, System, running_system


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("journeys") / "data") as system:
        yield system


@pytest.fixture(scope="session")
def shop(system: System) -> Iterator[Shop]:
    shop = Shop(system)
    yield shop
    shop.close()
