"""Balancing: by latency and by what is under way, never to one that fails fast, and back to one that is well again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from bus.calls.balancing import FORGET_S, Balancer
from bus.calls.call import Busy, Call, CallFailed, NoAnswer, Reply, Step, Unreachable
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from tests.bus.calls.staged import ASK, BEGINNING, DONE, StagedTime
from tests.bus.waiting import turns

LATER = BEGINNING + 1e6


class Staged:
    """Instances with names; each takes as long as it is told to, or fails."""

    def __init__(self, **takes: float | CallFailed) -> None:
        self.staged = StagedTime()
        self.takes: dict[str, float | CallFailed] = dict(takes)
        self.got: Counter[str] = Counter()
        self.steps = {name: self._step(name) for name in takes}
        self.balancer = Balancer("d", self.steps, self.staged.time, random.Random(1).random)

    def _step(self, name: str) -> Step:
        async def step(call: Call, deadline: float) -> Reply:
            self.got[name] += 1
            takes = self.takes[name]
            if isinstance(takes, CallFailed):
                raise takes
            await self.staged.time.sleep(takes)
            return DONE

        return step

    async def calls(self, number: int) -> Counter[str]:
        """So many, one after the other; how many each instance got."""
        self.got.clear()
        for _ in range(number):
            try:
                assert await self.staged.run(self.balancer(ASK, LATER)) is DONE
            except CallFailed:
                continue
        return Counter(self.got)


async def test_equal_instances_get_about_as_much_each() -> None:
    got = await Staged(a=0.1, b=0.1, c=0.1).calls(300)
    assert all(got[name] > 40 for name in "abc"), got


async def test_a_slow_instance_gets_next_to_nothing() -> None:
    got = await Staged(a=0.02, b=0.02, slow=0.4).calls(300)
    assert 1 <= got["slow"] <= 3
    assert min(got["a"], got["b"]) > 60


async def test_one_that_is_well_again_is_found_out() -> None:
    one = Staged(a=0.02, b=0.02, slow=0.4)
    await one.calls(50)
    one.takes["slow"] = 0.001
    one.staged.now += 4 * FORGET_S
    got = await one.calls(300)
    assert got["slow"] > 100


async def test_a_hiccup_is_forgotten_after_some_twenty_answers_however_soon_they_come() -> None:
    one = Staged(a=1.0, b=0.02)
    await one.calls(2)
    a = one.balancer._known["a"]
    for _ in range(25):
        a.saw(one.staged.now, 0.0001)
    assert a.expected_s(one.staged.now) < 0.05


async def test_one_that_fails_at_once_is_not_taken_for_a_quick_one() -> None:
    got = await Staged(a=0.1, b=0.1, broken=Busy("d", 503)).calls(200)
    assert got["broken"] <= 3


async def test_a_call_that_was_cut_short_counts_as_slow() -> None:
    one = Staged(a=0.1, hangs=60.0)
    policy = CallPolicy(timeout_s=1.0, try_timeout_s=1.0, retries=0)
    path = CallPath("d", policy, one.balancer, one.staged.time)
    for _ in range(20):
        try:
            await one.staged.run(path.call(ASK))
        except CallFailed:
            continue
    assert one.got["hangs"] <= 2
    assert one.got["a"] >= 18


async def test_a_retry_goes_elsewhere() -> None:
    for _ in range(5):
        one = Staged(a=0.1, broken=NoAnswer("d", ""))
        path = CallPath("d", CallPolicy(backoff_s=0), one.balancer, one.staged.time)
        assert await one.staged.run(path.call(ASK)) is DONE


async def test_what_is_under_way_counts() -> None:
    one = Staged(a=1.0, b=1.0)
    await one.calls(10)
    one.got.clear()
    waiting = [asyncio.ensure_future(one.balancer(ASK, LATER)) for _ in range(20)]
    await turns()
    assert 8 <= one.got["a"] <= 12, one.got
    for _ in range(20):
        one.staged.leap()
    await asyncio.gather(*waiting)


async def test_a_new_instance_gets_one_call_until_it_has_answered_one() -> None:
    one = Staged(a=0.01, b=0.01)
    await one.calls(10)
    one.takes["new"] = 60.0
    one.balancer.know({**one.steps, "new": one._step("new")})
    one.got.clear()
    waiting = [asyncio.ensure_future(one.balancer(ASK, LATER)) for _ in range(20)]
    await turns()
    assert one.got["new"] == 1
    for _ in range(20):
        one.staged.leap()
    await asyncio.gather(*waiting)


async def test_instances_come_and_go_and_what_was_seen_of_the_others_stays() -> None:
    one = Staged(a=0.02, slow=0.4)
    await one.calls(20)
    one.balancer.know({"slow": one.steps["slow"]})
    assert await one.calls(3) == {"slow": 3}
    one.balancer.know(one.steps)
    await one.calls(1)
    one.balancer.know({**one.steps, "b": one.steps["a"]})
    assert (await one.calls(20))["slow"] == 0
    one.balancer.know({})
    with pytest.raises(Unreachable, match="no instance"):
        await one.balancer(ASK, LATER)


# -- two versions side by side ---------------------------------------------------------------------------------------

VERSIONS = {"a": "1", "b": "1", "canary": "2"}


def versioned(split: dict[str, float]) -> Staged:
    one = Staged(a=0.1, b=0.1, canary=0.001)
    one.balancer.know(one.steps, VERSIONS)
    one.balancer.split = split
    return one


@pytest.mark.parametrize(("split", "least", "most"), [({"1": 90, "2": 10}, 20, 80), ({"1": 1, "2": 3}, 320, 430)])
async def test_a_version_gets_its_share_however_quick_it_is(split: dict[str, float], least: int, most: int) -> None:
    got = await versioned(split).calls(500)
    assert least < got["canary"] < most, got
    assert min(got["a"], got["b"]) > (500 - got["canary"]) / 4, "within a version the better of two is chosen"


async def test_without_a_split_versions_do_not_matter() -> None:
    got = await versioned({}).calls(300)
    assert got["canary"] > 150, got


async def test_a_version_without_a_weight_gets_nothing_as_long_as_another_is_there() -> None:
    one = versioned({"1": 1})
    assert (await one.calls(100))["canary"] == 0
    one.balancer.know({"canary": one.steps["canary"]}, VERSIONS)
    assert await one.calls(10) == {"canary": 10}
    one.balancer.know(one.steps, VERSIONS)
    assert (await one.calls(100))["canary"] == 0


async def test_the_share_of_a_version_that_is_gone_goes_to_the_others() -> None:
    one = versioned({"1": 90, "2": 10})
    one.balancer.know({"canary": one.steps["canary"]}, VERSIONS)
    assert await one.calls(10) == {"canary": 10}


async def test_a_policy_splits_and_splits_anew_when_it_changes() -> None:
    one = versioned({})
    path = CallPath("d", CallPolicy(split={"1": 1, "2": 0}), one.balancer, one.staged.time)
    for _ in range(50):
        await one.staged.run(path.call(ASK))
    assert one.got["canary"] == 0
    path.policy = CallPolicy(split={"2": 1})
    one.got.clear()
    for _ in range(50):
        await one.staged.run(path.call(ASK))
    assert one.got == {"canary": 50}
