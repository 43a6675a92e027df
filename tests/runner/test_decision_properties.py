"""What holds for every policy and every failure."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from standby.runner import classify, compile_rules, decide
from standby.store import (
    CATEGORIES,
    FailoverPolicy,
    HardStopPolicy,
    PriorityDemotePolicy,
    RetryPolicy,
    RunnerPolicy,
    RuntimePolicy,
)

CODES = ["rate_limit", "timeout", "server_error", "bad_request", "my_code", "unsupported_thing", ""]
WORDS = ["quota", "try again", "500", "overloaded", "api key", "fine"]

words = st.sampled_from(WORDS)
codes = st.sampled_from(CODES)
statuses = st.sampled_from([0, 200, 400, 401, 402, 404, 408, 429, 500, 503, 529])
categories = st.sampled_from(CATEGORIES)
padding = st.text(" \t\n", max_size=2)


def lists(prefix):
    """The four lists of a policy, each left out, empty or filled."""
    joined = (lambda kind: f"{prefix}_{kind}") if prefix else (lambda kind: kind)
    return {
        joined("categories"): st.lists(categories, max_size=3),
        joined("codes"): st.lists(codes, max_size=3),
        joined("status_codes"): st.lists(statuses, max_size=3),
        joined("keywords"): st.lists(words, max_size=3),
    }


actions = st.dictionaries(categories, st.sampled_from(["next", "cooldown_and_next", "disable_and_next"]), max_size=4)
hard_stops = st.builds(HardStopPolicy, enabled=st.booleans(), **lists(""))
failovers = st.builds(
    FailoverPolicy,
    enabled=st.booleans(),
    actions=actions,
    cooldown_seconds=st.sampled_from([None, 0, 5, 60]),
    **lists("deny"),
    **lists("allow"),
)
demotes = st.builds(PriorityDemotePolicy, enabled=st.booleans(), demote_step=st.sampled_from([None, 0, 7]), **lists(""))
retries = st.builds(RetryPolicy, enabled=st.booleans(), **lists("deny"), **lists("allow"))
runner_policies = st.builds(
    RunnerPolicy,
    status=st.sampled_from(["", "active", "paused"]),
    hard_stop_policy=hard_stops,
    failover_policy=failovers,
    priority_demote_policy=demotes,
)
failures = st.builds(classify, codes, words, statuses)
flags = st.booleans()


def decided(gateway, retry, failure, *, override=None, retryable=False, local=False):
    rules = compile_rules(gateway, RuntimePolicy(retry_policy=retry), override)
    return decide(rules, failure, retryable=retryable, local=local)


def with_items(policy, **items):
    """The policy with items added in front of some of its lists."""
    return policy.model_copy(update={name: [item, *getattr(policy, name)] for name, item in items.items()})


@given(runner_policies, retries, failures, flags)
def test_a_deny_beats_an_allow(gateway, retry, failure, retryable):
    """Where a deny list has the failure's category, no allow list and no word of the client's lets it through."""
    denied = with_items(retry, deny_categories=failure.category, allow_categories=failure.category)
    assert not decided(gateway, denied, failure, retryable=retryable).retry.retry
    failover = with_items(gateway.failover_policy, deny_categories=failure.category, allow_categories=failure.category)
    gateway = gateway.model_copy(update={"failover_policy": failover})
    assert not decided(gateway, retry, failure, retryable=retryable).failover.retry


@given(failovers, failures, flags, st.sampled_from(["deny", "allow"]))
def test_an_overrides_empty_list_clears_the_gateways(failover, failure, retryable, kind):
    """An override that writes its lists empty decides as if the gateway had never written them."""
    fields = [f"{kind}_{name}" for name in ("categories", "codes", "status_codes", "keywords")]
    cleared = FailoverPolicy(**{field: [] for field in fields})
    bare = failover.model_copy(update={field: [] for field in fields})
    with_override = decided(
        RunnerPolicy(failover_policy=failover), RetryPolicy(), failure, override=cleared, retryable=retryable
    )
    assert with_override == decided(RunnerPolicy(failover_policy=bare), RetryPolicy(), failure, retryable=retryable)


@given(runner_policies, retries, failures, flags, flags)
def test_adding_a_rule_that_does_not_match_changes_nothing(gateway, retry, failure, retryable, local):
    """Items that match no failure change no decision, in whatever list they stand."""
    more = {"codes": "no_such_code", "keywords": "no such words", "status_codes": 999}
    denies = {f"deny_{kind}": item for kind, item in more.items()}
    allows = {f"allow_{kind}": item for kind, item in more.items()}
    longer = gateway.model_copy(
        update={
            "hard_stop_policy": with_items(gateway.hard_stop_policy, **more),
            "failover_policy": with_items(gateway.failover_policy, **denies, **allows),
            "priority_demote_policy": with_items(gateway.priority_demote_policy, **more),
        }
    )
    assert decided(longer, with_items(retry, **denies, **allows), failure, retryable=retryable, local=local) == decided(
        gateway, retry, failure, retryable=retryable, local=local
    )


def mangled(data, items):
    """The items in another case, with padding around them; numbers as they are."""
    return [
        data.draw(padding)
        + "".join(data.draw(st.sampled_from([c.lower(), c.upper()])) for c in item)
        + data.draw(padding)
        if isinstance(item, str)
        else item
        for item in items
    ]


def without_value(decision):
    """A decision without the item as it was written, which case and padding do show in."""
    return (
        None
        if decision is None
        else (type(decision), [getattr(decision, name) for name in NAMES[type(decision).__name__]])
    )


NAMES = {
    "RetryDecision": ["retry", "reason"],
    "FailoverDecision": ["retry", "reason", "action", "cooldown_seconds"],
    "DemoteDecision": ["demote", "reason", "step"],
}


@given(st.data(), failovers, retries, codes, words, statuses, flags)
def test_case_and_padding_never_matter(data, failover, retry, code, message, status, retryable):
    """Items and codes written in another case or with spaces around them decide the same."""
    fields = [
        f"{kind}_{name}" for kind in ("deny", "allow") for name in ("categories", "codes", "status_codes", "keywords")
    ]
    shouted = failover.model_copy(update={field: mangled(data, getattr(failover, field)) for field in fields})
    shouted_retry = retry.model_copy(update={field: mangled(data, getattr(retry, field)) for field in fields})
    (shouted_code,) = mangled(data, [code])
    plain = decided(RunnerPolicy(failover_policy=failover), retry, classify(code, message, status), retryable=retryable)
    loud = decided(
        RunnerPolicy(failover_policy=shouted),
        shouted_retry,
        classify(shouted_code, message, status),
        retryable=retryable,
    )
    assert [without_value(decision) for decision in plain] == [without_value(decision) for decision in loud]


@given(runner_policies, retries, failures, flags, flags)
def test_every_decision_names_a_match_or_a_reason(gateway, retry, failure, retryable, local):
    """Retry and failover always name the rule; a demotion names the rule or why there is none."""
    decisions = decided(gateway, retry, failure, retryable=retryable, local=local)
    for decision in (decisions.retry, decisions.failover):
        assert decision.reason
        assert decision.match is not None
        assert decision.match.source
        assert decision.match.policy
        assert decision.match.rule
    if decisions.demote is not None:
        assert decisions.demote.reason
        assert (decisions.demote.match is not None) == decisions.demote.demote


@given(runner_policies, retries, failures, flags, flags)
def test_stop_and_next_are_whole(gateway, retry, failure, retryable, local):
    """A stop has action `stop` and no cooldown; a next has one of the three actions and some seconds."""
    failover = decided(gateway, retry, failure, retryable=retryable, local=local).failover
    if failover.retry:
        assert failover.action in ("next", "cooldown_and_next", "disable_and_next")
        assert failover.cooldown_seconds > 0
    else:
        assert (failover.action, failover.cooldown_seconds) == ("stop", 0)


@given(st.text(string.printable, max_size=30), st.text(max_size=40), st.integers(0, 999))
def test_every_failure_has_one_of_the_twelve_categories(code, message, status):
    """Whatever is said, there is a category for it."""
    assert classify(code, message, status).category in CATEGORIES
