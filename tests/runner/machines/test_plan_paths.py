"""Paths through the plan's machine that chance takes seldom; the machine asserts its rules on the way."""

from __future__ import annotations

import pytest

from standby.clients import ClientError
from tests.runner.machines.test_plan_machine import PlanMachine

DOWN = ClientError("server_error", status=500, retryable=True)
REFUSED = ClientError("bad_request", status=400, retryable=False)
STOP_WHERE_DOWN = {"failoverPolicy": {"denyCategories": ["provider_5xx"]}}
NO_BACKOFF = {"maxSeconds": 6, "initialSeconds": 0, "jitter": "none"}


def run(*, policy=None, total_seconds=60, min_useful=0, hedge=None):
    """A run of two candidates of two providers, asked for its first step."""
    machine = PlanMachine()
    machine.begin(
        at_once=True,
        names=["p", "q"],
        policy=policy or {},
        retry={"maxAttempts": 3, "backoff": NO_BACKOFF},
        model={
            "timeouts": {"totalSeconds": total_seconds},
            "queue": {"maxWaiting": 10, "maxWaitSeconds": 5},
            "hedge": hedge,
        },
        min_useful=min_useful,
        chance=0.0,
    )
    machine.begin_the_next(may_fail_over=True, streamed=False, all_well=True)
    return machine


def fail(machine, error, *, number=0, at_once=False):
    machine.come_to_something(number=number, passed=0.0, error=error, at_once=at_once)


def told(machine):
    return [(tried.candidate, tried.n, tried.did) for tried in machine.record.tries]


def test_a_stop_outlasts_the_queue_where_the_candidate_is_left_out_meanwhile():
    """It was to be tried again and nobody else was: when it cools while its retry waits for capacity, the run stops."""
    machine = run(policy=STOP_WHERE_DOWN)
    machine.make_the_call()
    fail(machine, DOWN)
    machine.make_the_call(fate="refused")
    machine.wait_in_the_queue(fate="admitted and cooled")
    assert machine.step.ending == "stopped"
    assert told(machine) == [("c0", 1, "stop"), ("c0", 0, "stop")]


def test_a_stop_outlasts_the_queue_where_the_retry_is_not_paid_for_any_more():
    """Others have spent the budget while the retry waited for capacity."""
    machine = run(policy=STOP_WHERE_DOWN | {"retryBudget": {"capacity": 14}})
    machine.make_the_call()
    fail(machine, DOWN)
    machine.make_the_call(fate="refused")
    for _ in range(3):
        machine.acts = 0
        machine.others_act(number=0, passed=0.0, what="pay")
    machine.wait_in_the_queue(fate="admitted")
    assert machine.step.ending == "stopped"
    assert told(machine) == [("c0", 1, "stop"), ("c0", 0, "stop")]


@pytest.mark.parametrize("fate", ["in vain", "full"])
def test_whoever_is_well_again_when_the_queue_was_in_vain_has_a_turn(fate):
    """It was cooling when the run turned to the queue for the other's capacity."""
    machine = run()
    machine.others_act(number=1, passed=0.0, what="cool")
    machine.make_the_call(fate="refused")
    machine.others_act(number=1, passed=2.0, what="restore")
    machine.wait_in_the_queue(fate=fate)
    assert machine.step.candidate.id == "c1"


def test_a_run_waits_in_the_queue_no_longer_than_until_somebody_may_be_called():
    """The other's cooldown ends in a second, and the queue would let it wait for five."""
    machine = run()
    machine.others_act(number=1, passed=0.0, what="cool its provider")
    machine.make_the_call(fate="refused")
    assert machine.step.until == machine.now + 1.0
    machine.wait_in_the_queue(fate="in vain")
    machine.make_the_call()
    assert [call.candidate.id for call in machine.under_way] == ["c1"]


def test_nothing_is_tried_again_in_a_run_that_another_call_has_stopped():
    """Both fail at the same moment, and the first of them stops the run."""
    machine = run(hedge={"afterSeconds": 2})
    machine.make_the_call()
    machine.hedge(room=True)
    fail(machine, REFUSED, at_once=True)
    assert machine.step.ending == "stopped"
    assert told(machine) == [("c0", 1, "stop"), ("c1", 1, "next")]


def test_nobody_is_asked_beside_a_call_at_the_deadline():
    """Not even where a call of no length would do."""
    machine = run(total_seconds=2, hedge={"afterSeconds": 2})
    machine.make_the_call()
    machine.hedge(room=True)
    assert len(machine.under_way) == 1


def test_nobody_is_asked_beside_a_call_too_late_to_be_of_use():
    """With less than `minUsefulSeconds` left, or half of the run's time."""
    machine = run(total_seconds=6, min_useful=5, hedge={"afterSeconds": 4})
    machine.make_the_call()
    machine.hedge(room=True)
    assert len(machine.under_way) == 1
