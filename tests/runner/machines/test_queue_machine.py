"""The queue for local capacity, against a simple model: a list of who waits, in the order of their ranks.

The machine does what the runs' shells do: whoever joins looks at once, whoever waits looks when it is due and at no other
time, and whoever was served, or leaves, hands on what they no longer wait for.
"""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from standby.runner._limits import Capacity, Lease, Part
from standby.runner._queue import Queue, Ticket
from standby.store import RateLimitPolicy

HEAD_STARTS = {"high": 10.0, "normal": 0.0, "low": -10.0}
MODELS = ["chat", "mail"]
WANTS = [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")]

policies = st.builds(
    RateLimitPolicy,
    requests_per_minute=st.sampled_from([None, 2]),
    tokens_per_minute=st.sampled_from([None, 10]),
    concurrency=st.sampled_from([None, 1, 2]),
).filter(lambda policy: policy != RateLimitPolicy())
tokens_of_a_call = st.sampled_from([1, 4, 10])
seconds = st.sampled_from([0.5, 5.0, 20.0, 60.0])


class Waiter:
    """A run in the queue, and its rank as the model has it."""

    def __init__(self, machine, wants, tokens, model, priority, came_up_at):
        self.wants = wants
        self.model = model
        self.rank = (came_up_at - HEAD_STARTS[priority], len(machine.waiters))
        self.ticket = Ticket([(key, machine.candidates[key]) for key in wants], tokens, lambda: machine.was_woken(self))


class QueueMachine(RuleBasedStateMachine):
    """Three candidates with limits of their own, two of them with one of their key, and runs of two models."""

    @initialize(a=policies, b=policies, c=policies, of_both=policies)
    def configure(self, a, b, c, of_both):
        own = {name: Capacity(policy) for name, policy in (("a", a), ("b", b), ("c", c))}
        key = Capacity(of_both)
        self.capacities = [*own.values(), key]
        self.candidates = {"a": (own["a"], key), "b": (own["b"], key), "c": (own["c"],)}
        self.queue = Queue()
        self.now = 1000.0
        self.leases: list[Lease] = []
        self.handed_over: list[Part] = []
        self.waiters: list[Waiter] = []
        self.waiting: list[Waiter] = []
        self.woken: list[Waiter] = []

    def was_woken(self, waiter):
        """Whoever is woken holds what one candidate needs, is the first of those who want the same, and overtook nobody."""
        lease, earlier = waiter.ticket.lease, [other for other in self.waiting if other.rank < waiter.rank]
        assert waiter in self.waiting
        assert waiter.ticket.key in waiter.wants
        assert [part.capacity for part in lease.parts] == list(self.candidates[waiter.ticket.key])
        assert not any(other.wants == waiter.wants for other in earlier)
        self.handed_over += lease.parts
        for other in earlier:
            wanted = other.ticket.capacities().intersection(self.candidates[waiter.ticket.key])
            assert not any(self.lacks(other, capacity, before=self.handed_over) for capacity in wanted)
        self.waiting.remove(waiter)
        self.woken.append(waiter)
        self.leases.append(lease)

    def serve(self, capacities):
        self.handed_over = []
        self.queue.serve(capacities, self.now)

    # -- what may happen ---------------------------------------------------------------------------------------

    @rule(key=st.sampled_from("abc"), tokens=tokens_of_a_call, when_due=st.booleans())
    def come(self, key, tokens, when_due):
        """A run that comes takes what is free, unless somebody waits for want of it, or for just that."""
        if when_due and self.waiting and self.next_due() < math.inf:
            self.now = max(self.now, self.next_due())
        wanted = self.candidates[key]
        lacking = self.lacking()
        first = min(self.waiting, key=by_rank, default=None)
        its_turn = first is not None and any(
            not any(self.lacks(first, each) for each in self.candidates[other])
            and set(self.candidates[other]) & set(wanted)
            for other in first.wants
        )
        self.handed_over = []
        answer = self.queue.take(wanted, tokens, self.now)
        if isinstance(answer, Lease):
            self.leases.append(answer)
            assert not any(waiter in self.waiting and capacity in wanted for waiter, capacity in lacking)
            assert not (its_turn and first in self.waiting)
        else:
            kept = [capacity for _, capacity in self.lacking()]
            assert any(each in kept or each.free_at(tokens, self.now) > self.now for each in wanted)
        self.look_until(self.now)

    @rule(
        wants=st.sampled_from(WANTS),
        tokens=tokens_of_a_call,
        model=st.sampled_from(MODELS),
        priority=st.sampled_from(["normal", "normal", "high", "low"]),
        ago=st.sampled_from([0.0, 0.0, 5.0]),
    )
    def join(self, wants, tokens, model, priority, ago):
        """Somebody who came up for the queue just now, or before."""
        waiter = Waiter(self, wants, tokens, model, priority, self.now - ago)
        self.waiters.append(waiter)
        self.waiting.append(waiter)
        self.queue.join(waiter.ticket, model, priority, self.now - ago)
        self.serve(waiter.ticket.capacities())

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 5))
    def leave(self, number):
        """Somebody waits no longer, and what was kept for them is handed on."""
        waiter = self.waiting[number % len(self.waiting)]
        self.waiting.remove(waiter)
        self.queue.leave(waiter.ticket)
        self.serve(waiter.ticket.capacities())

    @precondition(lambda self: self.woken)
    @rule()
    def whoever_was_woken_goes_on(self):
        """And hands on what they waited for beside what they got."""
        waiter = self.woken.pop(0)
        self.queue.leave(waiter.ticket)
        self.serve(waiter.ticket.capacities())

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 5), used=st.booleans(), tokens=st.sampled_from([None, 0, 4, 12]))
    def give_back(self, number, used, tokens):
        lease = self.leases[number % len(self.leases)]
        self.leases.remove(lease)
        lease.end(used=used, tokens=tokens)
        self.serve([part.capacity for part in lease.parts])

    @rule(passed=seconds)
    def time_passes(self, passed):
        while self.woken:
            self.whoever_was_woken_goes_on()
        self.look_until(self.now + passed)

    def look_until(self, until):
        """Capacity that comes with time is nobody's to hand over: whoever waits for it looks when it is due."""
        while self.waiting and self.next_due() <= until:
            self.now = max(self.now, self.next_due())
            waiter = next(each for each in self.waiting if each.ticket.due <= self.now)
            self.serve(waiter.ticket.capacities())
            assert waiter not in self.waiting or waiter.ticket.due > self.now
        self.now = until

    def next_due(self):
        return min(waiter.ticket.due for waiter in self.waiting)

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def nobody_both_waits_and_holds(self):
        assert all(waiter.ticket.lease is None for waiter in self.waiting)

    @invariant()
    def lengths_are_those_of_the_model(self):
        for model in MODELS:
            assert self.queue.length(model) == sum(waiter.model == model for waiter in self.waiting)

    @invariant()
    def each_capacity_knows_who_waits_for_it_in_the_order_of_their_ranks(self):
        for capacity in self.capacities:
            assert capacity.waiters == [
                waiter.ticket
                for waiter in sorted(self.waiting, key=by_rank)
                if any(capacity in self.candidates[key] for key in waiter.wants)
            ]

    @invariant()
    def leases_never_exceed_the_capacity(self):
        for capacity in self.capacities:
            assert capacity.in_use == sum(part.capacity is capacity for lease in self.leases for part in lease.parts)
            assert capacity.in_use <= (capacity.policy.concurrency or math.inf)
            assert capacity.used(self.now)[0] <= (capacity.policy.requests_per_minute or math.inf)

    @precondition(lambda self: not self.woken)
    @invariant()
    def nobody_waits_for_what_is_free(self):
        """Once everybody has handed on what they no longer want, all who wait lack something or are behind others."""
        kept = set()
        for waiter in sorted(self.waiting, key=by_rank):
            lacks = [{each for each in self.candidates[key] if self.lacks(waiter, each)} for key in waiter.wants]
            assert all(
                lacking | (kept & set(self.candidates[key])) for key, lacking in zip(waiter.wants, lacks, strict=True)
            )
            kept = kept.union(*lacks)

    def teardown(self):
        """In time all who wait are served, though whoever is served takes a minute; then nobody is waited for."""
        for _ in range(len(self.waiters) + 1):
            while self.woken:
                self.whoever_was_woken_goes_on()
            while self.leases:
                lease = self.leases.pop()
                lease.end()
                self.serve([part.capacity for part in lease.parts])
            self.time_passes(60.0)
        assert not self.waiting
        assert [capacity.waiters for capacity in self.capacities] == [[], [], [], []]
        assert [self.queue.length(model) for model in MODELS] == [0, 0]

    # -- the model ---------------------------------------------------------------------------------------------

    def lacks(self, waiter, capacity, before=()):
        """Whether the capacity has no room for this one, or had none before these parts were taken."""
        policy, parts = capacity.policy, [part for part in before if part.capacity is capacity]
        requests, tokens = capacity.used(self.now)
        limit = policy.tokens_per_minute
        if policy.concurrency is not None and capacity.in_use - len(parts) >= policy.concurrency:
            return True
        if policy.requests_per_minute is not None and requests - len(parts) >= policy.requests_per_minute:
            return True
        asked = sum(part.tokens for part in parts)
        return limit is not None and tokens - asked + min(waiter.ticket.tokens, limit) > limit

    def lacking(self):
        """Who waits, and for want of what."""
        return [
            (waiter, capacity)
            for waiter in self.waiting
            for capacity in waiter.ticket.capacities()
            if self.lacks(waiter, capacity)
        ]


def by_rank(waiter):
    return waiter.rank


def test_the_queue_is_first_come_first_served_and_starves_nobody():
    """Whoever comes, waits, leaves and gives back, and in whatever order."""
    run_state_machine_as_test(QueueMachine, settings=settings(max_examples=120, stateful_step_count=40))
