"""Classes of priority where twice as much is asked as the local limit lets through."""

from random import Random

import pytest

from tests.simulation.world import World, answers, percentile, poisson

pytestmark = pytest.mark.anyio

CLASSES = ("high", "normal", "low")


async def overloaded(seconds, per_second, *, until=100, high=0.2, low=0.2, **queue):
    """Runs of all classes against one provider that five may call at once; the rest are of normal priority."""
    chance = Random(9)
    weights = (high, 1 - high - low, low)
    world = World({"a": answers(seconds)}, model={"queue": queue}, overrides={"rateLimitPolicy": {"concurrency": 5}})
    told = await world.serve(
        poisson(Random(5), per_second, until), priority=lambda: chance.choices(CLASSES, weights)[0]
    )
    return world, {name: [each for each in told if each.priority == name] for name in CLASSES}


def served(told):
    """The waits of those who were answered."""
    return [each.queued_seconds for each in told if each.answered]


async def test_low_is_served_at_all():
    """Though there is enough of higher priority to fill every turn, of the low half as many are served as of others."""
    world, told = await overloaded(1.0, 10, maxWaiting=50)
    shares = {name: len(served(told[name])) / len(told[name]) for name in CLASSES}
    assert shares["low"] >= 0.25, f"{shares}; {world.figures(told['low'])}"


async def test_high_waits_less_than_normal_and_normal_less_than_low():
    """By the ten seconds that a class is worth, as far as the queue is that long."""
    world, told = await overloaded(1.0, 10, maxWaiting=50)
    high, normal, low = (percentile(served(told[name]), 50) for name in CLASSES)
    assert high <= 2, f"{high:.2f}, {normal:.2f}, {low:.2f}"
    assert high + 5 <= normal <= low - 5, f"{high:.2f}, {normal:.2f}, {low:.2f}"
    assert max(served(told["low"])) <= 30.001, world.figures(told["low"])


async def test_first_come_first_served_within_a_class():
    """Nobody overtakes anybody of the same priority."""
    world, told = await overloaded(1.0, 10, maxWaiting=50)
    for name in CLASSES:
        turns = [each.at + each.queued_seconds for each in told[name] if each.answered]
        assert len(turns) >= 40, world.figures(told[name])
        assert turns == sorted(turns), world.figures(told[name])
