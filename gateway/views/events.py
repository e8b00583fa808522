"""Events as whoever asks from outside sees them: in today's version, under the name of their type.

Which version they were written in is the log's own affair.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


def shown(value: object) -> object:
    """An event, or any part of one, as what JSON is made of. `OrderPlaced.2` is called `OrderPlaced`. A field that is
    left out in writing where it says nothing is left out here, too."""
    if isinstance(value, Struct):
        names = value.__struct_fields__
        quiet = value.__struct_defaults__ if value.__struct_config__.omit_defaults else ()
        silent = dict(zip(names[len(names) - len(quiet) :], quiet, strict=True))
        present = {name: getattr(value, name) for name in names}
        fields = {name: shown(each) for name, each in present.items() if name not in silent or each != silent[name]}
        tagged = value.__struct_config__.tag is not None
        return {"type": type(value).__name__, **fields} if tagged else fields
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    return msgspec.to_builtins(value)
