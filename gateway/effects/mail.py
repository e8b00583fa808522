"""Mail: notices go out over SMTP, and what the mail server says of them comes back as commands.

At least once, always with the same Message-ID and content. Before each the notifications are asked whether it is still
to be sent, so nothing goes out again because a log is read again. The address is asked of the customers service at that
moment and kept nowhere here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

import aiosmtplib
import msgspec

from bus.calls.call import CallFailed
from bus.calls.path import CallPath
from bus.commands import Refused
from bus.outboxes.state_stored import Unanswered, ask
from bus.reactors.processes import settled
from bus.reactors.reactor import Again, Occurrence, Reaction
from bus.sender import Sender
from domains.customers.customer import Customer, Erased, Registered, Unregistered, customers
from domains.notifications.messages import AttemptNotice, GiveUpNotice, NoticeRequested, RecordNoticeSent
from gateway.effects.effects import Effects, Means
from gateway.settings import Settings

TIMEOUT_S = 10.0
FAREWELL_S = 0.3
CONNECTIONS_MAX = 4
"""To the mail server; more mails wait for their turn here, where waiting costs nothing."""
STALE_S = 7 * 24 * 3_600.0
"""Nobody wants to hear of what is older than that: a service that is new, or back, does not mail about years ago."""
ACTOR = "mail-effects"
PORTS: Final[Mapping[str, int]] = {"smtp": 25, "smtps": 465}
NOWHERE = "smtp://127.0.0.1:9"
"""Where nobody answers: what a missing mail server looks like."""
DOMAIN_PATTERN = re.compile(r"[\w-]+(\.[\w-]+)*")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Reason = Literal[
    "customer_unknown", "customer_erased", "too_late", "address_malformed", "address_unsupported", "refused_by_server"
]

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(Unregistered | Registered | Erased).decode


class Undeliverable(Exception):
    """The mail server, or the address itself, says that this will never arrive."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


