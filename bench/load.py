"""What is appended: commands as a gateway sends them, and the commits that an engine makes of them.

Ids are as random as real ones, and ascend as those do that the gateway makes, and no two commands are alike: so the
broker's compression and the read models' pages meet what they will meet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Generic, NamedTuple, TypeVar

from msgspec import Raw, Struct

from bus.commands import Envelope, digest_of, encode
from bus.logs.blocks import Commit
from domains.inventory.messages import ReceiveStock
from domains.orders.messages import OrderLine, PlaceOrder
from domains.orders.order import orders

Command = TypeVar("Command", bound=Struct)

DEADLINE_S = 3_600.0
ACTOR = "customer:customer-1"


def new_tag() -> str:
    """What all aggregates of a round begin with, so that they can be counted in the log afterwards."""
    return token_hex(4)


def place_order(tag: str, order_id: str = "") -> PlaceOrder:
    line = OrderLine("sku-1", "A product", "a-category", 1, 1_250)
    return PlaceOrder(order_id or f"{tag}{time.time_ns():016x}{token_hex(8)}", "customer-1", "EUR", (line,))


def receive_stock(sku: str, tag: str) -> ReceiveStock:
    return ReceiveStock(sku, f"{tag}{token_hex(8)}", 1)


def envelope(command: Struct, correlation: str) -> Envelope:
    """A command on its way, with all that the gateway puts around it."""
    encoded = encode(command)
    return Envelope(
        token_hex(16),
        time.time() + DEADLINE_S,
        Raw(encoded),
        digest=digest_of(encoded),
        actor=ACTOR,
        correlation=correlation,
        trace=f"00-{token_hex(16)}-{token_hex(8)}-01",
    )


class Sent(NamedTuple, Generic[Command]):
    """A frame, and its commands as they are: in its own process an engine takes both."""

    frame: tuple[Envelope, ...]
    commands: tuple[Command, ...]


def sent(command: Command, correlation: str) -> Sent[Command]:
    return Sent((envelope(command, correlation),), (command,))


def together(frames: Sequence[Sent[Command]]) -> Sent[Command]:
    """Several frames as one."""
    return Sent(
        tuple(each for sent in frames for each in sent.frame), tuple(each for sent in frames for each in sent.commands)
    )


def sent_order(tag: str) -> Sent[PlaceOrder]:
    command = place_order(tag)
    return sent(command, command.order_id)


def order_commit(tag: str) -> tuple[str, bytes]:
    """An order's id, and what an engine writes when it is placed."""
    command = place_order(tag)
    return command.order_id, commit_of(command, envelope(command, command.order_id))


def commit_of(command: PlaceOrder, sent: Envelope) -> bytes:
    name = command.order_id
    events = orders.decide({name: orders.initial(name)}, command)
    return encode(
        Commit(sent.id, name, 1, events, sent.digest, actor=sent.actor, correlation=sent.correlation, trace=sent.trace)
    )
