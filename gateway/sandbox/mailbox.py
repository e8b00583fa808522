"""A mail server that delivers nothing: it keeps what it is given, for `tally mail` to show.

Mail to `refused@...` is refused for good, to `later@...` the first time for now.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import Struct
from msgspec.structs import replace

from bus.servers.lifetime import die_with_parent

LETTERS_MAX = 10_000
"""The oldest of more are thrown away."""
LETTER_BYTES_MAX = 1024 * 1024
HOST = "127.0.0.1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT, received_at TEXT NOT NULL, recipient TEXT NOT NULL,
    message_id TEXT NOT NULL, subject TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
"""
_COLUMNS = "number, received_at, recipient, message_id, subject"


class Letter(Struct, frozen=True):
    """One mail as it was received; `text` is what it says."""

    number: int
    received_at: str
    recipient: str
    message_id: str
    subject: str
    text: str = ""


class Mailbox:
    """The file in which letters are kept."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # It holds addresses.
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.executescript(_SCHEMA)

    def keep(self, recipient: str, content: bytes) -> None:
        message = _parsed(content)
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        row = (at, recipient, message.get("Message-ID", "").strip(), message.get("Subject", ""), content)
        inserted = self._file.execute(
            "INSERT INTO letter (received_at, recipient, message_id, subject, content) VALUES (?, ?, ?, ?, ?)", row
        )
        self._file.execute("DELETE FROM letter WHERE number <= ?", ((inserted.lastrowid or 0) - LETTERS_MAX,))

    def close(self) -> None:
        self._file.close()


def letters(path: Path, limit: int) -> list[Letter]:
    """The latest letters, newest first. Raises `sqlite3.Error` where there is no such file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
        rows = file.execute(f"SELECT {_COLUMNS} FROM letter ORDER BY number DESC LIMIT ?", (limit,))  # noqa: S608  # Ours.
        return [Letter(*row) for row in rows]


def letter(path: Path, number: int) -> Letter | None:
    """One of them, with its text. Raises as above."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
        query = f"SELECT {_COLUMNS}, content FROM letter WHERE number = ?"  # noqa: S608  # Ours.
        row = file.execute(query, (number,)).fetchone()
    if row is None:
        return None
    body = _parsed(row[-1]).get_body(("plain",))
    text = body.get_content() if body is not None else ""
    return replace(Letter(*row[:-1]), text=text)


def _parsed(content: bytes) -> EmailMessage:
    return message_from_bytes(content, _class=EmailMessage, policy=SMTP_POLICY)


class Receiver:
    """What the SMTP server calls; the names are its."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._told_later: set[str] = set()

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if address.startswith("refused@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later@") and address not in self._told_later:
            self._told_later.add(address)
            return "450 4.2.1 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        for recipient in envelope.rcpt_tos:
            self._mailbox.keep(recipient, content)
        return "250 OK"


async def listen(receiver: Receiver, port: int) -> asyncio.Server:
    """Take mail on loopback."""
    return await asyncio.get_running_loop().create_server(
        lambda: SMTP(receiver, data_size_limit=LETTER_BYTES_MAX, enable_SMTPUTF8=True, hostname="localhost"), HOST, port
    )


async def serve(path: Path, port: int) -> None:
    """Until SIGTERM or SIGINT."""
    die_with_parent()
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    mailbox = Mailbox(path)
    server = await listen(Receiver(mailbox), port)
    try:
        await told_to_stop.wait()
    finally:
        server.close()
        mailbox.close()
