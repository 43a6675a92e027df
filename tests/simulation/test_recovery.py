"""Providers come back: how soon that is noticed, by how many calls, and who serves from then on."""

from math import inf

import pytest

from standby.runner.testing import FaultScript
from tests.simulation.world import OVERLOADED, SERVER_ERROR, World, answers, every, fails

pytestmark = pytest.mark.anyio

UP = answers(0.2)
DOWN = fails(SERVER_ERROR)
REFUSES = fails(OVERLOADED)


def down(since, until, how=DOWN):
    """A provider that is well, down from one second to another, and well again."""
    return FaultScript((0, UP), (since, how), (until, UP))


def probes_since(provider, at):
    """How many calls since then found it half open."""
    return sum(probed_at >= at for probed_at in provider.probed_at)


async def test_after_an_outage_of_all_somebody_is_probed_soon():
    """Whenever it ends it is seen within a minute: cooldowns do not grow where nobody is well. One probe for each."""
    world = World({name: down(60, 660) for name in "abc"})
    ends = {at: world.cooldowns_at(at) for at in range(61, 661)}
    told = await world.serve(every(0.2, until=760))
    longest = max(min(each.values()) - at for at, each in ends.items())
    assert longest <= 66, f"{longest:.1f} s"  # 60 s, and a tenth
    first = min(world[name].first_answer(660) for name in "abc")
    assert first - max(660, min(ends[660].values())) <= 0.2 + 0.2, f"{first:.3f} s; {world.figures(told)}"
    assert all(probes_since(world[name], 660) <= 1 for name in "abc"), world.figures(told)


async def test_after_an_outage_of_all_in_which_everybody_refused_the_first_probe_finds_who_is_well():
    """What an action leaves out is left out for as long as the policy says, twice as long each time in a row."""
    world = World({name: down(60, 660, REFUSES) for name in "abc"})
    cooldowns = world.cooldowns_at(660)
    told = await world.serve(every(0.5, until=1260))
    ends = max(660, min(cooldowns.values()))
    first = min(world[name].first_answer(660) for name in "abc")
    assert 66 < ends - 660 <= 528, f"{ends - 660:.1f} s"  # 60 s, doubled three times, and a tenth
    assert first - ends <= 0.5 + 0.2, f"{first - ends:.3f} s; {world.figures(told)}"


async def test_a_cooldown_that_grew_while_somebody_was_well_is_short_again_when_nobody_is():
    """The primary has been dead for an hour when the backup dies as well: it is asked about every minute from then on."""
    world = World({"a": FaultScript((0, DOWN), (5000, UP)), "b": down(3600, inf)})
    told = await world.serve(every(4, until=5200))
    assert len([at for at in world["a"].probed_at if 60 < at < 3600]) <= 5, world.figures(told)
    assert world["a"].first_answer(5000) <= 5071, world.figures(told)


async def test_who_comes_back_is_not_asked_by_all_who_waited():
    """Six hundred wait for the end of its cooldown: one call finds it well, eight follow, and never more than a third at once."""
    world = World({"a": down(5, 40, REFUSES)})
    told = await world.serve(every(0.05, until=100))
    back_at = world["a"].first_answer(40)
    waited = [each for each in told if each.at < back_at - 0.2 and each.answered and each.at + each.seconds >= back_at]
    assert 590 <= len(waited) <= 600, world.figures(told)
    assert max(each.at + each.seconds for each in waited) <= back_at + 2.5, world.figures(told)
    called = [at - back_at for at in world["a"].called_at]
    assert sum(-0.21 < at < -0.01 for at in called) == 1, world.figures(told)
    assert sum(-0.01 <= at < 0.19 for at in called) <= 8 + 5, world.figures(told)  # five come just then
    assert world["a"].busiest <= 215, world.figures(told)


async def test_after_the_recovery_every_run_is_answered():
    """Whoever comes after the first answer is served, at the pace of a provider that is well."""
    world = World({name: down(60, 660) for name in "abc"})
    told = await world.serve(every(0.5, until=1060))
    first = min(world[name].first_answer(660) for name in "abc")
    after = [each for each in told if each.at >= first]
    assert len(after) >= 200, world.figures(told)
    assert all(each.answered and each.seconds <= 0.201 for each in after), world.figures(after)


@pytest.mark.parametrize("name", ["a", "b", "c"])
async def test_one_of_three_comes_back(name):
    """Whichever it is, its next probe succeeds, no later than the cooldown that ran when it recovered; or it was never left out."""
    world = World({each: down(60, 460 if each == name else inf) for each in "abc"})
    cooldowns = world.cooldowns_at(460)
    told = await world.serve(every(0.5, until=860))
    ends, first = max(460, cooldowns[name]), world[name].first_answer(460)
    assert ends - 460 <= 264, f"{ends - 460:.1f} s"  # 60 s, doubled twice, and a tenth
    assert first - ends <= 0.5 + 0.25, f"{first - ends:.3f} s; {world.figures(told)}"
    assert probes_since(world[name], 460) <= 1, world.figures(told)
    assert all(each.answered for each in told if each.at >= first), world.figures(told)


async def test_a_primary_that_refused_is_back_when_its_cooldown_ends():
    """Ten minutes of 529, a backup that is well: the primary serves again after one probe, and nobody noticed."""
    world = World({"a": down(60, 660, REFUSES), "b": UP})
    cooldowns = world.cooldowns_at(660)
    told = await world.serve(every(0.5, until=1060))
    ends, first = cooldowns["a"], world["a"].first_answer(660)
    assert 0 < ends - 660 <= 528, f"{ends - 660:.1f} s"
    assert first - ends <= 0.5 + 0.2, f"{first - ends:.3f} s; {world.figures(told)}"
    assert {each.tries for each in told if each.at > first} == {("a",)}, world.figures(told)
    assert all(each.answered for each in told), world.figures(told)


@pytest.mark.parametrize("how", [DOWN, REFUSES], ids=["server-errors", "refusals"])
async def test_a_half_open_provider_is_never_called_twice_at_once(how):
    """Not while its answers take ten seconds, not in an outage that ends and comes again, though all wait for it."""
    slow = answers(10)
    comes_and_goes = FaultScript((0, UP), (30, how), (120, slow), (200, how), (400, slow), (600, how))
    world = World({"a": comes_and_goes, "b": comes_and_goes, "c": comes_and_goes})
    told = await world.serve(every(0.25, until=700))
    assert max(world[name].most_probes for name in "abc") == 1, world.figures(told)
    assert sum(probes_since(world[name], 0) for name in "abc") >= 5, world.figures(told)


async def test_a_slow_probe_holds_up_nobody():
    """The first answer takes a minute; meanwhile the others are answered by the backup as ever."""
    world = World({"a": FaultScript((0, REFUSES), (30, answers(60))), "b": UP})
    told = await world.serve(every(0.5, until=120))
    assert len(world["a"].probed_at) == 1, world.figures(told)
    assert sum(each.seconds > 1 for each in told) == 1, world.figures(told)
