"""The register of messages: what a type may become without a new version, and what it may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, Union

import msgspec
import pytest
from msgspec import Meta, Struct, defstruct

from bus.schemas import Message, breaks, register_of, written
from domains.kernel import Id, Upcaster
from tests.bus.counter import Added, counters


class Part(Struct, frozen=True):
    sku: str


class Larger(Struct, frozen=True):
    sku: str
    gift: bool = False


class Smaller(Struct, frozen=True): ...


class Demanding(Struct, frozen=True):
    sku: str
    gift: bool


class Here(Struct, frozen=True, tag=True): ...


class There(Struct, frozen=True, tag=True): ...


Fields = Sequence[str | tuple[str, Any] | tuple[str, Any, Any]]


def register(
    *fields: str | tuple[str, Any] | tuple[str, Any, Any], tag: str = "Happened"
) -> dict[str, dict[str, Message]]:
    """Of a domain with one event of these fields."""
    event = defstruct("Happened", fields, frozen=True, tag=tag)
    return {"shop": register_of(replace(counters(), commands=(), events=(event,)))}  # type: ignore[arg-type]  # Made here.


def trouble(was: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    return "; ".join(breaks(register(*was), register(*now)))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ((("a", int),), (("a", int),)),
        ((("a", int),), (("a", int), ("b", str, "x"))),
        ((("a", int),), (("a", int, 0),)),
        ((("a", int),), (("a", int | None),)),
        ((("a", int | None),), (("a", int | str | None),)),
        ((("a", Annotated[int, Meta(ge=1, le=5)]),), (("a", Annotated[int, Meta(ge=0, le=6)]),)),
        ((("a", Annotated[str, Meta(max_length=5)]),), (("a", str),)),
        ((("a", Id),), (("a", str),)),
        ((("a", Literal["x"]),), (("a", Literal["x", "y"]),)),
        ((("a", Here),), (("a", Union[Here, There]),)),  # noqa: UP007  # As its neighbours.
        ((("a", tuple[Part, ...]),), (("a", tuple[Larger, ...]),)),
        ((("a", tuple[int, ...]),), (("a", list[int]),)),
        ((("a", datetime),), (("a", datetime),)),
    ],
)
def test_a_type_may_take_more_than_it_did(was: tuple[Any, ...], now: tuple[Any, ...]) -> None:
    assert trouble(was, now) == ""


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ((("a", int),), (), "a is gone"),
        ((("a", int),), (("b", int),), "a is gone: give it a new version; shop: Happened: b is new and has no default"),
        ((("a", int),), (("a", int), ("b", str)), "b is new and has no default"),
        ((("a", int),), (("a", str),), "a is str and was int"),
        ((("a", int, 0),), (("a", int),), "a has no default any more"),
        ((("a", int, 0),), (("a", int, 1),), "a is 1 by default and was 0"),
        ((("a", int | None),), (("a", int),), "a is int and was null"),
        ((("a", float),), (("a", int | None),), "a does not take float as it did"),
        ((("a", int),), (("a", Annotated[int, Meta(le=5)]),), "a may be 5 at most, and was without a limit"),
        ((("a", Annotated[int, Meta(ge=1)]),), (("a", Annotated[int, Meta(ge=2)]),), "a may be 2 at least, and was 1"),
        ((("a", str),), (("a", Id),), "a has another pattern"),
        ((("a", Literal["x", "y"]),), (("a", Literal["x"]),), "a does not take y any more"),
        ((("a", Union[Here, There]),), (("a", There),), "a does not take Here any more"),  # noqa: UP007
        ((("a", tuple[Part, ...]),), (("a", tuple[Smaller, ...]),), "a[].sku is gone"),
        ((("a", tuple[Part, ...]),), (("a", tuple[Demanding, ...]),), "a[].gift is new and has no default"),
        ((("a", Part),), (("a", Here),), "a is message and was object"),
    ],
)
def test_a_type_may_not_take_less_without_a_new_version(was: tuple[Any, ...], now: tuple[Any, ...], told: str) -> None:
    assert told in trouble(was, now)
    assert trouble(was, now).startswith("shop: Happened: ")
    assert trouble(was, now).endswith("give it a new version")


def test_a_message_that_is_read_no_more_is_missed() -> None:
    (line,) = breaks(register(("a", int)), register(("a", int), tag="Happened.2"))
    assert line.startswith("shop: Happened is read by no type any more")
    assert list(breaks(register(("a", int)), {}))


def test_an_event_does_not_become_a_command() -> None:
    events = {"shop": register_of(counters())}
    commands = {"shop": {tag: Message("command", message.fields) for tag, message in events["shop"].items()}}
    assert "shop: Added was a event and is a command" in list(breaks(events, commands))


def test_a_register_holds_older_versions_and_commands_too() -> None:
    older = defstruct("AddedV1", [("counter_id", str)], frozen=True, tag="Added.1")
    found = register_of(replace(counters(), upcasters=(Upcaster(older, lambda _: Added("a", 1)),)))
    assert {tag: message.role for tag, message in found.items()} == {
        "Added.1": "event",
        "Added": "event",
        "Scribbled": "event",
        "Add": "command",
        "Transfer": "command",
        "Scribble": "command",
        "Break": "command",
    }


def test_what_is_written_is_read_back_with_a_line_a_field() -> None:
    registers = {"shop": register_of(counters()), "empty": {}}
    text = written(registers)
    assert msgspec.json.decode(text, type=dict[str, dict[str, Message]]) == registers
    assert '   "times": {"is":"int","default":1}\n' in text


def test_what_the_register_has_no_words_for_is_an_error() -> None:
    with pytest.raises(TypeError, match="no words for"):
        register(("a", dict[str, int]))
