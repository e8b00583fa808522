"""Every service's own user at the broker: what each may say and hear, on a broker guarded as the product's is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import nats.errors
import pytest
from nats.js.api import StreamConfig

from bus.commands import command_subject
from bus.logs.blocks import hash_of
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import Appended
from bus.servers.broker import BrokerSettings, EmbeddedBroker, Guard, free_port
from bus.servers.certificates import make
from bus.servers.connection import BrokerUnreachable, Client, close, connect
from bus.servers.safety import BrokerUnsafe, check
from bus.servers.tls import BROKER, OPERATOR, SYSTEM, Identity, identity, inbox_of
from gateway import compose
from gateway.runtime.streams import make_streams
from gateway.runtime.users import made, parties, users
from gateway.settings import Settings
from tests.bus.waiting import until

PATIENCE_S = 60.0

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"  # The client leaves connections that failed to be collected.
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("guarded") / "tls"
    made(found)
    return found


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[EmbeddedBroker]:
    guard = Guard(identity(folder, BROKER), tuple(users()))
    with EmbeddedBroker(BrokerSettings(folder.with_name("broker"), free_port(), "", guard=guard)) as broker:
        yield broker


class People:
    """Who is connected, each under the name in its certificate."""

    def __init__(self, url: str, folder: Path, stack: AsyncExitStack) -> None:
        self._url = url
        self._folder = folder
        self._stack = stack

    async def __call__(self, name: str) -> Client:
        client = await connect(self._url, name, identity=identity(self._folder, name))
        self._stack.push_async_callback(close, client)
        return client


@pytest.fixture
async def as_user(guarded: EmbeddedBroker, folder: Path, tmp_path: Path) -> AsyncIterator[People]:
    async with AsyncExitStack() as stack:
        people = People(guarded.url, folder, stack)
        await make_streams(await people(OPERATOR), Settings(data_dir=tmp_path))
        yield people


async def settle(client: Client) -> None:
    """Wait until the broker has taken what was said, which the client does not say at once."""
    await until(lambda: client.pending_data_size == 0, "what was said")
    await client.flush(timeout=int(PATIENCE_S))


async def refused(client: Client, what: str) -> None:
    """Wait until the broker says so; the client is told by itself, in small letters, not in an answer."""
    said = f'permissions violation for {what.lower()}"'
    await until(lambda: said in str(client.last_error), said)


async def test_a_service_cannot_publish_anothers_events(as_user: People) -> None:
    payments, operator = await as_user("payments"), await as_user(OPERATOR)
    before = (await operator.jetstream().stream_info("orders")).state.last_seq
    await payments.publish("log.orders.0", b"forged")
    await refused(payments, 'publish to "log.orders.0')
    assert (await operator.jetstream().stream_info("orders")).state.last_seq == before


async def test_a_service_cannot_take_anothers_commands_or_answer_them(as_user: People) -> None:
    payments, orders, gateway = await as_user("payments"), await as_user("orders"), await as_user("gateway")
    stolen = await payments.subscribe("cmd.orders.>")
    await refused(payments, 'subscription to "cmd.orders.>')
    asked = await orders.subscribe(command_subject("orders", 0), queue="engine")
    await settle(orders)
    answer = asyncio.create_task(gateway.request(command_subject("orders", 0), b"[]", timeout=PATIENCE_S))
    frame = await asked.next_msg(timeout=PATIENCE_S)
    assert frame.reply.startswith(inbox_of("gateway"))
    await payments.publish(frame.reply, b"forged")
    await refused(payments, f'publish to "{frame.reply}')
    await orders.publish(frame.reply, b"answered")
    assert (await answer).data == b"answered"
    assert not stolen.pending_msgs


async def test_a_service_cannot_hear_anothers_replies(as_user: People) -> None:
    payments, orders, gateway = await as_user("payments"), await as_user("orders"), await as_user("gateway")
    for tried in (f"{inbox_of('gateway')}.>", "_INBOX.>", "_INBOX.*.*.*", ">"):
        heard = await payments.subscribe(tried)
        await refused(payments, f'subscription to "{tried}')
    asked = await orders.subscribe(command_subject("orders", 0), queue="engine")
    await settle(orders)
    answer = asyncio.create_task(gateway.request(command_subject("orders", 0), b"[]", timeout=PATIENCE_S))
    frame = await asked.next_msg(timeout=PATIENCE_S)
    await orders.publish(frame.reply, b"answered")
    assert (await answer).data == b"answered"
    await settle(payments)
    assert not heard.pending_msgs


async def test_an_answer_is_given_once_and_to_who_asked(as_user: People) -> None:
    orders, gateway = await as_user("orders"), await as_user("gateway")
    asked = await orders.subscribe(command_subject("orders", 0), queue="engine")
    inbox = gateway.new_inbox()
    heard = await gateway.subscribe(inbox)
    await settle(orders)
    await gateway.publish(command_subject("orders", 0), b"[]", reply=inbox)
    frame = await asked.next_msg(timeout=PATIENCE_S)
    await orders.publish(frame.reply, b"answered")
    await orders.publish(frame.reply, b"answered again")
    await refused(orders, f'publish to "{frame.reply}')
    assert (await heard.next_msg(timeout=PATIENCE_S)).data == b"answered"


async def test_nobody_but_the_operator_makes_streams(as_user: People) -> None:
    """One could be made to keep what others say, their replies among it."""
    payments = await as_user("payments")
    context = payments.jetstream(timeout=1)
    for tried, verb in ((context.add_stream, "CREATE"), (context.update_stream, "UPDATE")):
        with pytest.raises(nats.errors.TimeoutError):
            await tried(StreamConfig(name="payments", subjects=["_INBOX.>"]))
        await refused(payments, f'publish to "$JS.API.STREAM.{verb}.payments')


async def test_a_service_reads_the_logs_that_it_observes_and_no_others(as_user: People) -> None:
    shipping = await as_user("shipping")
    assert "customers" not in compose.reads("shipping")
    assert (await shipping.jetstream(timeout=5).get_msg("orders", 1)).subject == "log.orders.epoch"
    with pytest.raises(nats.errors.TimeoutError):
        await shipping.jetstream(timeout=1).get_msg("customers", 1)
    await refused(shipping, 'publish to "$JS.API.STREAM.MSG.GET.customers')


async def test_a_long_stretch_of_a_log_is_read_over_a_connection_of_its_own(
    as_user: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.logs.jetstream.POURS_RECORDS", 0)
    written = await JetStreamLog.open(await as_user("orders"), "orders", make=False)
    expected = head.sequence if (head := await written.last(0)) else 0
    outcome = await written.append(0, b"block", hash_of(b"block"), expected)
    assert isinstance(outcome, Appended)
    log = await JetStreamLog.open(await as_user("projections"), "orders", make=False)
    async with asyncio.timeout(PATIENCE_S):
        read = [record async for batch in log.read(outcome.sequence - 1, outcome.sequence) for record in batch]
    assert [record.data for record in read] == [b"block"]


async def test_the_account_of_the_system_is_asked_how_servers_are_configured_and_no_more(as_user: People) -> None:
    system = await as_user(SYSTEM)
    for tried in ("$SYS.REQ.SERVER.PING.CONNZ", "log.orders.0", "cmd.orders.0"):
        await system.publish(tried, b"")
        await refused(system, f'publish to "{tried}')


async def test_who_shows_no_certificate_is_not_let_in(guarded: EmbeddedBroker, folder: Path) -> None:
    with pytest.raises(BrokerUnreachable):
        await connect(guarded.url.replace("tls://", "nats://tally:guess@"), "stranger", timeout_s=1.0)
    showing = Identity(folder, OPERATOR).nobody
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.settings.port, ssl=showing)
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    with pytest.raises(OSError, match=r"(?i)certificate required"):
        await reader.readline()
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def test_a_certificate_of_another_authority_is_not_let_in(
    guarded: EmbeddedBroker, folder: Path, tmp_path: Path
) -> None:
    make(tmp_path, parties())
    (tmp_path / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())  # It trusts ours; we do not trust it.
    with pytest.raises(BrokerUnreachable, match=r"no TLS with the server at .*ALERT_UNKNOWN_CA"):
        await connect(guarded.url, "stranger", identity=Identity(tmp_path, "orders"), timeout_s=1.0)


async def test_a_broker_of_another_authority_is_not_spoken_to(guarded: EmbeddedBroker, tmp_path: Path) -> None:
    make(tmp_path, parties())
    with pytest.raises(BrokerUnreachable, match="is not our broker: unable to get local issuer certificate"):
        await connect(guarded.url, "deceived", identity=identity(tmp_path, "orders"), timeout_s=1.0)


async def test_a_service_is_not_taken_for_the_broker(guarded: EmbeddedBroker, folder: Path, tmp_path: Path) -> None:
    """It has a certificate of the same authority, and may not serve with it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(folder / "payments.pem", folder / "payments.key")
        try:
            await writer.start_tls(server)
        except OSError:
            writer.transport.abort()

    false = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with false:
        url = f"tls://127.0.0.1:{false.sockets[0].getsockname()[1]}"
        with pytest.raises(BrokerUnreachable, match="is not our broker"):
            await connect(url, "deceived", identity=identity(folder, "orders"), timeout_s=1.0)


async def test_nothing_is_said_to_a_broker_without_tls(broker: EmbeddedBroker, folder: Path) -> None:
    with pytest.raises(BrokerUnreachable, match="no TLS with the server at"):
        await connect(broker.url, "downgraded", identity=identity(folder, "orders"), timeout_s=1.0)


async def test_the_start_up_check_understands_it(guarded: EmbeddedBroker, folder: Path) -> None:
    await check(guarded.url, guarded.settings.system_url, system=identity(folder, SYSTEM))
    with pytest.raises(BrokerUnsafe, match="TALLY_NATS_SYSTEM_URL is not the system account"):
        await check(guarded.url, guarded.settings.system_url, system=identity(folder, "orders"))


def test_everybody_who_speaks_has_a_certificate() -> None:
    names = [party.name for party in parties()]
    assert len(names) == len(set(names))
    assert {user.name for user in users()} <= set(names)
    assert set(compose.SERVICES) <= set(names)
