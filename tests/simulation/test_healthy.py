"""Who answers is never left out, however long some of the answers take."""

from random import Random

import pytest

from tests.simulation.world import World, answers, long_tailed, poisson

pytestmark = pytest.mark.anyio


async def test_a_hundred_thousand_runs_against_slow_providers():
    """One in a hundred answers takes seven times as long as most, some a minute: no refusal, retry or cooldown."""
    slow = {
        name: answers(long_tailed(Random(seed), median=1.0, sigma=0.8, longest=100)) for seed, name in enumerate("ab")
    }
    world = World(slow, same_priority=True)
    told = await world.serve(poisson(Random(3), per_second=40, until=2520))
    assert len(told) >= 100_000, world.figures(told)
    assert all(each.answered for each in told), world.figures(told)
    assert all(len(each.tries) == 1 for each in told), world.figures(told)
    assert world.state.standings() == {}, world.figures(told)
    assert world.state.generation == 0, world.figures(told)  # nothing was ever held against anybody
    assert min(len(world[name].called_at) for name in "ab") > 49_000, world.figures(told)


async def test_answers_that_take_almost_all_of_the_clock():
    """Every answer comes a second before the attempt's clock: nobody is given up, and nobody is called twice."""
    world = World({"a": answers(119), "b": answers(119)})
    told = await world.serve(poisson(Random(3), per_second=5, until=300))
    assert {each.tries for each in told} == {("a",)}, world.figures(told)
    assert all(each.answered for each in told), world.figures(told)
    assert world.state.standings() == {}, world.figures(told)
