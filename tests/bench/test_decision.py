"""What one full decision costs: classify, retry, failover and demotion of one failure."""

from timeit import timeit

from standby.runner import classify, compile_rules, decide
from standby.store import (
    FailoverPolicy,
    HardStopPolicy,
    PriorityDemotePolicy,
    RetryPolicy,
    RunnerPolicy,
    RuntimePolicy,
)
from tests.bench.report import Blocks, at_most

DECISIONS = 1000
ROUNDS = 60
MESSAGE = "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000."


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


def test_decision_with_forty_rules_and_more(report):
    """A hundred times the rules cost no more: the same few look-ups, and one scan of the text.

    The least of all rounds, since what else the machine does only adds to it.
    """
    rules = {f"{count} rules": rules_that_do_not_match(count) for count in (40, 400, 4000)}
    measured = {name: [] for name in rules}
    for _ in range(ROUNDS):
        for name, each in rules.items():
            seconds = timeit(lambda each=each: decide_once(each), number=DECISIONS)
            measured[name].append(seconds / DECISIONS * 1e6)
    least = Blocks({name: [min(values)] for name, values in measured.items()})
    report.table("One full decision, the least of 60 blocks", "µs", least, beside="40 rules")
    report.must(
        at_most(3.0, "a full decision with 40 rules", least.median("40 rules"), "µs"),
        at_most(1.4, "a full decision with 400 rules, beside 40", least.times("400 rules", "40 rules")),
        at_most(1.4, "a full decision with 4,000 rules, beside 40", least.times("4000 rules", "40 rules")),
    )
