"""The retry budget of a failure domain: what a retry costs, what brings tokens back, and how many are under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.runner._budget import Budgets, Extra
from standby.runner._decisions import Match, RetryDecision
from standby.store import RetryBudget

HERE = "candidate:chat/a"
ELSEWHERE = "provider:a"
POLICY = RetryBudget()
WORKS = ("not_sent", "rejected", "unknown", "billed")


def failed_retries(budgets, work, policy=POLICY, domain=HERE):
    """How many retries are paid for, one after the other, if none of them succeeds."""
    count = 0
    while isinstance(extra := budgets.take(domain, work, policy), Extra):
        budgets.end(extra, refund=False)
        count += 1
    return count


def exhausted():
    """Budgets of which `HERE` has no token left."""
    budgets = Budgets()
    assert failed_retries(budgets, "rejected") == 20
    return budgets


@pytest.mark.parametrize(("work", "retries"), [("not_sent", 20), ("rejected", 20), ("unknown", 7), ("billed", 7)])
def test_a_hundred_tokens_pay_for_so_many_retries(work, retries):
    """A retry of work that was not done costs 5, one of work that may be done and paid for twice costs 14."""
    assert failed_retries(Budgets(), work) == retries


def test_a_smaller_capacity_pays_for_fewer_retries():
    """It is the policy's, and what is left below the price of one retry pays for none."""
    assert failed_retries(Budgets(), "rejected", RetryBudget(capacity=14)) == 2


def test_a_success_earns_one_token():
    """Five answers pay for one more retry of rejected work, four do not."""
    budgets = exhausted()
    for _ in range(4):
        budgets.succeeded((HERE,))
    assert failed_retries(budgets, "rejected") == 0
    budgets.succeeded((HERE,))
    assert failed_retries(budgets, "rejected") == 1


def test_a_success_earns_in_each_of_its_domains():
    """The candidate's answer speaks for its key and its provider too."""
    budgets = Budgets()
    for domain in (HERE, ELSEWHERE):
        failed_retries(budgets, "rejected", domain=domain)
    for _ in range(5):
        budgets.succeeded((HERE, ELSEWHERE))
    assert (budgets.spent(HERE), budgets.spent(ELSEWHERE)) == (95, 95)


def test_a_retry_that_succeeds_gets_back_what_it_cost():
    """However many of them there are."""
    budgets = Budgets()
    for _ in range(100):
        budgets.end(budgets.take(HERE, "unknown", POLICY), refund=True)
    assert budgets.spent(HERE) == 0


def test_nobody_saves_more_than_the_capacity():
    """A thousand answers when all is well pay for no more than a hundred tokens do."""
    budgets = Budgets()
    for _ in range(1000):
        budgets.succeeded((HERE,))
    assert failed_retries(budgets, "rejected") == 20


def test_each_domain_pays_for_itself():
    """What one has spent leaves the others theirs."""
    assert failed_retries(exhausted(), "rejected", domain=ELSEWHERE) == 20


def test_a_refusal_names_the_rule():
    """As any other decision: reason, source, policy, rule and value."""
    match = Match("gateway_runner_policies.retry_budget", "retryBudget", "capacity", "100")
    assert exhausted().take(HERE, "rejected", POLICY) == RetryDecision(False, "retry_budget_exhausted", match)


def test_a_refused_retry_pays_nothing():
    """Neither a token nor a place among those under way."""
    budgets = Budgets()
    budgets.end(budgets.take(HERE, "rejected", RetryBudget(capacity=18)), refund=False)
    assert isinstance(budgets.take(HERE, "unknown", RetryBudget(capacity=18)), RetryDecision)
    assert (budgets.spent(HERE), budgets.extras) == (5, 0)


@pytest.mark.parametrize(("runs", "extras"), [(0, 3), (1, 3), (19, 3), (20, 4), (24, 4), (25, 5), (500, 100)])
def test_retries_under_way_are_a_fifth_of_the_runs_under_way(runs, extras):
    """Three always may be, however few runs there are."""
    budgets, policy = Budgets(), RetryBudget(capacity=10_000)
    budgets.runs = runs
    taken = [budgets.take(HERE, "rejected", policy) for _ in range(200)]
    assert sum(isinstance(each, Extra) for each in taken) == budgets.extras == extras


