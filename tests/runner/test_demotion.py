"""Demotion: once per incident, wearing off, and what it does to the order."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import EPOCH, Fail, Slow
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


async def failed_alone(gate, times):
    """Runs that may call nobody but the first candidate, a second apart; what each told of its demotion."""
    causes = []
    for _ in range(times):
        with pytest.raises(RunFailed) as caught:
            await gate.ask(only=["a"])
        causes.append(caught.value.record.tries[0].effects[-1].cause)
        await anyio.sleep(1)
    return causes


async def test_a_demotion_grows_no_further_than_it_changes_the_order():
    """Five steps more than what puts the first behind the last; the record says that it goes no lower."""
    gate = gateway({"a": [DOWN], "b": []}, policy=DEMOTE, candidates={"b": {"priority": 115}})
    causes = await failed_alone(gate, 9)
    assert gate.runner.statuses()[0].effective_priority == 100 + 15 + 50
    usual = "provider_5xx: priority_demote_policy (priorityDemotePolicy.categories = provider_5xx)"
    assert causes == [usual] * 7 + [f"{usual}; as low as it goes"] * 2


async def test_whoever_goes_on_failing_stays_as_low_as_it_goes():
    """Its demotion begins anew to wear off with each failure, and has worn off a step at a time after the last."""
    gate = gateway({"a": [DOWN], "b": []}, policy=DEMOTE)
    for _ in range(3):
        await failed_alone(gate, 20)
        await anyio.sleep(30)
        assert gate.runner.statuses()[0].effective_priority == 100 + 1 + 50
    await anyio.sleep(5 * 60)
    assert gate.runner.statuses()[0].effective_priority == 101
    await anyio.sleep(60)
    assert gate.runner.statuses()[0].effective_priority == 100


async def test_those_who_are_as_low_as_it_goes_keep_their_order():
    """The most that is added is the same for all candidates of a model."""
    gate = gateway(
        {"a": [DOWN], "b": [DOWN], "c": [DOWN]},
        policy=DEMOTE | {"failoverPolicy": {"ejectAfter": 0}},
        candidates={"b": {"priority": 107}, "c": {"priority": 112}},
    )
    for _ in range(20):
        with pytest.raises(RunFailed):
            await gate.ask()
        await anyio.sleep(1)
    assert [status.effective_priority for status in gate.runner.statuses()] == [162, 169, 174]


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


async def test_a_thousand_failures_at_once_leave_the_ranks_stable():
    """Each candidate that failed them all is demoted once, whatever the order in which the failures come."""
    durations = iter(range(10_000))

    def down_after(least_seconds):
        return lambda _: Slow(least_seconds + next(durations) * 7919 % 1000 / 1000, DOWN)

    gate = gateway(
        {"a": down_after(1), "b": down_after(2), "c": down_after(4), "d": []},
        policy=DEMOTE | {"failoverPolicy": {"ejectAfter": 0}},
        timeouts={"attemptSeconds": 60},
    )
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(gate.ask)
    assert gate.calls() == {"a": 1000, "b": 1000, "c": 1000, "d": 1000}
    assert [(status.id, status.effective_priority) for status in gate.runner.statuses()] == [
        ("a", 110),
        ("b", 111),
        ("c", 112),
        ("d", 103),
    ]


async def test_the_status_says_why_a_candidate_is_demoted_and_until_when():
    """Cause, and when the next step wears off, in numbers and in words."""
    gate = gateway({"a": [DOWN], "b": []}, policy=DEMOTE)
    await gate.ask()
    status = gate.runner.statuses()[0]
    cause = "provider_5xx: priority_demote_policy (priorityDemotePolicy.categories = provider_5xx)"
    assert (status.priority, status.effective_priority, status.demoted_for) == (100, 110, cause)
    assert status.restored_at == EPOCH + anyio.current_time() + 60
    words = f"Ranked 10 lower, at 110: {cause}; it wears off from "
    assert any(sentence.startswith(words) and sentence.endswith(" UTC on.") for sentence in status.told)


async def test_the_status_names_the_next_step_of_a_demotion_that_wears_off():
    """Of two steps one is gone; the rest goes later, and then nothing is said of it any more."""
    gate = gateway({"a": [DOWN], "b": []}, policy=DEMOTE, candidates={"b": {"priority": 1000}})
    await gate.ask()
    await anyio.sleep(1)
    await gate.ask()
    demoted_at = EPOCH + anyio.current_time()
    await anyio.sleep(90)
    status = gate.runner.statuses()[0]
    assert (status.effective_priority, status.restored_at) == (110, demoted_at + 120)
    await anyio.sleep(60)
    status = gate.runner.statuses()[0]
    assert (status.effective_priority, status.demoted_for, status.restored_at) == (100, "", None)


async def test_a_demotion_that_stays_says_so():
    """With `restoreSeconds` 0 somebody must restore it."""
    policy = {"priorityDemotePolicy": {**DEMOTE["priorityDemotePolicy"], "restoreSeconds": 0}}
    gate = gateway({"a": [DOWN], "b": []}, policy=policy)
    await gate.ask()
    await anyio.sleep(80_000)
    status = gate.runner.statuses()[0]
    assert (status.effective_priority, status.restored_at) == (110, None)
    assert any(sentence.endswith("; until somebody restores it.") for sentence in status.told)
