"""How a process of ours logs: one line an event, to stderr; the supervisor keeps that in a file a process."""

from __future__ import annotations

import logging

from gateway.settings import Settings


def log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's, which writes down whom mail is for.
