"""A policy that only observes: the run goes as if it said stop, and the record tells what it would have decided."""

import anyio
import pytest

from standby.runner import Request, RunFailed, StreamInterrupted
from standby.runner.testing import EPOCH, Fail, Slow, Streamed, answer
from standby.store import Cool
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
LIMITED = Fail("rate_limit", "slow down", status=429, retryable=True)
CUT = Fail("stream_read_error", "cut", status=200, retryable=True, work="billed")
STATUS = {
    "source": "gateway_runner_policies",
    "policy": "runnerPolicy",
    "rule": "status",
    "value": "observe",
}


def observing(**failover):
    """A policy that would cool, demote and eject, if it were active."""
    return {
        "status": "observe",
        "failoverPolicy": {
            "actions": {"provider_5xx": "cooldown_and_next", "stream_error": "cooldown_and_next"},
            "cooldownSeconds": 60,
            "ejectAfter": 1,
            **failover,
        },
        "priorityDemotePolicy": {"enabled": True, "categories": ["provider_5xx", "stream_error"], "demoteStep": 10},
    }


async def failed_run(gate, **options):
    """The record of a run that fails."""
    with pytest.raises(RunFailed) as caught:
        await gate.ask(**options)
    return caught.value.record


async def test_a_policy_that_observes_stops_the_run():
    """No failover, though it would have said next."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing())
    record = await failed_run(gate)
    assert (did(record), record.ending) == ([("a", 1, "provider_5xx", "stop")], "stopped")
    assert gate.calls() == {"a": 1, "b": 0}


async def test_it_leaves_nobody_out_and_demotes_nobody():
    """No cooldown, no ejection and no demotion: the next run begins with the same candidate."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing())
    for _ in range(6):
        await failed_run(gate)
    assert gate.calls() == {"a": 6, "b": 0}
    status = gate.runner.statuses()[0]
    assert (status.status, status.effective_priority) == ("usable", 100)


async def test_it_disables_nobody():
    """Though its action says so."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing(actions={"provider_5xx": "disable_and_next"}))
    await failed_run(gate)
    assert gate.runner.statuses()[0].status == "usable"


async def test_the_decision_that_acted_names_the_status():
    """As it does for any other policy that is not active; nothing is demoted, for the same reason."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing())
    decisions = (await failed_run(gate)).as_dict()["tries"][0]["decisions"]
    assert decisions["failover"] == {
        "retry": False,
        "reason": "runner_policy_disabled",
        "match": STATUS,
        "action": "stop",
        "cooldown_seconds": 0,
    }
    assert decisions["demote"] == {"demote": False, "reason": "runner_policy_disabled", "match": None, "step": 0}


async def test_the_record_tells_what_it_would_have_decided():
    """Each decision with its rule, as if the policy were active."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing(allowStatusCodes=[500]))
    record = await failed_run(gate)
    assert record.as_dict()["tries"][0]["observed"] == {
        "retry": {
            "retry": True,
            "reason": "client_retryable",
            "match": {"source": "provider_client", "policy": "ClientError", "rule": "Retryable", "value": "true"},
        },
        "failover": {
            "retry": True,
            "reason": "failover_allow_policy",
            "match": {
                "source": "gateway_runner_policies.failover_policy",
                "policy": "failoverPolicy",
                "rule": "allowStatusCodes",
                "value": "500",
            },
            "action": "cooldown_and_next",
            "cooldown_seconds": 60,
        },
        "demote": {
            "demote": True,
            "reason": "priority_demote_policy",
            "match": {
                "source": "gateway_runner_policies.priority_demote_policy",
                "policy": "priorityDemotePolicy",
                "rule": "categories",
                "value": "provider_5xx",
            },
            "step": 10,
        },
    }


async def test_a_hard_stop_that_is_observed_is_told_too():
    """What was done is the same, the reasons differ."""
    policy = observing() | {"hardStopPolicy": {"codes": ["server_error"]}}
    tried = (await failed_run(gateway({"a": [DOWN], "b": []}, policy=policy))).tries[0]
    assert tried.decisions.failover.reason == "runner_policy_disabled"
    assert tried.observed.failover.reason == "hard_stop_policy"


async def test_a_candidates_own_policy_is_observed_as_well():
    """What it lays over the gateway's would have decided."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing(), overrides={"a": {"failoverPolicy": {"enabled": False}}})
    observed = (await failed_run(gate)).tries[0].observed
    assert (observed.failover.reason, observed.failover.match.source) == (
        "failover_disabled",
        "runtime_policy_override.failoverPolicy",
    )


