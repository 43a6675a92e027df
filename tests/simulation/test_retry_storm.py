"""A provider that fails a part of its calls, with nobody else to go to: retries are paid for by answers."""

from random import Random

import pytest

from standby.runner.testing import Fail
from tests.simulation.world import (
    RESET,
    SERVER_ERROR,
    World,
    answered_share,
    answers,
    calls_a_run,
    fails_some,
    poisson,
)

pytestmark = pytest.mark.anyio

REFUSED = Fail("network", "connection refused", retryable=True, work="not_sent")


def three_in_ten(failure, share=0.3):
    """One provider alone that fails so many of its calls, each after a second."""
    return World({"a": fails_some(share, failure, 1.0, Random(7))})


@pytest.mark.parametrize("failure", [SERVER_ERROR, RESET, REFUSED], ids=["server-errors", "resets", "refused"])
async def test_three_calls_in_ten_fail(failure):
    """Two tries a run would make 1.3 calls of each; at most a fifth of what is under way are retries, so 1.2."""
    world = three_in_ten(failure)
    told = await world.serve(poisson(Random(5), per_second=20, until=120))
    assert 1.1 <= calls_a_run(told) <= 1.2, world.figures(told)
    assert 0.76 <= answered_share(told) <= 0.86, f"{answered_share(told):.4f}; {world.figures(told)}"


async def test_one_call_in_fifty_fails():
    """Hiccups are all paid for: every failure has its retry, and all but the few that fail twice are answered."""
    world = three_in_ten(SERVER_ERROR, share=0.02)
    told = await world.serve(poisson(Random(5), per_second=20, until=120))
    assert calls_a_run(told) <= 1.03, world.figures(told)
    assert answered_share(told) >= 0.998, f"{answered_share(told):.4f}; {world.figures(told)}"


async def test_seven_calls_in_ten_fail():
    """The worse it is, the fewer retries there are: answers pay for less than one in ten runs."""
    world = three_in_ten(SERVER_ERROR, share=0.7)
    told = await world.serve(poisson(Random(5), per_second=20, until=120))
    assert calls_a_run(told) <= 1.1, world.figures(told)
    assert 0.3 <= answered_share(told) <= 0.35, f"{answered_share(told):.4f}; {world.figures(told)}"


async def test_with_a_backup_nobody_notices():
    """The failing one is soon ranked behind the other: every run is answered, by 1.01 calls."""
    world = World({"a": fails_some(0.3, SERVER_ERROR, 1.0, Random(7)), "b": answers(1.0)})
    told = await world.serve(poisson(Random(5), per_second=20, until=120))
    assert answered_share(told) == 1, world.figures(told)
    assert calls_a_run(told) <= 1.01, world.figures(told)


async def test_two_that_fail_share_the_load_and_the_budget():
    """Three in ten of both: 1.25 calls a run, failovers included, and more than eight in ten are answered."""
    both = {name: fails_some(0.3, SERVER_ERROR, 1.0, Random(seed)) for seed, name in enumerate("ab")}
    world = World(both)
    told = await world.serve(poisson(Random(5), per_second=20, until=120))
    assert calls_a_run(told) <= 1.25, world.figures(told)
    assert answered_share(told) >= 0.8, f"{answered_share(told):.4f}; {world.figures(told)}"
