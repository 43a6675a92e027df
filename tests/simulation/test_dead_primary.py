"""The primary is dead and stays so; the backup is well."""

import pytest

from standby.runner.testing import FaultScript
from tests.simulation.world import OVERLOADED, RESET, SERVER_ERROR, World, answers, calls_a_run, every, fails, hangs

pytestmark = pytest.mark.anyio

UP = answers(0.2)


@pytest.mark.parametrize("failure", [SERVER_ERROR, RESET, OVERLOADED], ids=["server-errors", "resets", "refusals"])
async def test_a_dead_primary_is_left_alone(failure):
    """A few calls are paid to learn it, and half a dozen in twenty minutes after that, however many runs come."""
    world = World({"a": FaultScript((0, UP), (10, fails(failure))), "b": UP})
    told = await world.serve(every(0.4, until=1210))
    failed_at = [at for at in world["a"].called_at if at >= 10]
    assert 1 <= sum(at < 11 for at in failed_at) <= 10, world.figures(told)
    assert sum(at >= 11 for at in failed_at) <= 6, world.figures(told)


async def test_a_primary_that_refuses_is_called_by_probes_alone():
    """After the first second every call of it is a probe, and each probe is one call."""
    world = World({"a": FaultScript((0, UP), (10, fails(OVERLOADED))), "b": UP})
    told = await world.serve(every(0.5, until=1210))
    assert [at for at in world["a"].called_at if at >= 11] == world["a"].probed_at, world.figures(told)
    assert world["a"].most_probes == 1, world.figures(told)


async def test_probes_of_a_dead_primary_come_at_growing_intervals():
    """Half an hour of 529 is asked about four times: after 1, 3, 7 and 15 minutes, and a tenth."""
    world = World({"a": fails(OVERLOADED), "b": UP})
    told = await world.serve(every(0.5, until=1800))
    bounds = [(60, 67), (180, 199), (420, 463), (900, 991)]
    probed_at = world["a"].probed_at
    assert len(probed_at) == 4, world.figures(told)
    assert all(low <= at <= high for at, (low, high) in zip(probed_at, bounds, strict=True)), probed_at


@pytest.mark.parametrize("failure", [SERVER_ERROR, RESET, OVERLOADED], ids=["server-errors", "resets", "refusals"])
async def test_every_run_is_answered_though_the_primary_is_dead(failure):
    """None is lost, none waits longer than a backoff, and all but the first few cost one call."""
    world = World({"a": fails(failure), "b": UP})
    told = await world.serve(every(0.1, until=200))
    assert all(each.answered for each in told), world.figures(told)
    assert max(each.seconds for each in told) <= 1, world.figures(told)
    assert calls_a_run(told) <= 1.01, world.figures(told)


async def test_a_primary_that_hangs_is_noticed_by_those_who_had_asked_it():
    """They wait for its clock of ten seconds, a few for a retry too, and so does a probe; the rest notice nothing."""
    world = World({"a": hangs(), "b": UP}, overrides={"timeouts": {"attemptSeconds": 10}})
    told = await world.serve(every(0.1, until=200))
    slow = [each for each in told if each.seconds > 0.25]
    assert all(each.answered for each in told), world.figures(told)
    assert len(slow) <= 110, world.figures(told)
    assert max(each.seconds for each in slow) <= 21, world.figures(told)


async def test_a_probe_that_fails_costs_its_run_one_call():
    """The run that probes in vain is answered by the next candidate, without a retry."""
    world = World({"a": fails(OVERLOADED), "b": UP})
    told = await world.serve(every(0.5, until=600))
    probing = [each for each in told if each.at > 30 and "a" in each.tries]
    assert [each.tries for each in probing] == [("a", "b")] * 3, world.figures(told)
    assert max(each.seconds for each in probing) <= 0.26, world.figures(told)
