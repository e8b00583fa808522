"""What every effect makes of an answer from outside: come again, and when, or a failure that somebody must see."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Struct
from nats.aio.client import Client

from bus.calls.call import AnswerTooLarge, BreakerOpen, Busy, Call, CallFailed, Reply, Unreachable
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.reactors.reactor import Again
from bus.sender import Sender
from gateway.effects.outside import Cause, Outside


class Done(Struct, frozen=True):
    id: str


class Service:
    """One that answers as it is told, and notes how it is called."""

    def __init__(self, client: Client, answer: Reply | CallFailed) -> None:
        self._answer = answer
        self.calls: list[Call] = []
        path = CallPath("service", CallPolicy(retries=0), self._transport)
        self._outside = Outside(path, Sender(client, {}), "tests")

    async def ask(self) -> Done:
        cause = Cause("payments-7-0", "payments=7", "o-1", "00-trace")
        return await self._outside.ask("/charges", "charge-o-1", {"cents": 1}, Done, cause)

    async def _transport(self, call: Call, deadline: float) -> Reply:
        self.calls.append(call)
        if isinstance(self._answer, CallFailed):
            raise self._answer
        return self._answer


async def test_its_key_makes_a_call_repeatable(client: Client) -> None:
    service = Service(client, Reply(201, b'{"id":"ch_1"}'))
    assert await service.ask() == Done("ch_1")
    (call,) = service.calls
    assert (call.method, call.target, call.body, call.repeatable) == ("POST", "/charges", b'{"cents":1}', True)
    assert (call.headers["Idempotency-Key"], call.headers["traceparent"]) == ("charge-o-1", "00-trace")


@pytest.mark.parametrize(
    ("answer", "after_s"),
    [
        (Busy("service", 503, retry_after_s=7.0), 7.0),
        (BreakerOpen("service", "it has been failing", 20.0), 20.0),
        (Unreachable("service", "nobody is there"), 0.0),
        (Reply(408, b""), 0.0),
        (Reply(425, b""), 0.0),
    ],
)
async def test_what_passes_comes_again_when_it_may(client: Client, answer: Reply | CallFailed, after_s: float) -> None:
    with pytest.raises(Again) as again:
        await Service(client, answer).ask()
    assert again.value.after_s == after_s


@pytest.mark.parametrize("status", [402, 302, 501])
async def test_an_answer_that_nobody_expects_is_a_failure(client: Client, status: int) -> None:
    with pytest.raises(ValueError, match=f"answered {status}"):
        await Service(client, Reply(status, b'{"id":"ch_1"}')).ask()


async def test_an_answer_without_sense_or_end_is_a_failure(client: Client) -> None:
    with pytest.raises(msgspec.DecodeError):
        await Service(client, Reply(200, b"<html>")).ask()
    with pytest.raises(AnswerTooLarge):
        await Service(client, AnswerTooLarge("service", "too long")).ask()
