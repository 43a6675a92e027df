"""What one full decision costs: classify, retry, failover and demotion of one failure."""

from timeit import timeit

import pytest

from standby.runner import classify, compile_rules, decide
from standby.store import (
    FailoverPolicy,
    HardStopPolicy,
    PriorityDemotePolicy,
    RetryPolicy,
    RunnerPolicy,
    RuntimePolicy,
)

MESSAGE = "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000."
TARGET_MICROSECONDS = 5.0


def rules_that_do_not_match(count):
    """So many rules, spread over all lists of all policies, none of which matches."""
    each = count // 8
    policy = RunnerPolicy(
        hard_stop_policy=HardStopPolicy(
            codes=[f"stop_{n}" for n in range(each)], keywords=[f"stop words {n}" for n in range(each)]
        ),
        failover_policy=FailoverPolicy(
            deny_codes=[f"deny_{n}" for n in range(each)],
            deny_keywords=[f"deny words {n}" for n in range(each)],
            allow_status_codes=[600 + n % 300 for n in range(each)],
        ),
        priority_demote_policy=PriorityDemotePolicy(
            enabled=True,
            codes=[f"demote_{n}" for n in range(each)],
            keywords=[f"demote words {n}" for n in range(each)],
        ),
    )
    return compile_rules(
        policy, RuntimePolicy(retry_policy=RetryPolicy(deny_codes=[f"retry_{n}" for n in range(each)]))
    )


def decide_once(rules):
    return decide(rules, classify("server_error", MESSAGE, 503), retryable=True)


def test_one_decision_with_forty_rules_is_fast(benchmark):
    """Under 5 µs; the least of all rounds, since what else the machine does only adds to it."""
    benchmark.group = "one full decision"
    rules = rules_that_do_not_match(40)
    assert benchmark(decide_once, rules).failover.reason == "client_retryable"
    assert benchmark.stats["min"] * 1e6 < TARGET_MICROSECONDS


@pytest.mark.parametrize("count", [400, 4000])
def test_a_decision_does_not_grow_with_lists_that_do_not_match(count):
    """A hundred times the rules cost no more: the same few look-ups, and one scan of the text."""
    few, many = rules_that_do_not_match(40), rules_that_do_not_match(count)
    blocks = [
        (timeit(lambda: decide_once(few), number=500), timeit(lambda: decide_once(many), number=500)) for _ in range(60)
    ]
    ratio = min(block[1] for block in blocks) / min(block[0] for block in blocks)
    print(f"\none full decision with {count} rules beside one with 40: {ratio:.2f} x")
    assert ratio < 1.4
