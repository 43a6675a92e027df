"""What is decided about a failed try, as values; each names the rule that made it.

A decision carries the `Match` of the rule that made it, or a reason that stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

RETRY: Final = "model_runtime_policy_sets.retry_policy"
BUDGET: Final = "gateway_runner_policies.retry_budget"


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that decided.

    Attributes:
        source: The stored policy that it came from.
        policy: The policy's key.
        rule: The list or the field within the policy.
        value: The item as the policy wrote it, trimmed.
    """

    source: str
    policy: str
    rule: str
    value: str

    def __str__(self) -> str:
        return f"{self.policy}.{self.rule} = {self.value}"


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """May the same candidate be tried again?"""

    retry: bool
    reason: str
    match: Match | None


@dataclass(frozen=True, slots=True)
class FailoverDecision:
    """May the next candidate be tried, what happens to this one, and for how long?"""

    retry: bool
    reason: str
    match: Match | None
    action: str
    cooldown_seconds: float


@dataclass(frozen=True, slots=True)
class DemoteDecision:
    """Is this candidate's priority demoted, and by how much?"""

    demote: bool
    reason: str
    match: Match | None
    step: int


class Decisions(NamedTuple):
    """All that is decided about one failure; ``demote`` is `None` for our own rate limit."""

    retry: RetryDecision
    failover: FailoverDecision
    demote: DemoteDecision | None


LOCAL_CAPACITY: Final = Match("gateway_rate_limits", "rateLimitPolicy", "localCapacity", "exceeded")
CLIENT_SAYS: Final = {
    True: Match("provider_client", "ClientError", "Retryable", "true"),
    False: Match("provider_client", "ClientError", "Retryable", "false"),
}


def stop(reason: str, match: Match) -> FailoverDecision:
    """The run ends here."""
    return FailoverDecision(False, reason, match, "stop", 0)
