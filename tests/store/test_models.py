"""The models themselves: what a policy takes, what it means where it is left out, and how one is laid over another."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from standby.store import (
    CATEGORIES,
    Candidate,
    Commit,
    FailoverPolicy,
    HardStopPolicy,
    Hedge,
    Model,
    PriorityDemotePolicy,
    RetryPolicy,
    RunnerPolicy,
    RuntimePolicy,
    RuntimePolicyOverride,
    Snapshot,
    effective_policies,
    overlaid,
)


def candidate(**changes: Any) -> Candidate:
    return Candidate.model_validate({"id": "primary", "provider": "openai", "model": "gpt-4o", **changes})


def model(**changes: Any) -> Model:
    return Model.model_validate({"candidates": [{"id": "primary", "provider": "p", "model": "m"}], **changes})


def test_policy__written_form():
    """A policy is read from camelCase, and from snake_case."""
    assert RetryPolicy.model_validate({"maxAttempts": 3}) == RetryPolicy.model_validate({"max_attempts": 3})


def test_policy__null_lists():
    """A list that is null is empty, and counts as written."""
    policy = FailoverPolicy.model_validate({"denyCodes": None, "allowStatusCodes": None})

    assert (policy.deny_codes, policy.allow_status_codes) == ([], [])
    assert policy.model_fields_set == {"deny_codes", "allow_status_codes"}


@pytest.mark.parametrize("category", CATEGORIES)
def test_category__case_and_padding(category: str):
    """A category is known whatever its case and padding, and is kept as it was written."""
    written = f" {category.upper()} "

    assert HardStopPolicy.model_validate({"categories": [written, ""]}).categories == [written, ""]


@pytest.mark.parametrize(
    ("policy", "document"),
    [
        (FailoverPolicy, {"cooldownSeconds": -1}),
        (FailoverPolicy, {"maxCooldownSeconds": 0}),
        (FailoverPolicy, {"ejectAfter": -1}),
        (FailoverPolicy, {"denyStatusCodes": [-1]}),
        (FailoverPolicy, {"actions": {"rate_limit": "stop"}}),
        (FailoverPolicy, {"categories": []}),
        (PriorityDemotePolicy, {"demoteStep": -1}),
        (PriorityDemotePolicy, {"demoteStep": 10**12}),
        (PriorityDemotePolicy, {"restoreSeconds": float("inf")}),
        (RetryPolicy, {"maxAttempts": 0}),
        (RetryPolicy, {"maxAttempts": True}),
        (RetryPolicy, {"backoff": {"jitter": "some"}}),
        (RunnerPolicy, {"scopes": {"rate_limit": "host"}}),
        (RunnerPolicy, {"retryBudget": {"capacity": 0}}),
        (RunnerPolicy, {"retryBudget": {"maxInFlightPercent": 101}}),
        (Hedge, {}),
        (Hedge, {"afterSeconds": 1, "afterPercentile": 95}),
        (Hedge, {"afterPercentile": 100}),
        (Hedge, {"afterSeconds": 1, "maxExtra": 0}),
        (RuntimePolicy, {"timeouts": {"idleSeconds": 0}}),
        (Commit, {"at": "bytes"}),
        (Commit, {"at": "first_content", "value": 5}),
        (Commit, {"at": "tokens", "value": 5}),
    ],
)
def test_policy__refused(policy: Any, document: dict[str, Any]):
    """Unknown keys, negative and unbounded numbers, unknown actions and what is not supported yet are refused."""
    with pytest.raises(ValidationError):
        policy.model_validate(document)


@pytest.mark.parametrize("status", ["active", "", "observe", "disabled", "paused"])
def test_status(status: str):
    """Every status is taken; what is not active disables the policy."""
    assert RunnerPolicy.model_validate({"status": status}).status == status


def test_overlaid__key_by_key():
    """What the upper policy wrote replaces the lower's, even empty; what it left out does not."""
    base = FailoverPolicy(deny_codes=["a"], allow_codes=["b"], cooldown_seconds=60.0)
    over = FailoverPolicy.model_validate({"denyCodes": [], "cooldownSeconds": None})
    result = overlaid(base, over)

    assert (result.deny_codes, result.allow_codes, result.cooldown_seconds) == ([], ["b"], None)


def test_overlaid__policy_inside():
    """A policy inside a policy is laid over key by key as well."""
    base = RetryPolicy.model_validate({"backoff": {"initialSeconds": 2, "maxSeconds": 20}})
    over = RetryPolicy.model_validate({"backoff": {"maxSeconds": 5}})

    assert overlaid(base, over).backoff.initial_seconds == 2
    assert overlaid(base, over).backoff.max_seconds == 5


@pytest.mark.parametrize("over", [None, FailoverPolicy()])
def test_overlaid__nothing(over: FailoverPolicy | None):
    """A policy that wrote nothing changes nothing."""
    base = FailoverPolicy(deny_codes=["a"])

    assert overlaid(base, over) is base


def test_candidate_ids_are_unique():
    """A model refuses two candidates of one id, however it is made."""
    one = candidate()
    with pytest.raises(ValidationError, match="two candidates are named primary"):
        Model(candidates=[one, one])


