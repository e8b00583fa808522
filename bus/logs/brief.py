"""Brief blocks: a log read for a few fields of its events only, in half the time.

Making an object of each commit, event and line, only to look at five fields, is most of the work of decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Generic, TypeVar, Union

import msgspec
from msgspec import Struct

from bus.logs.blocks import Block, BlockDecoder

Event = TypeVar("Event")


class BriefCommit(Struct, Generic[Event], frozen=True):
    """What is left of a `Commit`."""

    version: int
    events: list[Event]
    occurred_at: datetime | None = None


class BriefBlock(Struct, Generic[Event], frozen=True):
    epoch: str
    at: datetime
    prev: str
    commits: list[BriefCommit[Event]]


class BriefDecoder:
    """Decodes what `decoder` does, but events have just these `fields`, and none where they are not named.

    They are of types of their own; `kinds` says which event each stands for. A block that holds older versions is
    decoded whole.
    """

    __slots__ = ("_brief", "_whole", "kinds")

    def __init__(self, decoder: BlockDecoder[object], fields: Mapping[type, Collection[str]]) -> None:
        self.kinds: Mapping[type, type] = {_brief(kind, fields.get(kind, ())): kind for kind in decoder.events}
        events = tuple(self.kinds)
        self._brief: Callable[[bytes], BriefBlock[object]] = msgspec.json.Decoder(
            BriefBlock[Union[events]]  # type: ignore[valid-type]  # noqa: UP007  # Made at run time.
        ).decode
        self._whole = decoder.decode

    def decode(self, data: bytes) -> Block[object] | BriefBlock[object]:
        try:
            return self._brief(data)
        except msgspec.ValidationError:  # Raised again where it is not for its versions.
            return self._whole(data)


def _brief(kind: type[Struct], fields: Collection[str]) -> type[Struct]:
    config = kind.__struct_config__
    wanted = [(field.name, field.type) for field in msgspec.structs.fields(kind) if field.name in fields]
    return msgspec.defstruct(kind.__name__, wanted, tag=config.tag, tag_field=config.tag_field, frozen=True)