@pytest.mark.parametrize(("percent", "extras"), [(0, 3), (50, 100), (100, 200)])
def test_the_share_is_the_policys(percent, extras):
    """`maxInFlightPercent`; 0 leaves the three that always may be."""
    budgets, policy = Budgets(), RetryBudget(capacity=10_000, max_in_flight_percent=percent)
    budgets.runs = 200
    taken = [budgets.take(HERE, "rejected", policy) for _ in range(300)]
    assert sum(isinstance(each, Extra) for each in taken) == extras


def test_too_many_under_way_is_a_refusal_of_its_own():
    """An operator sees which of the two bounds it was, though tokens are left."""
    budgets = Budgets()
    for _ in range(3):
        budgets.take(HERE, "rejected", POLICY)
    match = Match("gateway_runner_policies.retry_budget", "retryBudget", "maxInFlightPercent", "20")
    assert budgets.take(ELSEWHERE, "rejected", POLICY) == RetryDecision(False, "retry_budget_in_flight", match)
    assert budgets.spent(ELSEWHERE) == 0


def test_who_is_over_makes_room():
    """One retry ends, another may begin."""
    budgets = Budgets()
    first, *_ = (budgets.take(HERE, "rejected", POLICY) for _ in range(3))
    budgets.end(first, refund=False)
    assert isinstance(budgets.take(HERE, "rejected", POLICY), Extra)


def test_an_extra_try_ends_once():
    """Whoever tells it again gives nothing back twice."""
    budgets = Budgets()
    budgets.end(budgets.take(HERE, "rejected", POLICY), refund=False)
    extra = budgets.take(HERE, "rejected", POLICY)
    for _ in range(3):
        budgets.end(extra, refund=True)
    assert (budgets.spent(HERE), budgets.extras) == (5, 0)


def test_a_budget_that_is_off_refuses_nothing():
    """Nothing is spent, and what it does not bound counts for nobody else's bound."""
    budgets, policy = Budgets(), RetryBudget(enabled=False, capacity=1)
    extras = [budgets.take(HERE, "unknown", policy) for _ in range(200)]
    assert (budgets.spent(HERE), budgets.extras, budgets.owing) == (0, 0, False)
    for extra in extras:
        budgets.end(extra, refund=True)
    assert budgets.extras == 0


steps = st.one_of(
    st.tuples(st.just("take"), st.sampled_from([HERE, ELSEWHERE]), st.sampled_from(WORKS)),
    st.tuples(st.just("end"), st.booleans(), st.integers(0, 9)),
    st.tuples(st.just("succeeded"), st.sampled_from([(HERE,), (HERE, ELSEWHERE)]), st.none()),
)


@given(st.lists(steps, max_size=60), st.integers(1, 60))
def test_whatever_happens_a_domain_has_between_nothing_and_its_capacity(done, capacity):
    """And when all that was paid for succeeds or is never made, and as many answers come, nothing is owed."""
    budgets, policy = Budgets(), RetryBudget(capacity=capacity)
    budgets.runs = 50
    under_way = []
    for kind, what, which in done:
        if kind == "take" and isinstance(extra := budgets.take(what, which, policy), Extra):
            under_way.append(extra)
        elif kind == "end" and under_way:
            budgets.end(under_way.pop(which % len(under_way)), refund=what)
        elif kind == "succeeded":
            budgets.succeeded(what)
        assert all(0 <= budgets.spent(domain) <= capacity for domain in (HERE, ELSEWHERE))
        assert budgets.extras == len(under_way) <= 10
    for extra in under_way:
        budgets.end(extra, refund=True)
    for _ in range(capacity):
        budgets.succeeded((HERE, ELSEWHERE))
    assert (budgets.extras, budgets.owing) == (0, False)
