"""Demotion: once per incident, wearing off, and what it does to the order."""

import anyio
import pytest

from standby.runner.testing import Fail, Slow
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
DEMOTE = {
    "priorityDemotePolicy": {"enabled": True, "categories": ["provider_5xx"], "demoteStep": 10, "restoreSeconds": 60}
}


async def test_a_demoted_candidate_is_tried_after_who_is_now_better():
    """The step is added to its priority, and the next run is ordered by that."""
    gate = gateway({"a": [DOWN, None], "b": []}, policy=DEMOTE)
    await gate.ask()
    assert (await gate.ask()).record.tries[0].candidate == "b"
    assert gate.calls() == {"a": 1, "b": 2}


async def test_a_small_step_does_not_change_the_order():
    """Rank is priority plus demotion, and nothing else."""
    gate = gateway({"a": [DOWN, None], "b": []}, policy=DEMOTE, candidates={"b": {"priority": 111}})
    await gate.ask()
    assert (await gate.ask()).candidate == "a"


async def test_a_demotion_is_added_once_per_incident():
    """A thousand calls that were under way when it happened add nothing."""
    gate = gateway({"a": [Slow(1, DOWN)], "b": []}, policy=DEMOTE | {"failoverPolicy": {"ejectAfter": 0}})
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(gate.ask)
    assert gate.state.standing("candidate:chat/a").demoted == 10


async def test_a_later_failure_demotes_again():
    """It began after the last demotion: a new incident."""
    gate = gateway({"a": [DOWN], "b": []}, policy=DEMOTE, candidates={"b": {"priority": 1000}})
    for _ in range(3):
        await gate.ask()
        await anyio.sleep(1)
    assert gate.state.standing("candidate:chat/a").demoted == 30


async def test_a_demotion_wears_off_a_step_at_a_time():
    """Two steps are gone after two times `restoreSeconds`, and the order is as it was."""
    gate = gateway(
        {"a": [DOWN, DOWN, None], "b": []}, policy=DEMOTE, candidates={"b": {"priority": 105}, "a": {"priority": 90}}
    )
    await gate.ask()
    await anyio.sleep(1)
    await gate.ask()
    served = []
    for _ in range(3):
        served.append((await gate.ask()).candidate)
        await anyio.sleep(60)
    assert served == ["b", "a", "a"]


async def test_a_failure_that_is_retried_does_not_demote():
    """Only a candidate that is given up is demoted: one hiccup is not an incident."""
    gate = gateway({"a": [DOWN, None], "b": []}, policy=DEMOTE, retry={"maxAttempts": 2})
    assert (await gate.ask()).candidate == "a"
    standing = gate.state.standing("candidate:chat/a")
    assert standing is None
