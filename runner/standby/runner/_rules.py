"""Policies, compiled once a version into sets and folded strings, so that a decision costs look-ups and no loops.

Every item of every list becomes the decision that it makes, with the `Match` that names it, made here once and shared
by all failures that it decides. Keywords of all lists of a candidate are looked for in one scan of the failure's text;
what that costs depends on the text, not on how many keywords there are. A failure that no keyword occurs in, the usual
one, asks no keyword list anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, get_args

from ahocorasick_rs import AhoCorasick

from standby.store import Action

from ._classify import FailureInfo
from ._decisions import CLIENT_SAYS, LOCAL_CAPACITY, RETRY, DemoteDecision, FailoverDecision, Match, RetryDecision, stop

if TYPE_CHECKING:
    from standby.store import (
        FailoverPolicy,
        HardStopPolicy,
        PriorityDemotePolicy,
        RetryPolicy,
        RunnerPolicy,
        RuntimePolicy,
    )

    _ListsPolicy = HardStopPolicy | FailoverPolicy | PriorityDemotePolicy | RetryPolicy
    _Origin = Callable[[str], tuple[str, _ListsPolicy]]

DEFAULT_COOLDOWN_SECONDS: Final = 300
DEFAULT_DEMOTE_STEP: Final = 100

GATEWAY_FAILOVER: Final = "gateway_runner_policies.failover_policy"
OVERRIDE_FAILOVER: Final = "runtime_policy_override.failoverPolicy"
HARD_STOP: Final = "gateway_runner_policies.hard_stop_policy"
PRIORITY_DEMOTE: Final = "gateway_runner_policies.priority_demote_policy"
RUNNER_POLICIES: Final = "gateway_runner_policies"

OBSERVE: Final = "observe"
ACTIONS: Final[tuple[str, ...]] = get_args(Action)
ByAction = Mapping[str, FailoverDecision]


D = TypeVar("D")


class RuleLists(Generic[D]):
    """The four lists of one policy that allow, deny or match; each item leads to what it decides."""

    __slots__ = ("categories", "codes", "keywords", "statuses")

    def __init__(self) -> None:
        self.categories: dict[str, D] = {}
        self.codes: dict[str, D] = {}
        self.statuses: dict[int, D] = {}
        self.keywords: dict[str, D] = {}

    def match(self, failure: FailureInfo, keywords_found: frozenset[str]) -> D | None:
        """What the first item that matches decides; categories first, then codes, status codes and keywords."""
        found = (
            self.categories.get(failure.category) or self.codes.get(failure.code) or self.statuses.get(failure.status)
        )
        if found is None and keywords_found:
            return next((decision for words, decision in self.keywords.items() if words in keywords_found), None)
        return found


class KeywordScan:
    """Finds all keywords of a candidate's policies in one pass over a text."""

    __slots__ = ("_automaton", "_words")

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(dict.fromkeys(words))
        self._automaton = AhoCorasick(self._words) if self._words else None

    def found_in(self, text: str) -> frozenset[str]:
        """The keywords that occur anywhere in ``text``."""
        if self._automaton is None:
            return _NOTHING
        hits = self._automaton.find_matches_as_indexes(text, overlapping=True)
        return frozenset([self._words[index] for index, _, _ in hits]) if hits else _NOTHING


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides about one candidate's failures, compiled.

    ``observed`` are the same rules as if the gateway's policy were active, where it only observes.

    ``not_active``, ``retry_disabled`` and ``failover_disabled`` hold the decision that answers everything where that is
    so. An allowed failover depends on the failure's category too: ``failover_allow`` and ``client_retryable`` lead to
    one decision for each action, and ``actions`` says which.
    """

    not_active: FailoverDecision | None
    hard_stop: RuleLists[FailoverDecision]
    retry_disabled: RetryDecision | None
    retry_deny: RuleLists[RetryDecision]
    retry_allow: RuleLists[RetryDecision]
    failover_disabled: FailoverDecision | None
    failover_deny: RuleLists[FailoverDecision]
    failover_allow: RuleLists[ByAction]
    client_retryable: ByAction
    local_next: FailoverDecision
    actions: Mapping[str, str]
    demote_enabled: bool
    demote: RuleLists[DemoteDecision]
    keywords: KeywordScan
    observed: Rules | None = None


_NOTHING: Final[frozenset[str]] = frozenset()


def compile_rules(gateway: RunnerPolicy, runtime: RuntimePolicy, override: FailoverPolicy | None = None) -> Rules:
    """Compile what decides about one candidate.

    Args:
        gateway: The gateway-wide policy.
        runtime: The candidate's effective policy set, its own override already laid over it.
        override: The candidate's own failover policy: each key that it wrote, even empty or null, replaces the
            gateway's.
    """
    own = override.model_fields_set if override is not None else frozenset[str]()

    def failover(field: str) -> tuple[str, FailoverPolicy]:
        if override is not None and field in own:
            return OVERRIDE_FAILOVER, override
        return GATEWAY_FAILOVER, gateway.failover_policy

    cooldown_seconds = failover("cooldown_seconds")[1].cooldown_seconds or DEFAULT_COOLDOWN_SECONDS
    demote_step = gateway.priority_demote_policy.demote_step or DEFAULT_DEMOTE_STEP

    def next_by_action(reason: str, match: Match) -> ByAction:
        return {action: FailoverDecision(True, reason, match, action, cooldown_seconds) for action in ACTIONS}

    lists = _lists(gateway, runtime, failover, next_by_action, demote_step)
    enabled_source, enabled_policy = failover("enabled")
    status = gateway.status.strip()
    observed: Rules | None = None
    if status.lower() == OBSERVE:
        observed = compile_rules(gateway.model_copy(update={"status": "active"}), runtime, override)
    return Rules(
        observed=observed,
        not_active=None
        if is_active(status)
        else stop("runner_policy_disabled", Match(RUNNER_POLICIES, "runnerPolicy", "status", status)),
        retry_disabled=None
        if runtime.retry_policy.enabled
        else RetryDecision(False, "retry_disabled", Match(RETRY, "retryPolicy", "enabled", "false")),
        failover_disabled=None
        if enabled_policy.enabled
        else stop("failover_disabled", Match(enabled_source, "failoverPolicy", "enabled", "false")),
        client_retryable=next_by_action("client_retryable", CLIENT_SAYS[True]),
        local_next=FailoverDecision(
            True, "local_rate_limit_try_next_candidate", LOCAL_CAPACITY, "next", cooldown_seconds
        ),
        actions={
            category.strip().lower(): action for category, action in (failover("actions")[1].actions or {}).items()
        },
        demote_enabled=gateway.priority_demote_policy.enabled,
        keywords=KeywordScan(words for compiled in lists.values() for words in compiled.keywords),
        **lists,
    )


def is_active(status: str) -> bool:
    """Whether a gateway-wide policy of this status decides anything."""
    return status.strip().lower() in ("", "active")


def _lists(
    gateway: RunnerPolicy,
    runtime: RuntimePolicy,
    failover: Callable[[str], tuple[str, FailoverPolicy]],
    next_by_action: Callable[[str, Match], ByAction],
    demote_step: int,
) -> dict[str, RuleLists[Any]]:
    retry, hard_stop, demote = runtime.retry_policy, gateway.hard_stop_policy, gateway.priority_demote_policy
    return {
        "hard_stop": _compiled(
            "hardStopPolicy", "", lambda _: (HARD_STOP, hard_stop), lambda match: stop("hard_stop_policy", match)
        )
        if hard_stop.enabled
        else RuleLists(),
        "retry_deny": _compiled(
            "retryPolicy",
            "deny",
            lambda _: (RETRY, retry),
            lambda match: RetryDecision(False, "retry_deny_policy", match),
        ),
        "retry_allow": _compiled(
            "retryPolicy",
            "allow",
            lambda _: (RETRY, retry),
            lambda match: RetryDecision(True, "retry_allow_policy", match),
        ),
        "failover_deny": _compiled(
            "failoverPolicy", "deny", failover, lambda match: stop("failover_deny_policy", match)
        ),
        "failover_allow": _compiled(
            "failoverPolicy", "allow", failover, lambda match: next_by_action("failover_allow_policy", match)
        ),
        "demote": _compiled(
            "priorityDemotePolicy",
            "",
            lambda _: (PRIORITY_DEMOTE, demote),
            lambda match: DemoteDecision(True, "priority_demote_policy", match, demote_step),
        ),
    }


def _compiled(policy_name: str, prefix: str, origin: _Origin, decision: Callable[[Match], D]) -> RuleLists[D]:
    """Compile the lists whose names begin with ``prefix``; ``origin`` says which stored policy each one is from.

    Items compare trimmed and in lower case, and of equal ones the first decides. An empty item never matches, nor does
    a status of 0, which means that no answer came.
    """
    from pydantic.alias_generators import to_camel  # noqa: PLC0415 - it comes with the policies, which are pydantic's

    lists = RuleLists[D]()
    by_kind: dict[str, dict[Any, D]] = {
        "categories": lists.categories,
        "codes": lists.codes,
        "status_codes": lists.statuses,
        "keywords": lists.keywords,
    }
    for kind, compiled in by_kind.items():
        field = f"{prefix}_{kind}" if prefix else kind
        source, policy = origin(field)
        for item in getattr(policy, field):
            written = str(item).strip()
            if folded := item if isinstance(item, int) else written.lower():
                compiled.setdefault(folded, decision(Match(source, policy_name, to_camel(field), written)))
    return lists