class Mailer:
    """Sends mails over a few connections, each made when it is needed and anew when it broke.

    `smtps` speaks TLS from the beginning, `smtp` as soon as the server offers it; a password goes to another machine
    over TLS only.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        host, password = parts.hostname or "", unquote(parts.password or "")
        self._idle: asyncio.LifoQueue[aiosmtplib.SMTP] = asyncio.LifoQueue()
        self._all = [
            aiosmtplib.SMTP(
                hostname=host,
                port=parts.port or PORTS[parts.scheme],
                username=unquote(parts.username or "") or None,
                password=password or None,
                timeout=timeout_s,
                use_tls=parts.scheme == "smtps",
                start_tls=True if parts.scheme == "smtp" and password and host not in LOOPBACK else None,
            )
            for _ in range(CONNECTIONS_MAX)
        ]
        for connection in self._all:
            self._idle.put_nowait(connection)

    @classmethod
    def of(cls, settings: Settings) -> Mailer:
        if not settings.smtp_url:
            log.warning("TALLY_SMTP_URL is not set: mail waits until it is")
        return cls(settings.smtp_url or NOWHERE)

    async def send(self, message: EmailMessage, *to: str) -> None:
        """Return once the server took it for one of them. Raises `Undeliverable`, or `Again` for what passes."""
        connection = await self._idle.get()
        whole = False
        try:
            if not connection.is_connected:
                await connection.connect()
            refused, _ = await connection.send_message(message, recipients=to)
            whole = True
            if refused:
                log.warning("%s was not taken for all: %s", message["Message-ID"], refused)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refused(error.recipients[0]) from error
        except aiosmtplib.SMTPDataError as error:
            raise _refused(error) from error
        except aiosmtplib.SMTPNotSupported as error:
            raise Undeliverable("address_unsupported", str(error)) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Again(f"the mail server does not take it: {str(error) or type(error).__name__}") from error
        finally:
            if not whole:
                connection.close()
            self._idle.put_nowait(connection)

    async def close(self) -> None:
        await asyncio.gather(*(_farewell(connection) for connection in self._all if connection.is_connected))
        for connection in self._all:
            connection.close()


async def _farewell(connection: aiosmtplib.SMTP) -> None:
    with suppress(aiosmtplib.SMTPException, OSError):  # The server may be gone already, and nothing rests on it.
        await connection.quit(timeout=FAREWELL_S)


def _refused(answer: aiosmtplib.SMTPResponseException) -> Again | Undeliverable:
    """What a mail server says in 5xx is for good, in 4xx for now (RFC 5321)."""
    told = f"the mail server answered {answer.code} {answer.message}"
    return Undeliverable("refused_by_server", told) if answer.code >= 500 else Again(told)


class NoticeEffects:
    """Reactions to what customers are to be told."""

    def __init__(
        self, mailer: Mailer, sender: Sender, customers: CallPath, mail_from: str, now: Callable[[], float] = time.time
    ) -> None:
        self._mailer = mailer
        self._sender = sender
        self._customers = customers
        self._from = mail_from
        self._now = now

    @property
    def reactions(self) -> Mapping[type, Reaction]:
        return {NoticeRequested: self._send}

    async def _send(self, what: Occurrence) -> None:
        requested = what.event
        assert isinstance(requested, NoticeRequested)
        if not await self._is_due(requested.order_id, what):
            return
        try:
            message = confirmation(requested, what.at, self._from, await self._address(requested, what))
            await self._mailer.send(message, message["To"].addresses[0].addr_spec)
        except Undeliverable as error:
            await self._tell(GiveUpNotice(requested.order_id, error.reason), what, "given-up")
        else:
            await self._tell(RecordNoticeSent(requested.order_id, str(message["Message-ID"])), what, "sent")

    async def _is_due(self, order_id: str, what: Occurrence) -> bool:
        """Whether nobody has sent it or given it up yet."""
        answer = await self._sender.send(
            AttemptNotice(order_id), id=f"{what.id}-attempt", actor=ACTOR, cause=what.position
        )
        if isinstance(answer, Refused) and answer.code == "notice_settled":
            return False
        settled(answer)
        return True

    async def _address(self, requested: NoticeRequested, what: Occurrence) -> Address:
        """Where the customer is reached now. Raises `Undeliverable`, `Again`."""
        customer_id = requested.purchase.customer_id
        if self._now() - what.at.timestamp() > STALE_S:
            raise Undeliverable("too_late", f"it is of {what.at:%Y-%m-%d}")
        try:
            kept = await ask(self._customers, customer_id)
        except Unanswered as error:
            raise Again(str(error)) from error
        except CallFailed as failure:
            raise Again(str(failure), failure.retry_after_s) from failure
        customer: Customer = _decode(kept.state)
        match customer:
            case Unregistered():
                raise Undeliverable("customer_unknown", f"there is no customer {customer_id}")
            case Erased():
                raise Undeliverable("customer_erased", f"customer {customer_id} was erased")
            case Registered(email=email):
                return addressed(email)

    async def _tell(self, command: GiveUpNotice | RecordNoticeSent, what: Occurrence, how: str) -> None:
        settled(
            await self._sender.send(
                command,
                id=f"{what.id}-{how}",
                actor=ACTOR,
                cause=what.position,
                correlation=what.commit.correlation,
            )
        )


def addressed(email: str) -> Address:
    """Raises `Undeliverable` for what no mail goes to: customers' addresses are checked for their outline only."""
    name, _, domain = email.rpartition("@")
    if not DOMAIN_PATTERN.fullmatch(domain):
        raise Undeliverable("address_malformed", "not an address that mail goes to")
    return Address(username=name, domain=domain)


def domain_of(email: str) -> str:
    return email.rpartition("@")[2]


def confirmation(requested: NoticeRequested, at: datetime, mail_from: str, to: Address) -> EmailMessage:
    """The mail that confirms an order: the same, to the byte, however often it is made."""
    order_id, purchase = requested.order_id, requested.purchase
    message = EmailMessage()
    message["Message-ID"] = f"<confirmation.{order_id}@{domain_of(mail_from)}>"
    message["Date"] = format_datetime(at)
    message["From"] = mail_from
    message["To"] = to
    message["Subject"] = f"Your order {order_id} is confirmed"
    message["Auto-Submitted"] = "auto-generated"
    total = f"{purchase.currency} {purchase.total_cents // 100}.{purchase.total_cents % 100:02}"
    message.set_content(f"Thank you for your order {order_id}.\n\nIt is paid, {total}, and on its way.\n")
    return message


@asynccontextmanager
async def _opened(means: Means) -> AsyncIterator[Mapping[type, Reaction]]:
    mailer = Mailer.of(means.settings)
    try:
        asked = means.mesh.path(customers.name, means.discovery.over_nats(customers.name, means.client))
        yield NoticeEffects(mailer, means.sender, asked, means.settings.mail_from).reactions
    finally:
        await mailer.close()


notice_effects = Effects("mail-effects", "notifications", _opened, asks=(customers.name,))
