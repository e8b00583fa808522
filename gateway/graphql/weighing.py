"""How much a query may ask for: how deep it goes, and how much it may cost at worst. Known before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationRule,
)

DEPTH_MAX = 8
COST_MAX = 5_000
FIRST_MAX = 50
LINES = 10
"""How many lines an order is taken to have: some have more, most have few."""
LISTS = {"orders": FIRST_MAX, "lines": LINES}
"""Fields that give a list, and how long it may be where the query does not say."""


class Weight(NamedTuple):
    depth: int
    cost: int


NOTHING = Weight(0, 0)


class Bounded(ValidationRule):
    """A field costs one, and all below it as often as there may be of it."""

    def enter_document(self, node: DocumentNode, *_: Any) -> None:
        fragments = {each.name.value: each for each in node.definitions if isinstance(each, FragmentDefinitionNode)}
        weighed: dict[str, Weight] = {}
        total = NOTHING
        for definition in node.definitions:
            if isinstance(definition, OperationDefinitionNode):
                total = _both(total, _of(definition.selection_set, fragments, weighed))
        if total.depth > DEPTH_MAX:
            self.report_error(GraphQLError(f"the query is {total.depth} fields deep, and may be {DEPTH_MAX}"))
        if total.cost > COST_MAX:
            self.report_error(GraphQLError(f"the query may cost {total.cost}, and at most {COST_MAX}: ask for less"))


def _of(
    selected: SelectionSetNode | None, fragments: Mapping[str, FragmentDefinitionNode], weighed: dict[str, Weight]
) -> Weight:
    total = NOTHING
    for each in selected.selections if selected else ():
        match each:
            case FieldNode():
                below = _of(each.selection_set, fragments, weighed)
                total = _both(total, Weight(1 + below.depth, 1 + _many(each) * below.cost))
            case InlineFragmentNode():
                total = _both(total, _of(each.selection_set, fragments, weighed))
            case FragmentSpreadNode():
                total = _both(total, _of_fragment(each.name.value, fragments, weighed))
    return total


def _of_fragment(name: str, fragments: Mapping[str, FragmentDefinitionNode], weighed: dict[str, Weight]) -> Weight:
    """Each is weighed once. One that leads back to itself is refused by another rule, and weighs nothing here."""
    if name not in weighed and name in fragments:
        weighed[name] = NOTHING
        weighed[name] = _of(fragments[name].selection_set, fragments, weighed)
    return weighed.get(name, NOTHING)


def _both(one: Weight, other: Weight) -> Weight:
    return Weight(max(one.depth, other.depth), one.cost + other.cost)


def _many(field: FieldNode) -> int:
    most = LISTS.get(field.name.value, 1)
    first = next((each.value for each in field.arguments or () if each.name.value == "first"), None)
    return min(most, int(first.value)) if isinstance(first, IntValueNode) else most
