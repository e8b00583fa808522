"""Mail: what the server takes is recorded as sent, what it never takes as given up, and the rest is tried again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path

import msgspec
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import Raw
from nats.aio.client import Client

from bus.calls.over_nats import NatsTransport
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.commands import Envelope as CommandEnvelope
from bus.commands import Stored
from bus.engines.endpoint import Endpoint
from bus.engines.engine import Engine
from bus.logs.blocks import decoder_of
from bus.logs.log import MemoryLog
from bus.outboxes.database import Database
from bus.outboxes.state_stored import answer_queries
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.reactor import Again, Reactor, ReactorLimits
from bus.sender import Sender
from bus.servers.broker import free_port
from domains.customers.customer import Customer, customers
from domains.customers.messages import CustomerCommand, CustomerEvent, EraseCustomer, SaveCustomer
from domains.notifications.messages import (
    NoticeFailed,
    NoticeSent,
    NotificationCommand,
    NotificationEvent,
    Purchase,
    SendOrderConfirmation,
)
from domains.notifications.notice import Notice, notifications
from gateway.effects.mail import CONNECTIONS_MAX, STALE_S, Mailer, NoticeEffects, Undeliverable, addressed
from gateway.sandbox.mailbox import LETTERS_MAX, Letter, Mailbox, Receiver, letter, letters, listen
from tests.bus.waiting import until

QUICK = ReactorLimits(backoff_s=0.001, checkpoint_every_s=0.005)
SHOP = "shop@shop.example"


class Post:
    """A mail server of a test's own, on one port, that may be away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        self.url = f"smtp://127.0.0.1:{self.port}"
        self.mailbox = Mailbox(path)
        self.connections = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await listen(Counting(self), self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.mailbox.close()

    def got(self) -> list[Letter]:
        """Oldest first."""
        return letters(self.path, LETTERS_MAX)[::-1]


class Counting(Receiver):
    """A mail server that knows how many came."""

    def __init__(self, post: Post) -> None:
        super().__init__(post.mailbox)
        self._post = post

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self._post.connections += 1
        session.host_name = hostname
        return responses


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    post = Post(tmp_path / "mail.db")
    yield post
    await post.close()


@pytest.fixture
async def mailer(post: Post) -> AsyncIterator[Mailer]:
    mailer = Mailer(post.url)
    yield mailer
    await mailer.close()


# -- the notices -------------------------------------------------------------------------------------------------------


class Shop:
    """The notifications and the customers, each as its service runs it, and the mail between them."""

    def __init__(self, client: Client, mailer: Mailer, folder: Path) -> None:
        self.log = MemoryLog("notifications")
        self.now = time.time
        self._client = client
        self._kept = CallPath("customers", CallPolicy(retries=0), NatsTransport("customers", client))
        self._mailer = mailer
        self._folder = folder
        self._engine: Engine[Notice, NotificationCommand, NotificationEvent] = Engine(notifications, self.log)
        self._endpoint = Endpoint(client, self._engine, "notifications")
        self._customers: Database[Customer, CustomerCommand, CustomerEvent] = Database(customers, folder / "c.db")
        self.sender = Sender(client, dict.fromkeys(notifications.commands, "notifications"))
        self._number = 0

    async def open(self) -> None:
        await self._engine.start()
        await self._endpoint.start()
        await self._customers.open()
        await answer_queries(self._client, self._customers)
        await self._client.flush()

    async def close(self) -> None:
        await self._endpoint.stop()
        await self._engine.stop()
        await self._customers.close()

    async def customer(self, command: CustomerCommand) -> None:
        self._number += 1
        envelope = CommandEnvelope(f"c{self._number}", time.time() + 60, Raw(msgspec.json.encode(command)))
        await self._customers.write([envelope], time.time())

    async def confirm(self, order_id: str, customer_id: str) -> None:
        command = SendOrderConfirmation(order_id, Purchase(customer_id, "EUR", 3_605))
        assert isinstance(await self.sender.send(command, id=order_id, actor="tests"), Stored)

    async def events(self) -> list[NotificationEvent]:
        decode = decoder_of(notifications).decode
        blocks = [decode(record.data) async for batch in self.log.read(0, await self.log.head()) for record in batch]
        return [event for block in blocks for commit in block.commits for event in commit.events]

    async def react(self, enough: Callable[[], bool] = lambda: True) -> list[tuple[int, int]]:
        """React to the whole log, without any memory of reactions, until all is done. What was parked."""
        checkpoints = await Checkpoints.open(self._folder / f"reactors-{time.monotonic_ns()}.db")
        effects = NoticeEffects(self._mailer, self.sender, self._kept, SHOP, self.now)
        decoder = decoder_of(notifications)
        reactor = Reactor("mail", self.log, decoder, effects.reactions, checkpoints, QUICK)
        running = asyncio.create_task(reactor.run())
        head = await self.log.head()
        try:
            await until(lambda: reactor.position >= head and enough())
            return list(await checkpoints.parked("mail"))
        finally:
            running.cancel()
            await asyncio.wait({running})
            await checkpoints.close()


@pytest.fixture
async def shop(client: Client, mailer: Mailer, tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(client, mailer, tmp_path)
    await shop.open()
    yield shop
    await shop.close()


async def test_a_customer_gets_one_mail_about_an_order_at_the_address_of_that_moment(shop: Shop, post: Post) -> None:
    await post.open()
    await shop.customer(SaveCustomer("c1", "Ada", "old@x.example"))
    await shop.confirm("o1", "c1")
    await shop.customer(SaveCustomer("c1", "Ada", "ada@x.example"))
    assert await shop.react() == []
    (mail,) = post.got()
    assert (mail.recipient, mail.message_id) == ("ada@x.example", "<confirmation.o1@shop.example>")
    assert mail.subject == "Your order o1 is confirmed"
    found = letter(post.path, mail.number)
    assert found is not None
    assert "EUR 36.05" in found.text
    assert (await shop.events())[1:] == [NoticeSent("o1", mail.message_id)]


async def test_nothing_goes_out_again_when_the_log_is_read_again(shop: Shop, post: Post) -> None:
    await post.open()
    await shop.customer(SaveCustomer("c1", "Ada", "ada@x.example"))
    await shop.customer(SaveCustomer("c2", "Bob", "refused@x.example"))
    await shop.confirm("o1", "c1")
    await shop.confirm("o2", "c2")
    await shop.react()
    before = await shop.events()
    await shop.react()
    assert len(post.got()) == 1
    assert await shop.events() == before


async def test_what_waits_for_the_mail_server_goes_out_when_it_is_back(
    shop: Shop, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bus.reactors.reactor")
    await shop.customer(SaveCustomer("c1", "Ada", "ada@x.example"))
    for number in range(10):
        await shop.confirm(f"o{number}", "c1")
    reacting = asyncio.create_task(shop.react(lambda: len(post.got()) == 10))
    await until(lambda: "must wait" in caplog.text)
    await post.open()
    assert await reacting == []
    assert {mail.message_id for mail in post.got()} == {f"<confirmation.o{n}@shop.example>" for n in range(10)}
    assert len(post.got()) == 10


@pytest.mark.parametrize(
    ("saved", "reason"),
    [
        ([], "customer_unknown"),
        ([SaveCustomer("c1", "Ada", "ada@x.example"), EraseCustomer("c1")], "customer_erased"),
        ([SaveCustomer("c1", "Ada", "refused@x.example")], "refused_by_server"),
        ([SaveCustomer("c1", "Ada", "ada@<x>")], "address_malformed"),
    ],
    ids=["unknown", "erased", "refused", "malformed"],
)
async def test_who_cannot_be_reached_gets_no_mail_and_that_is_recorded(
    shop: Shop, post: Post, saved: list[CustomerCommand], reason: str
) -> None:
    await post.open()
    for command in saved:
        await shop.customer(command)
    await shop.confirm("o1", "c1")
    assert await shop.react() == []
    assert post.got() == []
    assert (await shop.events())[1:] == [NoticeFailed("o1", reason)]


async def test_nobody_is_told_of_what_is_long_ago(shop: Shop, post: Post) -> None:
    await post.open()
    await shop.customer(SaveCustomer("c1", "Ada", "ada@x.example"))
    await shop.confirm("o1", "c1")
    shop.now = lambda: time.time() + STALE_S + 60
    assert await shop.react() == []
    assert post.got() == []
    assert (await shop.events())[1:] == [NoticeFailed("o1", "too_late")]


# -- the mailer --------------------------------------------------------------------------------------------------------


def written(to: str, number: int = 0) -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"] = f"<{number}@shop.example>"
    message["From"] = SHOP
    message["To"] = addressed(to)
    message["Subject"] = "Olá"
    message.set_content("Até logo\n")
    return message


async def test_a_no_for_now_is_tried_again_and_one_for_good_is_not(mailer: Mailer, post: Post) -> None:
    await post.open()
    with pytest.raises(Again, match="450"):
        await mailer.send(written("later@x.example"), "later@x.example")
    with pytest.raises(Undeliverable, match="550"):
        await mailer.send(written("refused@x.example"), "refused@x.example")
    await mailer.send(written("later@x.example"), "later@x.example")
    assert [mail.recipient for mail in post.got()] == ["later@x.example"]


async def test_no_server_is_a_trouble_that_passes(mailer: Mailer, post: Post) -> None:
    with pytest.raises(Again):
        await mailer.send(written("ada@x.example"), "ada@x.example")
    await post.open()
    await mailer.send(written("ada@x.example"), "ada@x.example")
    assert len(post.got()) == 1


async def test_many_at_once_share_a_few_connections(mailer: Mailer, post: Post) -> None:
    await post.open()
    await asyncio.gather(*(mailer.send(written("ada@x.example", n), "ada@x.example") for n in range(40)))
    assert {mail.message_id for mail in post.got()} == {f"<{n}@shop.example>" for n in range(40)}
    assert 1 <= post.connections <= CONNECTIONS_MAX


@pytest.mark.parametrize("address", ["ada@x.example", "ã@x.example", 'a,"b@x.example', "a..b@x.example"])
async def test_a_mail_says_what_it_said_whatever_the_address(mailer: Mailer, post: Post, address: str) -> None:
    await post.open()
    message = written(address)
    await mailer.send(message, message["To"].addresses[0].addr_spec)
    (mail,) = post.got()
    found = letter(post.path, mail.number)
    assert found is not None
    assert (found.subject, found.text.strip()) == ("Olá", "Até logo")


@pytest.mark.parametrize("address", ["a@[", "a@x,y", "a@x.", "a@<x>", "a@x;y"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(Undeliverable) as told:
        addressed(address)
    assert told.value.reason == "address_malformed"


# -- the mailbox -------------------------------------------------------------------------------------------------------


async def test_a_mailbox_keeps_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sandbox.mailbox.LETTERS_MAX", 3)
    mailbox = Mailbox(tmp_path / "mail.db")
    for number in range(5):
        mailbox.keep("ada@x.example", written("ada@x.example", number).as_bytes())
    mailbox.close()
    assert (tmp_path / "mail.db").stat().st_mode & 0o777 == 0o600
    assert [each.message_id[1] for each in letters(tmp_path / "mail.db", 10)] == ["4", "3", "2"]
    assert letter(tmp_path / "mail.db", 1) is None
