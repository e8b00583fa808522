"""What the tests of the read models share: a log on the real server that is written by hand, and who listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from bus.announcements import Announcer, Standings
from bus.logs.jetstream import JetStreamLog
from projections.reader import Reader
from tests.bus.written import Written
from tests.projections.shop import Shop


@pytest.fixture
async def shop(client: Client, unique: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """An empty log, nobody who folds it yet, and ears for what is announced."""
    log = await JetStreamLog.open(client, unique)
    standings = Standings(client)
    await standings.start()
    await client.flush()
    reader = Reader(tmp_path / "read models")
    yield Shop(Written(log), tmp_path / "read models", Announcer(client), standings, reader)
    await reader.close()
