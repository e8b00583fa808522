"""Announcements: where each read model and reactor stands, told to whoever listens, so that nobody polls a database.

Core NATS, at most once: what is missed is said again by the next announcement, at most `REPEAT_S` later. Who begins
to listen asks, so that it need not wait for that. A read model is a file of one node, so where it stands is told in the
name of its `home`, and heard there only: another node's may be further on. A reactor is the same for everybody.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

REPEAT_S = 1.0
BREATH_S = 0.02
"""Between two times that all is said, however many ask."""
QUESTION = "standings"
EVERYWHERE = "everywhere"
"""The home of what is not a node's."""
WAITERS_MAX = 20_000

log = logging.getLogger(__name__)


class RebuildProgress(Struct, frozen=True):
    """How far a rebuild has come. `state`: building, verifying, catching up, done, failed. `percent` and `eta_s` go by
    records up to `head`; `rate_per_s` is of events, while it was built."""

    state: str
    sequence: int
    head: int
    events: int
    rate_per_s: float
    eta_s: float | None
    detail: str = ""
    id: str = ""
    """Of the request that began it."""
    percent: float = 0.0


class Standing(Struct, frozen=True):
    """Where a read model stands, or a reactor, which has no version. `head` is the last sequence that its stream was
    seen to have, `head_age_s` ago (null: never)."""

    name: str
    version: int
    stream: str
    sequence: int
    head: int
    error: str = ""
    rebuild: RebuildProgress | None = None
    head_age_s: float | None = None
    lag_events: int = 0
    """Events that it has yet to show; a guess by how many a record held so far, but exact when there are none."""
    lag_s: float | None = None
    """How old what it shows may be, at most: 0 while it shows all. Null: the head was not seen lately."""
    parked_keys: int = 0
    parked_commits: int = 0


class Announcer:
    def __init__(self, client: Client, home: str = EVERYWHERE) -> None:
        self._client = client
        self._home = home
        self._asked = asyncio.Event()

    async def start(self) -> None:
        """Hear questions. Without it all is only said again and again."""
        await self._client.subscribe(QUESTION, cb=self._hear)

    @property
    def question(self) -> asyncio.Event:
        """Set when somebody asks the next time."""
        return self._asked

    async def pause(self, question: asyncio.Event) -> None:
        """Wait until all should be said again: after the question, or after a while."""
        await asyncio.sleep(BREATH_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(REPEAT_S):
                await question.wait()

    async def announce(self, standing: Standing) -> None:
        try:
            await self._client.publish(f"standing.{self._home}.{standing.name}", msgspec.json.encode(standing))
        except Error as error:
            log.debug("nobody hears where %s stands: %s", standing.name, error)

    async def _hear(self, _: Msg) -> None:
        asked, self._asked = self._asked, asyncio.Event()
        asked.set()


class Standings:
    """The latest announcement of every read model of a home and of every reactor, and a way to wait for a position."""

    def __init__(self, client: Client, home: str = EVERYWHERE) -> None:
        self._client = client
        self._homes = {home, EVERYWHERE}
        self._latest: dict[str, tuple[Standing, float]] = {}
        self._waiting: dict[str, set[tuple[int, asyncio.Future[bool]]]] = {}
        self._waiters = 0

    async def start(self) -> None:
        for home in self._homes:
            await self._client.subscribe(f"standing.{home}.*", cb=self._heard)
        await self._client.publish(QUESTION, b"")

    def latest(self, name: str) -> Standing | None:
        heard = self._latest.get(name)
        return heard[0] if heard else None

    def silent_s(self, name: str) -> float:
        """How long ago the last announcement came; infinite when there was none."""
        heard = self._latest.get(name)
        return asyncio.get_running_loop().time() - heard[1] if heard else float("inf")

    async def wait(self, name: str, sequence: int, timeout_s: float) -> bool:
        """Whether the read model reached the position in time."""
        latest = self.latest(name)
        if latest is not None and latest.sequence >= sequence:
            return True
        if timeout_s <= 0 or self._waiters >= WAITERS_MAX:
            return False
        reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = (sequence, reached)
        self._waiting.setdefault(name, set()).add(waiter)
        self._waiters += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await reached
        except TimeoutError:
            return False
        finally:
            self._waiting[name].discard(waiter)
            self._waiters -= 1

    async def _heard(self, message: Msg) -> None:
        try:
            standing = msgspec.json.decode(message.data, type=Standing)
        except msgspec.DecodeError as error:
            log.warning("an announcement on %s makes no sense: %s", message.subject, error)
            return
        self._latest[standing.name] = standing, asyncio.get_running_loop().time()
        for sequence, reached in tuple(self._waiting.get(standing.name, ())):
            if standing.sequence >= sequence and not reached.done():
                reached.set_result(True)
