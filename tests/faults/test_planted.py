"""A checker counts only if it catches what it is there for: defects are planted, and it must name each."""

from __future__ import annotations

import pytest

from tests.faults.load import Witness
from tests.faults.planted import BUGS, HONEST, Bug
from tests.faults.rehearsal import rehearse

SEEDS = range(6)
SEEDS_MAX = 60
"""A bug that shows itself in none of so many histories is one that the checker does not see."""


async def honest(seed: int) -> Witness:
    witness, found, left_unanswered = await rehearse(HONEST, seed)
    assert not found, f"seed {seed}: {[str(each) for each in found[:5]]}"
    assert not left_unanswered, f"seed {seed}"
    return witness


async def test_an_honest_engine_breaks_no_promise() -> None:
    for seed in SEEDS:
        witness = await honest(seed)
        assert witness.stored > 100
        assert witness.answers["Refused"] > 10


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
async def test_a_planted_bug_is_named(bug: Bug) -> None:
    named: set[str] = set()
    for seed in range(SEEDS_MAX):
        named |= {violation.invariant for violation in (await rehearse(bug, seed)).found}
        if named & set(bug.breaks):
            return
    pytest.fail(f"an engine that {bug.name} breaks {bug.breaks}, but the checker named {named or 'nothing'}")


@pytest.mark.long
async def test_an_honest_engine_breaks_no_promise_in_many_histories() -> None:
    for seed in range(400):
        await honest(seed)
