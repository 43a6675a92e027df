"""Hedges against a provider whose answers have a long tail: what they cost, and what they are good for."""

from random import Random

import pytest

from standby.runner.testing import FaultScript
from tests.simulation.world import World, answers, calls_a_run, hangs, long_tailed, percentile, poisson

pytestmark = pytest.mark.anyio

LATE_FEW = {"hedge": {"afterPercentile": 95}}


def two(model, *, tail=0.8):
    """A primary with a long tail, and a steady backup; both take a second for half of their answers."""
    return World(
        {
            "a": answers(long_tailed(Random(3), median=1.0, sigma=tail, longest=60)),
            "b": answers(long_tailed(Random(4), median=1.0, sigma=0.3, longest=60)),
        },
        model=model,
    )


@pytest.mark.parametrize("tail", [0.5, 0.8, 1.2])
async def test_hedges_after_a_percentile_cost_little(tail):
    """After the 95th percentile about one call in twenty is made twice, whatever the tail: never more than 8 %."""
    world = two(LATE_FEW, tail=tail)
    told = await world.serve(poisson(Random(5), per_second=20, until=120))
    hedges = sum(each.hedges for each in told)
    assert 0.03 * len(told) <= hedges <= 0.08 * len(told), f"{hedges} hedges; {world.figures(told)}"
    assert calls_a_run(told) <= 1.08, world.figures(told)


async def test_hedges_cut_the_tail():
    """One run in a hundred takes more than 6.5 s without hedges, and less than 5.5 with them; one in 500, half as long."""
    waits = []
    for model in ({}, LATE_FEW):
        world = two(model)
        told = await world.serve(poisson(Random(5), per_second=20, until=150))
        assert all(each.answered for each in told), world.figures(told)
        waits.append([each.seconds for each in told])
    before, after = waits
    in_100 = percentile(before, 99), percentile(after, 99)
    in_500 = percentile(before, 99.8), percentile(after, 99.8)
    assert in_100[0] >= 6.5, in_100
    assert in_100[1] <= 5.5, in_100
    assert in_500[1] <= in_500[0] / 2, in_500


async def test_a_provider_that_becomes_slow_is_not_asked_twice_by_everybody():
    """All answers take ten seconds of a sudden: the share of hedges among the runs under way stays below a fifth."""
    slow = FaultScript((0, answers(1.0)), (60, answers(10.0)))
    world = World({"a": slow, "b": answers(10.0)}, model={"hedge": {"afterSeconds": 4}})
    told = await world.serve(poisson(Random(5), per_second=20, until=160))
    hedges = sum(each.hedges for each in told)
    assert hedges <= 0.08 * len(told), f"{hedges} hedges; {world.figures(told)}"
    assert world["b"].busiest <= 60, world.figures(told)


async def test_a_hedge_saves_those_who_were_under_way_when_the_primary_fell_silent():
    """They are answered by the backup after four seconds instead of a clock of two minutes, as far as the budget goes."""
    silent = FaultScript((0, answers(0.5)), (60, hangs()), (65, answers(0.5)))
    world = World({"a": silent, "b": answers(0.5)}, model={"hedge": {"afterSeconds": 4}})
    told = await world.serve(poisson(Random(5), per_second=2, until=120))
    assert all(each.answered for each in told), world.figures(told)
    assert percentile([each.seconds for each in told], 98) <= 4.6, world.figures(told)


async def test_hedges_hold_nothing_against_anybody():
    """Calls that were given up for a quicker answer leave no mark, and nothing is held when all is over."""
    world = two(LATE_FEW)
    await world.serve(poisson(Random(5), per_second=20, until=60))
    assert world.state.standings() == {}
    assert world.runner.held == {"runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}
