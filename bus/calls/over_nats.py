"""Calls over NATS request/reply: the transport at the end of a call path to another service of ours.

For questions. Commands have a way of their own (`bus/sender.py`), for they travel in frames.
"""

from __future__ import annotations

from collections.abc import Callable

import nats.errors
from msgspec.structs import replace
from nats.aio.client import Client

from bus.calls.call import GRACE_S, REAL_TIME, Call, NoAnswer, Reply, Step, Time, Unreachable
from bus.calls.deadline import HEADER, header_of
from bus.servers.connection import still_wanted


def instances(transport: Step) -> Callable[[str], Step]:
    """How an instance with a subject of its own is reached."""

    def reach(subject: str) -> Step:
        async def call_it(call: Call, deadline: float) -> Reply:
            return await transport(replace(call, target=subject), deadline)

        return call_it

    return reach


class NatsTransport:
    """The call's target is the subject. Its answer is waited for until the deadline, which is sent along, and a little
    longer."""

    def __init__(self, destination: str, client: Client, time: Time = REAL_TIME) -> None:
        self._destination = destination
        self._client = client
        self._now = time.now

    async def __call__(self, call: Call, deadline: float) -> Reply:
        if not self._client.is_connected:
            raise Unreachable(self._destination, "the broker cannot be reached")
        now = self._now()
        headers = {**call.headers, HEADER: header_of(deadline, now)}
        try:
            wait_s = max(0.0, deadline - now) + GRACE_S
            answer = await self._client.request(call.target, call.body, timeout=wait_s, headers=headers)
            still_wanted()
        except nats.errors.NoRespondersError as error:
            raise Unreachable(self._destination, f"nobody serves {call.target}") from error
        except (nats.errors.Error, OSError) as error:
            reason = str(error) or type(error).__name__
            raise NoAnswer(self._destination, f"gave no answer ({reason})") from error
        return Reply(200, answer.data, answer.headers or {})
