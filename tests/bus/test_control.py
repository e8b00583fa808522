"""Control: one process asks, another answers, and whoever asks always gets a reply."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus import control
from bus.control import Reply
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import BrokerUnreachable, connect, without_secrets


async def test_a_request_is_answered_by_who_serves_its_verb(client: Client, unique: str) -> None:
    async def handle(parameters: dict[str, str]) -> Reply:
        return Reply("done", parameters["name"])

    await control.serve(client, unique, handle)
    assert await control.ask(client, unique, name="order_summary") == Reply("done", "order_summary")


async def test_a_verb_that_nobody_serves_is_told_at_once(client: Client, unique: str) -> None:
    assert await control.ask(client, unique) == Reply("nobody_there", f"no process serves {unique}")


async def test_parameters_that_make_no_sense_are_told_so(client: Client, unique: str) -> None:
    async def handle(parameters: dict[str, str]) -> Reply:
        raise AssertionError("not to be called")

    await control.serve(client, unique, handle)
    answer = await client.request(f"ctl.{unique}", b'{"name":7}')
    assert b'"code":"malformed"' in answer.data


async def test_who_serves_and_does_not_answer_is_not_waited_for_for_ever(
    client: Client, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(parameters: dict[str, str]) -> Reply:
        raise ValueError("a defect")

    monkeypatch.setattr("bus.control.REQUEST_TIMEOUT_S", 0.05)
    await control.serve(client, unique, handle)
    assert (await control.ask(client, unique)).code == "no_answer"


async def test_a_reply_that_makes_no_sense_is_no_answer(client: Client, unique: str) -> None:
    async def arrived(message: Msg) -> None:
        await message.respond(b"nonsense")

    await client.subscribe(f"ctl.{unique}", cb=arrived)
    assert (await control.ask(client, unique)).code == "no_answer"


async def test_a_broker_that_is_not_there_is_told_without_its_password(own_broker: EmbeddedBroker) -> None:
    own_broker.kill()
    with pytest.raises(BrokerUnreachable) as caught:
        await connect(own_broker.url, "test", timeout_s=0.3)
    assert own_broker.settings.password not in str(caught.value)
    assert without_secrets(own_broker.url) == f"nats://127.0.0.1:{own_broker.settings.port}"