def test_recommended_runner_policy():
    """The policy that holds where none is named fails over on the provider's faults and cools what would repeat."""
    policy = Snapshot(1).runner_policies["recommended"]

    assert policy.status == "active"
    assert policy.hard_stop_policy == HardStopPolicy()
    assert policy.failover_policy.cooldown_seconds == 60
    assert set(policy.failover_policy.allow_categories) == {
        "rate_limit",
        "timeout",
        "network",
        "stream_error",
        "provider_overloaded",
        "provider_5xx",
        "auth_error",
        "insufficient_balance",
        "unsupported_model",
    }
    assert policy.failover_policy.actions == {
        "rate_limit": "cooldown_and_next",
        "provider_overloaded": "cooldown_and_next",
        "auth_error": "cooldown_and_next",
        "insufficient_balance": "cooldown_and_next",
    }
    assert policy.priority_demote_policy.enabled
    assert policy.priority_demote_policy.demote_step == 100
    assert set(policy.priority_demote_policy.categories) == {"timeout", "network", "stream_error", "provider_5xx"}


def test_recommended_runtime_policy():
    """The policy set that holds where none is named tries twice, but not what a second try cannot help."""
    policy = Snapshot(1).runtime_policies["recommended"].retry_policy

    assert policy.max_attempts == 2
    assert set(policy.deny_categories) == {"rate_limit", "insufficient_balance"}


def test_bare():
    """The bare policies say nothing."""
    assert Snapshot(1).runner_policies["bare"] == RunnerPolicy()
    assert Snapshot(1).runtime_policies["bare"] == RuntimePolicy()


def test_effective__nothing_named():
    """A model and a candidate that name no policy get the recommended ones."""
    policies = effective_policies(Snapshot(1), model(), candidate())

    assert (policies.runner_policy_name, policies.runtime_policy_name) == ("recommended", "recommended")
    assert policies.runner_policy is Snapshot(1).runner_policies["recommended"]
    assert policies.runtime_policy == Snapshot(1).runtime_policies["recommended"]
    assert policies.failover_override is None


def test_effective__bare_model():
    """Where the model's policy is the built-in `bare`, so is the candidate's that names none."""
    policies = effective_policies(Snapshot(1), model(runner_policy="bare"), candidate())

    assert (policies.runner_policy_name, policies.runtime_policy_name) == ("bare", "bare")


def test_effective__operators_own_bare():
    """A policy of the operator's under the name `bare` does not bring the built-in policy set with it."""
    snapshot = Snapshot(1, runner_policies={"bare": RunnerPolicy(status="disabled")})
    policies = effective_policies(snapshot, model(runner_policy="bare"), candidate())

    assert policies.runner_policy.status == "disabled"
    assert policies.runtime_policy_name == "recommended"


def test_effective__named():
    """A policy that is named holds, whatever the model's."""
    runtime = RuntimePolicy(retry_policy=RetryPolicy(max_attempts=5))
    snapshot = Snapshot(1, runtime_policies={"mine": runtime})
    policies = effective_policies(snapshot, model(runner_policy="bare"), candidate(runtime_policy="mine"))

    assert policies.runtime_policy == runtime
    assert policies.runtime_policy_name == "mine"


def test_effective__override():
    """A candidate's override is laid over its policy set; its failover policy is kept apart."""
    override = {
        "failoverPolicy": {"denyCodes": ["content_filter"]},
        "retryPolicy": {"maxAttempts": 1},
        "rateLimitPolicy": {"concurrency": 4},
        "timeouts": {"attemptSeconds": 5},
    }
    policies = effective_policies(Snapshot(1), model(), candidate(runtimePolicyOverride=override))

    assert policies.runtime_policy.retry_policy.max_attempts == 1
    assert policies.runtime_policy.retry_policy.deny_categories == ["rate_limit", "insufficient_balance"]
    assert policies.runtime_policy.rate_limit_policy.concurrency == 4
    assert policies.runtime_policy.timeouts.attempt_seconds == 5
    assert policies.runner_policy.failover_policy.deny_codes == []
    assert policies.failover_override == FailoverPolicy(deny_codes=["content_filter"])


def test_effective__override_in_snake_case():
    """The override may be written in snake_case."""
    override = RuntimePolicyOverride(retry_policy=RetryPolicy(max_attempts=1))

    assert candidate(runtime_policy_override={"retry_policy": {"max_attempts": 1}}).runtime_policy_override == override


@pytest.mark.parametrize(
    ("of_model", "of_candidate", "why"),
    [
        ({"runner_policy": "mine"}, {}, "no runner policy is named 'mine'"),
        ({}, {"runtime_policy": "mine"}, "no runtime policy is named 'mine'"),
    ],
)
def test_effective__unknown_name(of_model: dict[str, Any], of_candidate: dict[str, Any], why: str):
    """A snapshot made by hand may name what it does not hold; that is an error that says the name."""
    with pytest.raises(LookupError, match=why):
        effective_policies(Snapshot(1), model(**of_model), candidate(**of_candidate))
