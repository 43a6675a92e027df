"""Everybody is down for ten minutes, and callers keep coming."""

import pytest

from standby.runner.testing import Fail, FaultScript
from tests.simulation.world import OVERLOADED, RESET, SERVER_ERROR, World, answers, calls_a_run, every, fails, hangs

pytestmark = pytest.mark.anyio

WRONG_KEY = Fail("auth_failed", "wrong key", status=401, scope="credential", work="rejected")
TEN_SECONDS = {"timeouts": {"attemptSeconds": 10}}


async def test_an_outage_is_not_multiplied():
    """Twenty runs a second against three dead providers: below 1.3 calls a run, and a run that calls, calls one."""
    world = World({"a": fails(SERVER_ERROR), "b": fails(SERVER_ERROR), "c": fails(SERVER_ERROR)})
    told = await world.serve(every(0.05, until=600))
    assert len(told) == 12_000
    assert calls_a_run(told) <= 1.3, world.figures(told)
    assert calls_a_run([each for each in told if each.tries]) <= 1.1, world.figures(told)


async def test_runs_fail_fast_in_an_outage():
    """Nobody waits longer than `maxWaitSeconds`, 30 s, and the one call that may follow; and every failure says why."""
    world = World({"a": fails(SERVER_ERROR), "b": fails(SERVER_ERROR), "c": fails(SERVER_ERROR)})
    told = await world.serve(every(0.4, until=600))
    assert {each.ending for each in told} <= {"exhausted", "unavailable"}, world.figures(told)
    assert max(each.seconds for each in told) <= 31, world.figures(told)


async def test_runs_that_were_not_tried_are_told_when_to_return():
    """Where all are left out, for their keys here, the failure says when the first of them may be back."""
    world = World({"a": fails(WRONG_KEY), "b": fails(WRONG_KEY), "c": fails(WRONG_KEY)})
    told = await world.serve(every(0.5, until=600))
    untried = [each for each in told if not each.tries]
    assert len(untried) > 1000, world.figures(told)
    assert sum(len(each.tries) for each in told) <= 40, world.figures(told)
    assert all(each.retry_after and 0 < each.retry_after < 3600 for each in untried), world.figures(told)


@pytest.mark.parametrize(
    "dead",
    [
        {"a": fails(RESET), "b": fails(RESET), "c": fails(RESET)},
        {"a": fails(OVERLOADED), "b": fails(OVERLOADED), "c": fails(OVERLOADED)},
        {"a": hangs(), "b": hangs(), "c": hangs()},
        {"a": fails(SERVER_ERROR), "b": fails(RESET), "c": hangs()},
        {"a": hangs(), "b": fails(OVERLOADED), "c": fails(SERVER_ERROR)},
    ],
    ids=["resets", "overloaded", "hangs", "one-of-each", "the-first-hangs"],
)
async def test_however_they_are_down(dead):
    """Resets, refusals and silence: below 1.3 calls a run, ten retries of each provider, no run beyond its 60 s."""
    world = World(dead, overrides=TEN_SECONDS, model={"timeouts": {"totalSeconds": 60}})
    told = await world.serve(every(0.4, until=600))
    assert calls_a_run(told) <= 1.3, world.figures(told)
    assert sum(each.retries for each in told) <= 30, world.figures(told)
    assert max(each.seconds for each in told) <= 60.001, world.figures(told)
    assert not any(each.answered for each in told), world.figures(told)


async def test_silence_under_the_default_clocks():
    """Who hangs is known for it after two minutes; whoever came meanwhile asks all three, and still it is below 1.3."""
    world = World({"a": hangs(), "b": hangs(), "c": hangs()})
    told = await world.serve(every(1, until=600))
    assert calls_a_run(told) <= 1.3, world.figures(told)
    assert max(each.seconds for each in told) <= 600.001, world.figures(told)


async def test_one_provider_alone_is_called_once_a_run():
    """Nobody is left to fail over to: each run is answered at once by the failure, and 100 tokens pay for 7 retries."""
    world = World({"a": fails(SERVER_ERROR)})
    told = await world.serve(every(0.4, until=600))
    assert sum(each.retries for each in told) == 7, world.figures(told)
    assert len(world["a"].called_at) == 1507, world.figures(told)
    assert max(each.seconds for each in told) <= 1, world.figures(told)


@pytest.mark.parametrize("names", ["a", "abc"])
async def test_ranks_stay_readable(names):
    """An hour of it, and nobody is demoted by more than six steps, in the order as configured; then that wears off."""
    world = World({name: FaultScript((0, fails(SERVER_ERROR)), (3600, answers(0.2))) for name in names})
    told = await world.serve(every(1, until=3600))
    ranks = [status.effective_priority for status in world.runner.statuses()]
    assert all(200 <= rank <= 700 for rank in ranks), ranks
    told += await world.serve(every(10, until=3700))
    assert [status.effective_priority for status in world.runner.statuses()] == [100, 101, 102][: len(names)]
    assert all(each.answered for each in told[-300:]), world.figures(told)


async def test_what_is_held_is_given_back_after_an_outage():
    """No run, retry, lease or probe is left over."""
    world = World({"a": fails(SERVER_ERROR), "b": hangs(), "c": fails(OVERLOADED)}, overrides=TEN_SECONDS)
    await world.serve(every(0.5, until=120))
    assert world.runner.held == {"runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}


async def test_an_outage_that_comes_and_goes():
    """Half a minute down, half a minute up: calls stay below 1.1 a run."""
    phases = [
        (60.0 * minute + half, each)
        for minute in range(10)
        for half, each in ((0, fails(SERVER_ERROR)), (30, answers(0.2)))
    ]
    world = World({name: FaultScript(*phases) for name in "abc"})
    told = await world.serve(every(0.4, until=600))
    assert calls_a_run(told) <= 1.1, world.figures(told)
