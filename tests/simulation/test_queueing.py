"""Twice as much is asked as the local limit lets through: five calls at once, a second each."""

from itertools import pairwise
from random import Random

import pytest

from tests.simulation.world import World, answers, poisson

pytestmark = pytest.mark.anyio


async def offered(per_second, *, seconds=1.0, until=60, **queue):
    """So many runs a second against one provider that five may call at once."""
    world = World({"a": answers(seconds)}, model={"queue": queue}, overrides={"rateLimitPolicy": {"concurrency": 5}})
    return world, await world.serve(poisson(Random(5), per_second, until))


def served_at(told):
    """When those who were answered had their turn, in the order in which they came."""
    return [each.at + each.queued_seconds for each in told if each.answered]


async def test_waits_are_bounded():
    """Nobody waits longer than `maxWaitSeconds`, served or not."""
    world, told = await offered(10, maxWaiting=200, maxWaitSeconds=8)
    assert max(each.queued_seconds for each in told) <= 8.001, world.figures(told)
    assert {each.ending for each in told} == {"answered", "queue_timeout"}, world.figures(told)


async def test_who_comes_first_is_served_first():
    """Of those who are served nobody overtakes anybody."""
    world, told = await offered(10, maxWaitSeconds=30)
    turns = served_at(told)
    assert len(turns) >= 300, world.figures(told)
    assert all(earlier <= later + 1e-6 for earlier, later in pairwise(turns)), world.figures(told)


async def test_nobody_starves():
    """Whoever finds a place in the queue is served, where fifty places are less than `maxWaitSeconds` long."""
    world, told = await offered(10, maxWaiting=50, maxWaitSeconds=30)
    assert {each.ending for each in told} == {"answered", "queue_full"}, world.figures(told)
    assert max(each.queued_seconds for each in told) <= 11, world.figures(told)


async def test_the_capacity_is_used():
    """There is always somebody at work while somebody waits: five a second are answered, and never six at once."""
    world, told = await offered(10)
    assert sum(at <= 60 for at in world["a"].answered_at) >= 290, world.figures(told)
    assert world["a"].busiest == 5, world.figures(told)


async def test_the_excess_is_refused_at_once():
    """Who finds the queue full waits for nothing, costs no call, and is told when to try again."""
    world, told = await offered(10, maxWaiting=25)
    refused = [each for each in told if not each.answered]
    assert len(refused) >= 200, world.figures(told)
    assert {(each.ending, each.tries) for each in refused} == {("queue_full", ())}, world.figures(told)
    assert max(each.seconds for each in refused) == 0, world.figures(told)
    assert all(each.retry_after is not None and each.retry_after > 0 for each in refused), world.figures(told)


async def test_who_waited_in_vain_is_told_when_to_try_again():
    """A wait that runs out is no failure of the provider."""
    world, told = await offered(10, maxWaiting=100, maxWaitSeconds=2)
    in_vain = [each for each in told if each.ending == "queue_timeout"]
    assert len(in_vain) >= 150, world.figures(told)
    assert all(each.retry_after is not None and not each.tries for each in in_vain), world.figures(told)
    assert world.state.standings() == {}, world.figures(told)


async def test_a_limit_that_suffices_delays_nearly_nobody():
    """Two or three a second come, five can be served: half of them wait for nothing, nobody longer than a second and a half."""
    world, told = await offered(2.5)
    waited = [each.queued_seconds for each in told]
    assert all(each.answered for each in told), world.figures(told)
    assert sum(wait == 0 for wait in waited) >= len(told) / 2, world.figures(told)
    assert max(waited) <= 1.5, world.figures(told)


async def test_the_queue_is_empty_afterwards():
    """Nobody waits, and no lease is out."""
    world, _ = await offered(10, maxWaitSeconds=2)
    assert world.runner.held == {"runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}
