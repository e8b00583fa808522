"""A secured system: everything over TLS, each service a process with a user of its own; and who is not let in."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import httpx
import msgspec
import pytest

from bus.calls.call import Call, CallFailed
from bus.calls.over_grpc import GrpcTransport, grpc_call, open_channel
from bus.servers.broker import free_port
from bus.servers.connection import BrokerUnreachable, connect
from bus.servers.tls import Identity, ca_of, identity
from gateway import compose
from gateway.grpc.inventory import SERVICE
from gateway.grpc.proto.tally.inventory.v1.inventory_pb2 import Item, ReserveItemsRequest, ReserveItemsResponse
from gateway.runtime.users import made
from gateway.settings import claim
from tests.gateway.test_parked_jobs import parked_job, put_nonsense
from tests.system import PATIENCE_S, Shop, System, descendants, running_system, tally, unique, until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("secure")
    tls = folder / "tls"
    made(tls, callers=["warehouse"])
    with running_system(folder / "data", TALLY_TLS_DIR=str(tls), TALLY_GRPC_PORT=str(free_port())) as system:
        yield system


@pytest.fixture
def warehouse(own: Identity) -> Identity:
    """A program outside that was given a certificate to call the stock with."""
    return identity(own.folder, "warehouse")


@pytest.fixture
async def stock(system: System, warehouse: Identity) -> AsyncIterator[GrpcTransport]:
    """How it calls the stock, which is there."""
    async with open_channel(at_grpc(system), warehouse) as channel:
        await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
        yield GrpcTransport("stock", channel)


def at_grpc(system: System) -> str:
    return system.running.grpc_address


def reserving(shop: Shop, sku: str) -> Call:
    request = ReserveItemsRequest(order_id=unique("order"), items=[Item(sku=sku, quantity=2)])
    headers = {"authorization": shop.http.headers["Authorization"], "Idempotency-Key": unique("key")}
    return grpc_call(f"/{SERVICE}/ReserveItems", request.SerializeToString(), headers)


def soon() -> float:
    return time.monotonic() + PATIENCE_S


@pytest.fixture(scope="module")
def own(system: System) -> Identity:
    assert system.running.operator is not None
    return system.running.operator


@pytest.fixture(scope="module")
def shop(system: System, own: Identity) -> Iterator[Shop]:
    shop = Shop(system)
    shop.http.close()
    shop.http = httpx.Client(**{**system.options("admin", "tests"), "verify": own.nobody})
    yield shop
    shop.close()


def test_an_order_is_placed_over_https_and_ships(system: System, shop: Shop) -> None:
    assert system.running.http_url.startswith("https://")
    assert system.running.provider_url.startswith("https://")
    assert system.running.nats_url.startswith("tls://")
    sku = shop.product(units=5)
    order = shop.settled(shop.place(sku, 2)["order_id"])
    assert (order["status"], shop.stock(sku)) == ("shipped", (3, 0, 3))
    assert system.ledger()["captured_cents"] == order["total_cents"]


def test_the_gateway_may_ask_who_customers_are(shop: Shop) -> None:
    customer_id = unique("customer")
    address = {"street": "Here 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
    person = {"name": "Ann", "email": "ann@example.org", "address": address}
    assert shop.http.put(f"/v1/customers/{customer_id}", json=person).status_code == 201
    order_id = shop.place(shop.product(units=1), customer_id=customer_id)["order_id"]
    shop.settled(order_id)
    shown = shop.http.get(f"/v2/orders/{order_id}").json()
    assert shown["deliver_to"] == {"name": "Ann", "address": address}


def test_a_webhook_comes_over_https(shop: Shop) -> None:
    order = shop.place(shop.product(units=1), payment_token="tok_async")
    assert shop.settled(order["order_id"])["status"] == "shipped"


def test_what_is_queued_is_done(shop: Shop) -> None:
    sku = unique("sku")
    body = {"name": "Queued", "category": "things", "price_cents": 1_000, "currency": "EUR"}
    answer = shop.http.put(f"/v1/products/{sku}", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert shop.product()
    shop.caught_up()


def test_every_service_says_what_it_gave_up(shop: Shop) -> None:
    assert shop.http.get("/v1/parked").json() == {"items": [], "left_out": 0, "silent": []}


def test_a_job_that_fails_for_good_is_parked_and_mended(system: System, shop: Shop) -> None:
    """By whoever may: one user parks it, another puts it back and removes it."""
    key = unique("job")
    put_nonsense(system, key)
    first = until(lambda: parked_job(shop.http, key), "the parked job")
    assert shop.http.post(f"/v1/parked/{first['id']}/redrive").json() == {"redriven": 1, "left": 0, "error": ""}
    again = until(lambda: parked_job(shop.http, key, but=first["id"]), "the job, parked again")
    place = {"sequence": again["sequence"], "offset": 0, "reason": "a test"}
    assert shop.http.post(f"/v1/parked/{again['id']}/discard", json=place).status_code == 200
    assert parked_job(shop.http, key) is None


def test_each_service_is_a_process_of_its_own(system: System) -> None:
    assert system.process is not None
    running = descendants(system.process.pid).values()
    for name in compose.SERVICES:
        assert any(command.endswith(f"work --service {name}") for command in running), name
    assert not any("--part processes" in command or "--part commands" in command for command in running)


@pytest.mark.parametrize("server", ["http_url", "provider_url", "carrier_url"])
def test_plain_http_is_refused(system: System, server: str) -> None:
    url = getattr(system.running, server).replace("https://", "http://")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/livez", timeout=PATIENCE_S)


@pytest.mark.parametrize("server", ["http_url", "provider_url", "carrier_url"])
def test_who_does_not_know_the_authority_does_not_trust_it(system: System, server: str) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{getattr(system.running, server)}/livez", timeout=PATIENCE_S)


def test_customers_need_no_certificate(system: System, own: Identity) -> None:
    assert httpx.get(f"{system.running.http_url}/livez", verify=own.nobody, timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize("server", ["provider_url", "carrier_url"])
def test_between_services_who_shows_no_certificate_is_refused(system: System, own: Identity, server: str) -> None:
    url = f"{getattr(system.running, server)}/livez"
    with pytest.raises(httpx.TransportError, match=r"(?i)certificate required"):
        httpx.get(url, verify=own.nobody, timeout=PATIENCE_S)
    assert httpx.get(url, verify=own.inside, timeout=PATIENCE_S).status_code == 200


def test_between_services_a_certificate_of_others_is_refused(system: System, own: Identity, tmp_path: Path) -> None:
    made(tmp_path)
    others = ssl.create_default_context(cafile=str(own.ca))
    others.load_cert_chain(tmp_path / "operator.pem", tmp_path / "operator.key")
    with pytest.raises(httpx.TransportError, match=r"(?i)unknown ca|certificate"):
        httpx.get(f"{system.running.provider_url}/livez", verify=others, timeout=PATIENCE_S)


async def test_stock_is_reserved_over_grpc_by_who_shows_a_certificate(shop: Shop, stock: GrpcTransport) -> None:
    sku = shop.product(units=5)
    reply = await stock(reserving(shop, sku), soon())
    answer = ReserveItemsResponse.FromString(reply.body)
    assert answer.position.startswith("inventory=")
    shop.caught_up()
    assert shop.stock(sku) == (5, 2, 3)


async def test_a_certificate_is_no_token(stock: GrpcTransport) -> None:
    reply = await stock(grpc_call(f"/{SERVICE}/ReserveItems", b""), soon())
    assert reply.headers["grpc-status"] == "UNAUTHENTICATED"


async def test_grpc_in_plain_without_a_certificate_or_with_one_of_others_is_refused(
    system: System, shop: Shop, own: Identity, stock: GrpcTransport, tmp_path: Path
) -> None:
    made(tmp_path)
    sku = shop.product(units=5)
    others = grpc.ssl_channel_credentials(own.pems.ca, *reversed(identity(tmp_path, "operator").pems[1:]))
    nobody = grpc.ssl_channel_credentials(own.pems.ca)
    for channel in (
        open_channel(at_grpc(system)),
        grpc.aio.secure_channel(at_grpc(system), nobody),
        grpc.aio.secure_channel(at_grpc(system), others),
    ):
        async with channel:
            with pytest.raises(CallFailed):
                await GrpcTransport("stock", channel)(reserving(shop, sku), soon())
    shop.caught_up()
    assert shop.stock(sku) == (5, 0, 5)


async def test_who_calls_grpc_is_nobody_at_the_broker(system: System, warehouse: Identity) -> None:
    with pytest.raises(BrokerUnreachable):
        await connect(system.running.nats_url, "tests", identity=warehouse, timeout_s=1.0)


def test_the_command_line_finds_its_certificate_by_itself(system: System) -> None:
    found = tally(system.folder, "projections", "--json")
    assert found.returncode == 0, found.stderr
    assert len(msgspec.json.decode(found.stdout)) == len(compose.PROJECTIONS)
    assert not found.stderr
    made = tally(system.folder, "streams")
    assert (made.returncode, made.stderr) == (0, "")


def test_a_worker_of_several_services_is_told_to_be_one(system: System) -> None:
    refused = tally(system.folder, "work", "--service", "orders", "--service", "payments")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("tally: with TLS each worker is one service")


def test_a_certificate_that_cannot_be_used_is_told(system: System, tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "orders.key").chmod(0o644)
    url = {"TALLY_NATS_URL": system.running.nats_url, "TALLY_TLS_DIR": str(tmp_path)}
    refused = tally(tmp_path / "data", "work", "--service", "orders", **url)
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "may be read by others: `chmod 600` it" in refused.stderr


def test_certificates_are_made_and_an_authority_is_not_replaced(tmp_path: Path) -> None:
    done = tally(tmp_path / "data", "certs", "--json")
    assert done.returncode == 0, done.stderr
    assert {each["how"] for each in msgspec.json.decode(done.stdout)} == {"made"}
    claim(tmp_path / "data")  # It is ours, and `tally up` may use it.
    again = tally(tmp_path / "data", "certs", "--caller", "warehouse", "--json")
    assert {each["name"] for each in msgspec.json.decode(again.stdout) if each["how"] == "made"} == {"warehouse"}
    for caller, status in (("orders", 3), ("../x", 2)):
        assert tally(tmp_path / "data", "certs", "--caller", caller).returncode == status
    ca_of(tmp_path / "data/tls").unlink()
    refused = tally(tmp_path / "data", "certs")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "has ca.key, but not ca.pem" in refused.stderr
