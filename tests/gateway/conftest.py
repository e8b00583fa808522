"""One running system for all of these tests. They share it, so each makes its own products, orders and customers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from bus.servers.broker import free_port
from tests.system import Shop, System, running_system, unique


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    port = str(free_port())
    with running_system(tmp_path_factory.mktemp("gateway") / "data", TALLY_GRPC_PORT=port) as system:
        yield system


@pytest.fixture(scope="package")
def shop(system: System) -> Iterator[Shop]:
    shop = Shop(system)
    yield shop
    shop.close()


@pytest.fixture(scope="package")
def admin(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(**system.options("admin", "admin-1")) as http:
        yield http


@pytest.fixture(scope="package")
def staff(system: System) -> Iterator[httpx.Client]:
    with httpx.Client(**system.options("staff", "staff-1")) as http:
        yield http


@pytest.fixture(scope="package")
def nobody(system: System) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=system.running.http_url, timeout=60.0, verify=False) as http:
        yield http


@pytest.fixture
def customer_id() -> str:
    return unique("customer")


@pytest.fixture
def customer(system: System, customer_id: str) -> Iterator[httpx.Client]:
    """A customer of this test only."""
    with httpx.Client(**system.options("customer", customer_id)) as http:
        yield http
