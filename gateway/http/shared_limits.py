"""Token buckets that all gateways share: each draws tokens in advance, and spends them without asking anybody.

A draw takes a tenth of a bucket (`DRAWS`), so a request in so many asks the broker, mostly before the last token is
spent, and a refused one asks nobody before there may be a token again. The price: over all gateways a client never gets
more than its rate, but after a pause at most a tenth of its burst more at once for each of them, and it may be refused
while another gateway still has some of its tokens. Where the broker does not answer each gateway counts for itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from hashlib import blake2b

from bus.allowances import Allowances, AllowancesUnreachable
from gateway.http.limits import CLIENTS_MAX, Bucket, Taken
from gateway.settings import Rate

DRAWS = 10
"""Into how many draws a full bucket goes."""
LOW_SHARE = 0.25
"""When less than so much of a draw is left the next one is made; a draw of less than four is not made in advance."""
ASK_TIMEOUT_S = 1.0
ALONE_S = 1.0
"""How long each gateway counts for itself before the broker is asked again."""

log = logging.getLogger(__name__)


class _Account:
    """What this gateway has of one client's tokens."""

    __slots__ = ("drawing", "full_at", "good_until", "refused_until", "tokens", "waiting")

    def __init__(self) -> None:
        self.tokens = 0
        self.good_until = 0.0
        self.full_at = 0.0
        self.refused_until = 0.0
        self.waiting = 0
        self.drawing: asyncio.Task[None] | None = None


class SharedBucket:
    """The buckets of one role's clients. Until `allowances` is set this gateway counts for itself."""

    def __init__(self, role: str, rate: Rate, now: Callable[[], float] = time.time) -> None:
        self.allowances: Allowances | None = None
        self._role = role
        self._window_s = float(rate.window_s)
        self._each_s = rate.window_s / rate.requests
        self._draw = max(1, rate.requests // DRAWS)
        self._low = int(self._draw * LOW_SHARE)
        self._now = now
        self._alone = Bucket(rate)
        self._alone_until = 0.0
        self._accounts: dict[str, _Account] = {}

    def take(self, client: str) -> Taken | None:
        """One token, or that there is none; None: that has to be asked for (`ask`)."""
        now = self._now()
        if self.allowances is None or now < self._alone_until:
            return self._alone.take(client)
        account = self._accounts.get(client)
        if account is None:
            return None
        if account.tokens and now < account.good_until:
            account.tokens -= 1
            if account.tokens < self._low and account.drawing is None and now >= account.refused_until:
                self._begin(client, account)
            return Taken(account.tokens + self._elsewhere(account, now), max(0.0, account.full_at - now), 0.0)
        if now < account.refused_until:
            return Taken(0, max(0.0, account.full_at - now), account.refused_until - now)
        return None

    async def ask(self, client: str) -> Taken:
        """The same, drawn first; bounded. All who wait for one client's tokens draw together."""
        account = self._accounts.get(client)
        if account is None:
            if len(self._accounts) >= CLIENTS_MAX:
                del self._accounts[next(iter(self._accounts))]
            account = self._accounts[client] = _Account()
        account.waiting += 1
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                while (taken := self.take(client)) is None:
                    await asyncio.shield(account.drawing or self._begin(client, account))
                return taken
        except TimeoutError:
            return self._alone.take(client)
        finally:
            account.waiting -= 1

    def _elsewhere(self, account: _Account, now: float) -> int:
        """Tokens that are still to be drawn, as far as is known."""
        return int((self._window_s - max(0.0, account.full_at - now)) / self._each_s + 1e-9)

    def _begin(self, client: str, account: _Account) -> asyncio.Task[None]:
        account.drawing = asyncio.get_running_loop().create_task(self._fill(client, account))
        return account.drawing

    async def _fill(self, client: str, account: _Account) -> None:
        try:
            assert self.allowances is not None
            wanted = max(self._draw, account.waiting)
            key = f"{self._role}.{blake2b(client.encode(), digest_size=16).hexdigest()}"
            drawn = await self.allowances.draw(key, wanted, self._each_s, self._window_s)
        except AllowancesUnreachable as error:
            log.warning("limits of each gateway hold for %g s: %s", ALONE_S, error)
            self._alone_until = self._now() + ALONE_S
            return
        finally:
            account.drawing = None
        now = self._now()
        if drawn.tokens:
            account.tokens = drawn.tokens + (account.tokens if now < account.good_until else 0)
            account.good_until = now + self._window_s
        account.full_at = drawn.full_at
        if drawn.tokens < wanted:  # There is no more before one fills up.
            account.refused_until = max(now, drawn.full_at - self._window_s + self._each_s)
