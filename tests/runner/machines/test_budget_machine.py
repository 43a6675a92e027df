"""Retry budgets, against a model that is a number for each domain and a list of what is under way."""

from __future__ import annotations

from dataclasses import astuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from standby.runner._budget import Budgets, Extra
from standby.store import RetryBudget

DOMAINS = ["candidate:chat/a", "candidate:chat/b", "provider:p"]
COSTS = {"not_sent": 5, "rejected": 5, "unknown": 14, "billed": 14}

domains = st.sampled_from(DOMAINS)
works = st.sampled_from(sorted(COSTS))


class BudgetMachine(RuleBasedStateMachine):
    """Runs that begin and end, and extra tries that they pay for."""

    extras = Bundle("extras")
    ended = Bundle("ended")

    @initialize(capacity=st.sampled_from([4, 5, 20, 100]), percent=st.sampled_from([0, 20, 100]))
    def configure(self, capacity, percent):
        self.policy = RetryBudget(capacity=capacity, max_in_flight_percent=percent)
        self.budgets = Budgets()
        self.spent = dict.fromkeys(DOMAINS, 0)
        self.under_way: list[Extra] = []

    # -- what may happen ---------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 20))
    def runs_begin(self, count):
        self.budgets.runs += count

    @precondition(lambda self: self.budgets.runs)
    @rule(data=st.data())
    def runs_end(self, data):
        self.budgets.runs -= data.draw(st.integers(1, self.budgets.runs))

    @rule(target=extras, domain=domains, work=works)
    def take(self, domain, work):
        """An extra try is paid for where tokens and places under way suffice; what is refused takes nothing."""
        allowed_at_once = max(3, self.budgets.runs * self.policy.max_in_flight_percent // 100)
        affordable = self.spent[domain] + COSTS[work] <= self.policy.capacity
        answer = self.budgets.take(domain, work, self.policy)
        if len(self.under_way) >= allowed_at_once:
            assert answer.reason == "retry_budget_in_flight"
        elif not affordable:
            assert answer.reason == "retry_budget_exhausted"
        else:
            assert (answer.domain, answer.cost) == (domain, COSTS[work])
            self.spent[domain] += COSTS[work]
            self.under_way.append(answer)
            return answer
        return multiple()

    @rule(target=ended, domain=domains, work=works)
    def take_where_the_budget_is_off(self, domain, work):
        """Nothing is refused then, nor paid, nor counted."""
        extra = self.budgets.take(domain, work, RetryBudget(enabled=False, capacity=1, max_in_flight_percent=0))
        assert (extra.cost, extra.ended) == (0, True)
        return extra

    @rule(target=ended, extra=consumes(extras), refund=st.booleans())
    def end(self, extra, refund):
        """What succeeded, or was not made, gets back what it cost; a budget that is full stays full."""
        self.budgets.end(extra, refund=refund)
        self.under_way.remove(extra)
        if refund:
            self.earn(extra.domain, extra.cost)
        return extra

    @rule(extra=ended, refund=st.booleans())
    def end_twice(self, extra, refund):
        """What has ended already changes nothing."""
        before = astuple(extra)
        self.budgets.end(extra, refund=refund)
        assert astuple(extra) == before

    @rule(of=st.lists(domains, max_size=3, unique=True))
    def succeed(self, of):
        """A success earns one token in each of its domains."""
        self.budgets.succeeded(tuple(of))
        for domain in of:
            self.earn(domain, 1)

    def earn(self, domain, tokens):
        self.spent[domain] = max(0, self.spent[domain] - tokens)

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def spent_is_what_the_model_says(self):
        assert {domain: self.budgets.spent(domain) for domain in DOMAINS} == self.spent
        assert self.budgets.owing == any(self.spent.values())

    @invariant()
    def spent_is_never_negative_nor_above_the_capacity(self):
        for domain in DOMAINS:
            assert 0 <= self.budgets.spent(domain) <= self.policy.capacity

    @invariant()
    def extras_are_those_taken_and_not_ended(self):
        assert self.budgets.extras == len(self.under_way)
        assert not any(extra.ended for extra in self.under_way)

    def teardown(self):
        """With successes only, however many retries were lost, every budget is full again."""
        for extra in self.under_way:
            self.budgets.end(extra, refund=False)
        assert self.budgets.extras == 0
        for _ in range(self.policy.capacity):
            self.budgets.succeeded(tuple(DOMAINS))
        assert [self.budgets.spent(domain) for domain in DOMAINS] == [0, 0, 0]
        assert not self.budgets.owing


def test_a_retry_budget_is_what_a_model_of_it_says():
    """Whatever is taken, ended and earned, and in whatever order."""
    run_state_machine_as_test(BudgetMachine, settings=settings(max_examples=50, stateful_step_count=40))
