"""More is asked than a provider can take: it answers twenty calls at once, a second each, and refuses the others by 529."""

from random import Random

import pytest

from tests.simulation.world import Watched, World, answers, calls_a_run, poisson

pytestmark = pytest.mark.anyio

SECOND = answers(1.0)
GOES_ON = {
    "failoverPolicy": {"allowCategories": ["provider_overloaded"], "actions": {}, "ejectAfter": 0},
    "priorityDemotePolicy": {"enabled": False},
}


LIMIT = {"rateLimitPolicy": {"concurrency": 20}}


def crowded():
    """A provider with room for twenty."""
    return Watched(SECOND, room=20)


def goodput(world, name, until):
    """The share of what it could have answered in that time."""
    return sum(at <= until for at in world[name].answered_at) / (20 * until)


async def test_a_local_limit_keeps_an_overloaded_provider_at_work():
    """Twice as much is asked as it can take: nothing is refused by it, and it is busy all the time."""
    world = World({"a": crowded()}, model={"queue": {"maxWaiting": 20}}, overrides=LIMIT)
    told = await world.serve(poisson(Random(5), per_second=40, until=40))
    assert goodput(world, "a", until=40) >= 0.95, f"{goodput(world, 'a', until=40):.3f}; {world.figures(told)}"
    assert len(world["a"].called_at) == len(world["a"].answered_at), world.figures(told)
    assert world["a"].busiest == 20, world.figures(told)


async def test_who_is_not_served_under_a_local_limit_is_told_so():
    """The queue is full, and when to try again; never a cooldown."""
    world = World({"a": crowded()}, model={"queue": {"maxWaiting": 20}}, overrides=LIMIT)
    told = await world.serve(poisson(Random(5), per_second=40, until=40))
    refused = [each for each in told if not each.answered]
    assert {each.ending for each in refused} == {"queue_full"}, world.figures(told)
    assert all(each.retry_after is not None for each in refused), world.figures(told)
    assert world.state.standings() == {}, world.figures(told)


async def test_an_overloaded_primary_is_relieved_by_its_backup():
    """It is left out, the backup answers everybody, and only the first and the probes cost a second call."""
    world = World({"a": crowded(), "b": SECOND})
    told = await world.serve(poisson(Random(5), per_second=40, until=90))
    assert all(each.answered for each in told), world.figures(told)
    assert calls_a_run(told) <= 1.01, world.figures(told)
    assert max(each.seconds for each in told) <= 2.6, world.figures(told)


@pytest.mark.parametrize("offered", [22, 60])
async def test_a_policy_that_cools_nobody_keeps_an_overloaded_provider_at_work(offered):
    """Where 529 has no action, four fifths of the capacity are used; a fifth of what is under way are retries at most."""
    world = World({"a": crowded()}, model={"runner_policy": "goes_on"}, runner_policies={"goes_on": GOES_ON})
    told = await world.serve(poisson(Random(5), per_second=offered, until=40))
    assert goodput(world, "a", until=40) >= 0.8, f"{goodput(world, 'a', until=40):.3f}; {world.figures(told)}"
    assert calls_a_run(told) <= 1.2, world.figures(told)