async def test_retries_go_by_the_retry_policy():
    """That is the candidate's policy, and active: every failed try is told with what would have been decided."""
    gate = gateway({"a": [DOWN, DOWN, answer()], "b": []}, policy=observing(), retry={"maxAttempts": 3})
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "retry"), ("a", 2, "provider_5xx", "retry"), ("a", 3, "ok", None)]
    assert [tried.observed is not None for tried in record.tries] == [True, True, False]


async def test_after_the_last_retry_the_run_stops():
    """`maxAttempts` is no failover."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing(), retry={"maxAttempts": 2})
    assert did(await failed_run(gate)) == [("a", 1, "provider_5xx", "retry"), ("a", 2, "provider_5xx", "stop")]


@pytest.mark.parametrize("status", ["observe", " Observe ", "OBSERVE"])
async def test_the_word_is_read_whatever_its_case_and_padding(status):
    """As every other word of a policy."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing() | {"status": status})
    tried = (await failed_run(gate)).tries[0]
    assert tried.observed.failover.action == "cooldown_and_next"
    assert tried.decisions.failover.match.value == status.strip()


@pytest.mark.parametrize("status", ["", "active", "disabled", "observing"])
async def test_no_other_policy_observes(status):
    """An active one acts, any other that is not active is off."""
    gate = gateway({"a": [DOWN, answer()], "b": []}, policy=observing() | {"status": status}, retry={"maxAttempts": 2})
    record = (await gate.ask()).record
    assert record.tries[0].observed is None
    assert "observed" not in record.as_dict()["tries"][0]


async def test_a_failure_that_is_not_the_providers_fault_is_observed():
    """The deadline cut the try: the policy would have said next."""
    gate = gateway({"a": [Slow(100)], "b": []}, policy=observing())
    tried = (await failed_run(gate, timeout_seconds=5)).tries[0]
    assert tried.observed.failover.reason == "client_retryable"


async def test_a_stream_that_breaks_is_observed():
    """The caller has had the first content; the record says what the policy would have done to the candidate."""
    gate = gateway({"a": [Streamed("x", CUT)], "b": []}, policy=observing())
    with pytest.raises(StreamInterrupted) as caught:
        async with gate.runner.stream(Request("chat", {})) as stream:
            async for _ in stream:
                pass
    tried = caught.value.record.tries[0]
    assert (tried.decisions.failover.match.value, tried.observed.failover.action) == ("observe", "cooldown_and_next")
    assert tried.observed.demote.demote
    assert gate.runner.statuses()[0].status == "usable"
    assert gate.runner.statuses()[0].effective_priority == 100


async def test_a_stream_that_fails_before_its_first_content_is_observed():
    """It stops, as a plain run does."""
    gate = gateway({"a": [Streamed("", CUT)], "b": []}, policy=observing())
    with pytest.raises(RunFailed) as caught:
        async with gate.runner.stream(Request("chat", {})):
            pass
    assert did(caught.value.record) == [("a", 1, "stream_error", "stop")]
    assert caught.value.record.tries[0].observed.failover.action == "cooldown_and_next"


async def test_who_is_left_out_already_is_passed_by():
    """An operator's cooldown holds whatever the policy's status: passing by is no failover."""
    gate = gateway({"a": [], "b": []}, policy=observing())
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 60, 1, "maintenance", "ada")])
    assert (await gate.ask()).candidate == "b"


async def test_the_observed_decisions_are_in_the_history():
    """That is where an operator reads them before the policy is made active."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing())
    await failed_run(gate, run_id="seen")
    kept = await gate.runner.history.get("seen")
    assert kept["tries"][0]["observed"]["failover"]["action"] == "cooldown_and_next"


async def test_our_own_limit_is_observed():
    """A refusal for want of local capacity says what an active policy would have decided."""
    gate = gateway({"a": [Slow(5)], "b": []}, policy=observing(), limits={"concurrency": 1})
    records = []

    async def ask():
        records.append((await gate.ask()).record)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(1)
        tasks.start_soon(ask)
    assert records[1].tries[0].observed.failover.reason == "local_rate_limit_try_next_candidate"


async def test_a_probe_that_fails_leaves_nobody_out():
    """What was cooled before the policy only observed is half open, and stays so."""
    gate = gateway({"a": [DOWN], "b": []}, policy=observing())
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now - 60, now - 1, 1, "test")])
    await failed_run(gate)
    assert gate.state.standing("candidate:chat/a").cooling_until < now
