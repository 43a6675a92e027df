"""What would be decided, by which rule, and where it is written."""

import pytest

from standby.lab import Question, UnknownName, ask, explain
from standby.store import parse

DOCUMENT = """
version: 1
providers:
  openai: {client: openai, api_key: k}
runner_policies:
  own:
    status: ${STATUS:-active}
    hardStopPolicy: {keywords: [" Policy Violation "]}
    failoverPolicy: {denyCodes: [context_length_exceeded], allowCategories: [network, Rate_Limit], actions: {rate_limit: cooldown_and_next}}
    priorityDemotePolicy: {enabled: true, statusCodes: [503], demoteStep: 10, restoreSeconds: 0}
runtime_policies:
  own: {retryPolicy: {maxAttempts: 3, denyStatusCodes: [503]}}
models:
  chat:
    runner_policy: own
    candidates:
      - {id: shared, provider: openai, model: m, runtime_policy: own}
      - id: special
        provider: openai
        model: m
        runtime_policy: own
        runtimePolicyOverride: {failoverPolicy: {allowCategories: [timeout]}, retryPolicy: {denyStatusCodes: [500, 503]}}
  plain:
    candidates: [{id: shared, provider: openai, model: m}]
"""


def explained(environ=None, **asked):
    question = Question(**{"model": "chat", "candidate": "shared", **asked})
    told = explain(parse(DOCUMENT, environ=environ or {}).snapshot(), question).told
    return {each.question: each for each in told}


@pytest.mark.parametrize(
    ("asked", "question", "reason", "written"),
    [
        ({"status": 503}, "retry", "retry_deny_policy", "runtime_policies.own.retryPolicy.denyStatusCodes[0]"),
        (
            {"status": 503, "candidate": "special"},
            "retry",
            "retry_deny_policy",
            "models.chat.candidates[1].runtimePolicyOverride.retryPolicy.denyStatusCodes[1]",
        ),
        (
            {"status": 429},
            "failover",
            "failover_allow_policy",
            "runner_policies.own.failoverPolicy.allowCategories[1]",
        ),
        (
            {"code": "timeout", "candidate": "special"},
            "failover",
            "failover_allow_policy",
            "models.chat.candidates[1].runtimePolicyOverride.failoverPolicy.allowCategories[0]",
        ),
        (
            {"status": 400, "message": "a policy violation"},
            "failover",
            "hard_stop_policy",
            "runner_policies.own.hardStopPolicy.keywords[0]",
        ),
        (
            {"status": 503},
            "demotion",
            "priority_demote_policy",
            "runner_policies.own.priorityDemotePolicy.statusCodes[0]",
        ),
        (
            {"status": 429, "model": "plain"},
            "failover",
            "failover_allow_policy",
            "runner_policies.recommended.failoverPolicy.allowCategories[0] (built in)",
        ),
        ({"status": 503}, "failover", "client_retryable", "the provider client's own word; no list matched"),
        ({"local": True}, "retry", "local_rate_limit_wait_queue", "runtime_policies.own.rateLimitPolicy"),
    ],
)
def test_each_decision_says_where_its_rule_is_written(asked, question, reason, written):
    """The path leads to the item in the document, the candidate's own policy told from the shared one."""
    told = explained(**asked)[question]
    assert (told.reason, told.written) == (reason, written)


def test_a_disabled_policy_is_named_by_its_status():
    """The path is the status itself."""
    told = explained({"STATUS": "paused"}, status=503)["failover"]
    assert (told.reason, told.written) == ("runner_policy_disabled", "runner_policies.own.status")


@pytest.mark.parametrize(
    ("asked", "question", "sentence"),
    [
        (
            {"status": 500},
            "retry",
            (
                "The same candidate may be tried again, 3 tries in all, after a backoff. "
                "It costs 14 of the 100 tokens of the retry budget."
            ),
        ),
        (
            {"status": 429},
            "failover",
            "The next candidate is tried, and every candidate with this one's credential and model is left out for 300 s.",
        ),
        (
            {"status": 503},
            "demotion",
            "This candidate is ranked 10 lower, once for this incident; until somebody restores it.",
        ),
        ({"status": 400}, "failover", "The run stops: no other candidate is tried."),
    ],
)
def test_each_decision_is_told_as_a_sentence(asked, question, sentence):
    """What happens, in words, with the numbers of the policy."""
    assert explained(**asked)[question].sentence == sentence


def test_a_disablement_that_is_rechecked_says_when():
    """Not until somebody enables it."""
    recheck = DOCUMENT.replace(
        "actions: {rate_limit: cooldown_and_next}", "actions: {rate_limit: disable_and_next}, recheckSeconds: 90"
    )
    explanation = explain(parse(recheck).snapshot(), Question(model="chat", candidate="shared", status=429))
    assert explanation.told[1].sentence == (
        "The next candidate is tried, and this one is left out for 90 s, when one run checks it."
    )


def test_a_policy_that_observes_says_what_it_would_do():
    """The run stops, by the policy's status; beside that stands what the policy would decide if it were active."""
    question = Question(model="chat", candidate="shared", status=429)
    explanation = explain(parse(DOCUMENT, environ={"STATUS": "observe"}).snapshot(), question)
    assert [(each.question, each.answer, each.reason) for each in explanation.told] == [
        ("retry", "yes", "client_retryable"),
        ("failover", "stop", "runner_policy_disabled"),
        ("demotion", "no", "runner_policy_disabled"),
    ]
    assert [(each.question, each.answer, each.reason) for each in explanation.told_observed] == [
        ("failover", "cooldown_and_next", "failover_allow_policy"),
        ("demotion", "no", "priority_demote_no_match"),
    ]
    assert explanation.as_dict()["observed"]["failover"]["action"] == "cooldown_and_next"


def test_code_and_retryable_are_what_the_client_would_say():
    """An operator who has only a status and a text asks as well as one who knows our codes."""
    snapshot = parse(DOCUMENT).snapshot()
    quota = "You exceeded your current quota, please check your plan and billing details."
    explanation = explain(snapshot, Question(model="chat", candidate="shared", status=429, message=quota))
    assert (explanation.info.code, explanation.retryable) == ("insufficient_balance", False)


def test_unknown_names_are_said_with_the_known_ones():
    """A misspelt model or candidate is an error that helps."""
    with pytest.raises(UnknownName, match="no model is named 'chta'; there are: chat, plain"):
        explained(model="chta")
    with pytest.raises(UnknownName, match="has no candidate 'x'; it has: shared, special"):
        explained(candidate="x")


def test_a_question_in_json_that_makes_no_sense_is_refused():
    """Unknown keys and wrong types are said by name."""
    snapshot = parse(DOCUMENT).snapshot()
    with pytest.raises(ValueError, match="`status`"):
        ask(snapshot, {"model": "chat", "candidate": "shared", "status": "429"})
    with pytest.raises(ValueError, match="`colour`"):
        ask(snapshot, {"model": "chat", "candidate": "shared", "colour": 1})


def test_an_answer_in_json_has_the_contracts_decisions():
    """The shape of the decision contract, and each decision in words beside it."""
    answer = ask(parse(DOCUMENT).snapshot(), {"model": "chat", "candidate": "shared", "status": 429})
    assert answer["failover"]["action"] == "cooldown_and_next"
    assert answer["explained"]["failover"]["reason"] == "failover_allow_policy"
