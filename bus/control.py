"""Control: small requests from one process of this system to another, such as "rebuild this". JSON both ways."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

REQUEST_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


class Reply(Struct, frozen=True):
    """`code` is empty when it was done or begun; otherwise `detail` says why not."""

    code: str = ""
    detail: str = ""


Handler = Callable[[dict[str, str]], Awaitable[Reply]]


def control_subject(verb: str) -> str:
    return f"ctl.{verb}"


async def serve(client: Client, verb: str, handle: Handler) -> None:
    """Answer requests for a verb, one at a time."""

    async def arrived(message: Msg) -> None:
        try:
            reply = await handle(msgspec.json.decode(message.data, type=dict[str, str]))
        except msgspec.DecodeError as error:
            reply = Reply("malformed", str(error))
        if message.reply:
            await client.publish(message.reply, msgspec.json.encode(reply))

    await client.subscribe(control_subject(verb), queue="control", cb=arrived)


async def pong(_: dict[str, str]) -> Reply:
    """That somebody is there."""
    return Reply()


async def ask(client: Client, verb: str, **parameters: str) -> Reply:
    """Ask whoever serves the verb; the code is `nobody_there` or `no_answer` where that fails."""
    try:
        answer = await client.request(control_subject(verb), msgspec.json.encode(parameters), timeout=REQUEST_TIMEOUT_S)
        return msgspec.json.decode(answer.data, type=Reply)
    except nats.errors.NoRespondersError:
        return Reply("nobody_there", f"no process serves {verb}")
    except (nats.errors.Error, OSError, msgspec.DecodeError) as error:
        return Reply("no_answer", str(error) or type(error).__name__)
