"""The three decisions about a failed try: retry, failover, demotion. Pure; each names the rule that made it.

This is the decision contract in code, its numbered lines as comments. What a rule decides was made when the policies
were compiled (`_rules.py`); here the first rule that holds is found.
"""

from __future__ import annotations

from typing import Final

from ._classify import FailureInfo
from ._decisions import (
    CLIENT_SAYS,
    LOCAL_CAPACITY,
    Decisions,
    DemoteDecision,
    FailoverDecision,
    RetryDecision,
    stop,
)
from ._rules import Rules

RETRY_LOCAL: Final = RetryDecision(False, "local_rate_limit_wait_queue", LOCAL_CAPACITY)
RETRY_BY_CLIENT: Final = {
    True: RetryDecision(True, "client_retryable", CLIENT_SAYS[True]),
    False: RetryDecision(False, "client_non_retryable", CLIENT_SAYS[False]),
}
STOP_BY_CLIENT: Final = stop("client_non_retryable", CLIENT_SAYS[False])
DEMOTE_NOT_ACTIVE: Final = DemoteDecision(False, "runner_policy_disabled", None, 0)
DEMOTE_HARD_STOP: Final = DemoteDecision(False, "hard_stop_policy", None, 0)
DEMOTE_DISABLED: Final = DemoteDecision(False, "priority_demote_disabled", None, 0)
DEMOTE_NO_MATCH: Final = DemoteDecision(False, "priority_demote_no_match", None, 0)


def decide(rules: Rules, failure: FailureInfo, *, retryable: bool, local: bool = False) -> Decisions:
    """Decide about one failure.

    Args:
        rules: The candidate's compiled policies.
        failure: The classified failure.
        retryable: The client's own word; for a local rate limit, whether another candidate may be tried.
        local: Whether this is our own rate limit and no provider's.
    """
    found = rules.keywords.found_in(failure.target)
    stopped = rules.not_active or rules.hard_stop.match(failure, found)
    return Decisions(
        RETRY_LOCAL if local else _retry(rules, failure, found, retryable),
        stopped or _failover(rules, failure, found, retryable, local),
        None if local else _demote(rules, failure, found, stopped is not None),
    )


def observed(rules: Rules, failure: FailureInfo, *, retryable: bool, local: bool = False) -> Decisions | None:
    """What `decide` would say if a policy that only observes were active; `None` where none observes."""
    return None if rules.observed is None else decide(rules.observed, failure, retryable=retryable, local=local)


def _retry(rules: Rules, failure: FailureInfo, found: frozenset[str], retryable: bool) -> RetryDecision:
    return (
        rules.retry_disabled  # 2
        or rules.retry_deny.match(failure, found)  # 3
        or rules.retry_allow.match(failure, found)  # 4
        or RETRY_BY_CLIENT[retryable]  # 5
    )


def _failover(
    rules: Rules, failure: FailureInfo, found: frozenset[str], retryable: bool, local: bool
) -> FailoverDecision:
    stopped = rules.failover_disabled or rules.failover_deny.match(failure, found)  # 3, 4
    if stopped:
        return stopped
    if local and retryable:  # 5
        return rules.local_next
    allowed = rules.failover_allow.match(failure, found)  # 6
    if allowed is None and retryable:  # 7
        allowed = rules.client_retryable
    return STOP_BY_CLIENT if allowed is None else allowed[rules.actions.get(failure.category, "next")]


def _demote(rules: Rules, failure: FailureInfo, found: frozenset[str], stopped: bool) -> DemoteDecision:
    if stopped:
        return DEMOTE_NOT_ACTIVE if rules.not_active else DEMOTE_HARD_STOP
    if not rules.demote_enabled:
        return DEMOTE_DISABLED
    return rules.demote.match(failure, found) or DEMOTE_NO_MATCH
