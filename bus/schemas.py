"""What messages look like in writing, and whether what was written in one shape can be read in another.

A register names every version of every message of a domain by its tag. It only grows: logs hold events for ever, and
with them the commands that processes recorded; so a type may take more than it did, and never less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import NODEFAULT, UNSET, Struct, inspect

from domains.kernel import Domain, StateStored

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")


class Shape(Struct, frozen=True, omit_defaults=True, rename={"kind": "is"}):
    """What a value may be. `min` and `max` are of a number, or of a length; a field with a `default` may be missing."""

    kind: Literal["str", "int", "float", "bool", "null", "datetime", "enum", "array", "object", "message", "any"]
    min: int | None = None
    max: int | None = None
    pattern: str = ""
    values: tuple[str | int | bool | None, ...] = ()
    of: Shape | None = None
    """Each element of an array."""
    fields: dict[str, Shape] = {}
    """Of an object that is no message itself."""
    tags: tuple[str, ...] = ()
    """Any of these messages."""
    shapes: tuple[Shape, ...] = ()
    """Any of these."""
    default: Any = UNSET


class Message(Struct, frozen=True):
    role: Literal["event", "command"]
    fields: dict[str, Shape]


Register = Mapping[str, Mapping[str, Message]]
"""By domain and tag."""


def register_of(domain: Domain[State, Command, Event] | StateStored[State, Command, Event]) -> dict[str, Message]:
    """Every version of every message of a domain, as today's types have it."""
    older = tuple(upcaster.older for upcaster in domain.upcasters)
    found: dict[str, Message] = {}
    messages = [(kind, "event") for kind in (*older, *domain.events)] + [(kind, "command") for kind in domain.commands]
    for kind, role in messages:
        described = inspect.type_info(kind)
        assert isinstance(described, inspect.StructType)
        assert isinstance(described.tag, str), f"{kind.__name__} has no tag"
        found[described.tag] = Message("event" if role == "event" else "command", _fields(described))
    return found


def breaks(register: Register, today: Register) -> Iterator[str]:
    """What today's types cannot read of what the register describes, a line each."""
    for domain, messages in register.items():
        for tag, was in messages.items():
            now = today.get(domain, {}).get(tag)
            if now is None:
                yield f"{domain}: {tag} is read by no type any more: keep it as an older version, with its upcaster"
            elif now.role != was.role:
                yield f"{domain}: {tag} was a {was.role} and is a {now.role}"
            else:
                for trouble in _fields_break(was.fields, now.fields):
                    yield f"{domain}: {tag}: {trouble}: give it a new version"


def written(register: Register) -> str:
    """As JSON, a line a field."""
    domains: list[str] = []
    for domain, messages in register.items():
        entries: list[str] = []
        for tag, message in messages.items():
            fields = ",\n".join(f"   {_json(name)}: {_json(shape)}" for name, shape in message.fields.items())
            entries.append(f'  {_json(tag)}: {{"role": {_json(message.role)}, "fields": {{\n{fields}\n  }}}}')
        domains.append(f" {_json(domain)}: {{\n" + ",\n".join(entries) + "\n }")
    return "{\n" + ",\n".join(domains) + "\n}\n"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _fields(struct: inspect.StructType) -> dict[str, Shape]:
    if struct.array_like:
        raise TypeError(f"{struct.cls.__name__} is written as an array: its fields have no names")
    return {field.encode_name: _field(field) for field in struct.fields}


def _field(field: inspect.Field) -> Shape:
    shape = _shape(field.type)
    if field.default is not NODEFAULT:
        return msgspec.structs.replace(shape, default=_plain(field.default))
    if field.default_factory is not NODEFAULT:
        return msgspec.structs.replace(shape, default=_plain(field.default_factory()))
    return shape


def _plain(default: object) -> object:
    """As the register, read back, has it: a tuple comes back as a list."""
    return msgspec.json.decode(msgspec.json.encode(default))


def _shape(kind: inspect.Type) -> Shape:
    match kind:
        case inspect.IntType(gt=None, lt=None, multiple_of=None):
            return Shape("int", min=kind.ge, max=kind.le)
        case inspect.StrType():
            return Shape("str", min=kind.min_length, max=kind.max_length, pattern=kind.pattern or "")
        case inspect.FloatType(gt=None, lt=None, ge=None, le=None, multiple_of=None):
            return Shape("float")
        case inspect.BoolType():
            return Shape("bool")
        case inspect.NoneType():
            return Shape("null")
        case inspect.DateTimeType(tz=None):
            return Shape("datetime")
        case inspect.LiteralType():
            return Shape("enum", values=kind.values)
        case inspect.VarTupleType() | inspect.ListType():
            return Shape("array", min=kind.min_length, max=kind.max_length, of=_shape(kind.item_type))
        case inspect.StructType(tag=None):
            return Shape("object", fields=_fields(kind))
        case inspect.StructType(tag=str(tag)):
            return Shape("message", tags=(tag,))
        case inspect.UnionType():
            shapes = tuple(_shape(each) for each in kind.types)
            if all(shape.kind == "message" for shape in shapes):
                return Shape("message", tags=tuple(tag for shape in shapes for tag in shape.tags))
            return Shape("any", shapes=shapes)
        case _:
            raise TypeError(f"the register has no words for {kind}: add them here")


def _fields_break(was: Mapping[str, Shape], now: Mapping[str, Shape], path: str = "") -> Iterator[str]:
    for name, before in was.items():
        if name not in now:
            yield f"{path}{name} is gone"
            continue
        after = now[name]
        if before.default is not UNSET and after.default is UNSET:
            yield f"{path}{name} has no default any more"
        elif before.default is not UNSET and after.default != before.default:
            yield f"{path}{name} is {_json(after.default)} by default and was {_json(before.default)}"
        yield from _shape_breaks(before, after, path + name)
    for name, after in now.items():
        if name not in was and after.default is UNSET:
            yield f"{path}{name} is new and has no default"


def _shape_breaks(was: Shape, now: Shape, path: str) -> Iterator[str]:
    if was.kind == "any":
        for shape in was.shapes:
            yield from _shape_breaks(shape, now, path)
        return
    if now.kind == "any":
        if all(any(_shape_breaks(was, shape, path)) for shape in now.shapes):
            yield f"{path} does not take {was.kind} as it did"
        return
    if was.kind != now.kind:
        yield f"{path} is {now.kind} and was {was.kind}"
        return
    for end, before, after in (("least", was.min, now.min), ("most", was.max, now.max)):
        sign = 1 if end == "most" else -1
        if after is not None and (before is None or sign * after < sign * before):
            yield f"{path} may be {after} at {end}, and was {'without a limit' if before is None else before}"
    if now.pattern not in ("", was.pattern):
        yield f"{path} has another pattern"
    if gone := sorted(map(str, {*was.values, *was.tags} - {*now.values, *now.tags})):
        yield f"{path} does not take {', '.join(gone)} any more"
    if was.of is not None and now.of is not None:
        yield from _shape_breaks(was.of, now.of, f"{path}[]")
    yield from _fields_break(was.fields, now.fields, f"{path}.")
