"""What Hypothesis draws here: any value that a type admits, and lists as long as they are wanted."""

from __future__ import annotations

from typing import TypeVar, cast

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect

Value = TypeVar("Value")

INT_MAX = 2**63 - 1
LENGTH_MAX = 3


def any_of(*kinds: type[Value]) -> SearchStrategy[Value]:
    """Whatever these types admit, read off the types: a new field or message is covered by being there."""
    return st.one_of([cast("SearchStrategy[Value]", _any(inspect.type_info(kind))) for kind in kinds])


def up_to(size_max: int, element: SearchStrategy[Value]) -> SearchStrategy[list[Value]]:
    """Lists of each length as likely as any other; left to itself, Hypothesis prefers about five elements."""
    return st.integers(0, size_max).flatmap(lambda size: st.lists(element, min_size=size, max_size=size))


def _any(kind: inspect.Type) -> SearchStrategy[object]:
    match kind:
        case inspect.IntType(ge=low, le=high, lt=below):
            highest = INT_MAX if below is None else below - 1
            return st.integers(-INT_MAX if low is None else low, highest if high is None else high)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.StrType(pattern=None):
            return st.text(min_size=kind.min_length or 0, max_size=kind.max_length)
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True)
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.VarTupleType(item_type=item):
            return st.lists(_any(item), max_size=LENGTH_MAX).map(tuple)
        case inspect.StructType(cls=cls):
            return st.builds(cls, **{field.name: _any(field.type) for field in kind.fields})
        case inspect.UnionType(types=types):
            return st.one_of([_any(each) for each in types])
        case _:
            raise NotImplementedError(f"no strategy for {kind}: add one above")
