"""Which policies hold for one candidate of one model."""

from __future__ import annotations

from dataclasses import dataclass

from ._models import (
    BUILT_IN_RUNNER_POLICIES,
    Candidate,
    FailoverPolicy,
    Model,
    RunnerPolicy,
    RuntimePolicy,
    overlaid,
)
from ._protocols import Snapshot

DEFAULT_POLICY = "recommended"


@dataclass(frozen=True, slots=True)
class EffectivePolicies:
    """The policies of one candidate, and the names under which they are written."""

    runner_policy_name: str
    runner_policy: RunnerPolicy
    """The gateway's, as it is written."""
    failover_override: FailoverPolicy | None
    """The candidate's own failover policy, kept apart: a decision says which of the two its rule came from."""
    runtime_policy_name: str
    runtime_policy: RuntimePolicy
    """The named one with the candidate's override laid over it."""


def effective_policies(snapshot: Snapshot, model: Model, candidate: Candidate) -> EffectivePolicies:
    """The policies that hold for ``candidate`` of ``model``.

    Raises:
        LookupError: One of them names a policy that the snapshot does not hold. No snapshot of a document does.
    """
    runner_name = model.runner_policy if model.runner_policy is not None else DEFAULT_POLICY
    runner = snapshot.runner_policies.get(runner_name)
    if runner is None:
        raise LookupError(f"no runner policy is named {runner_name!r}")
    runtime_name = candidate.runtime_policy
    if runtime_name is None:
        # An operator's own policy under the name `bare` says nothing about retries, so it does not bring the built-in.
        runtime_name = "bare" if runner is BUILT_IN_RUNNER_POLICIES["bare"] else DEFAULT_POLICY
    runtime = snapshot.runtime_policies.get(runtime_name)
    if runtime is None:
        raise LookupError(f"no runtime policy is named {runtime_name!r}")
    override = candidate.runtime_policy_override
    return EffectivePolicies(
        runner_policy_name=runner_name,
        runner_policy=runner,
        failover_override=override.failover_policy,
        runtime_policy_name=runtime_name,
        runtime_policy=RuntimePolicy(
            retry_policy=overlaid(runtime.retry_policy, override.retry_policy),
            rate_limit_policy=overlaid(runtime.rate_limit_policy, override.rate_limit_policy),
            timeouts=overlaid(runtime.timeouts, override.timeouts),
        ),
    )
