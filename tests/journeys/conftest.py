"""One running system for all journeys: what they check of money and stock is about all of its orders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import Shop, System, running_system

IMPATIENT = "[destinations.provider.breaker]\nopen_s = 0.5\n[destinations.carrier.breaker]\nopen_s = 0.5\n"
"""Who was killed is tried again soon."""


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("journeys")
    mesh = folder / "mesh.toml"
    mesh.write_text(IMPATIENT)
    with running_system(folder / "data", TALLY_MESH_FILE=str(mesh)) as system:
        yield system


@pytest.fixture(scope="package")
def shop(system: System) -> Iterator[Shop]:
    shop = Shop(system)
    yield shop
    shop.close()
