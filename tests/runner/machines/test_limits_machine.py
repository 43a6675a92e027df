"""Local capacity, against a model that keeps every amount that was ever taken, with its time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from standby.runner._limits import Lease, Limits
from standby.store import RateLimitPolicy

KEYS = ["a", "b", "of_both"]
policies = st.builds(
    RateLimitPolicy,
    requests_per_minute=st.sampled_from([None, 1, 3]),
    tokens_per_minute=st.sampled_from([None, 10, 25]),
    concurrency=st.sampled_from([None, 1, 3]),
).filter(lambda policy: policy != RateLimitPolicy())
tokens_of_a_call = st.sampled_from([0, 1, 4, 10, 40])
seconds = st.sampled_from([0.0, 0.0, 0.5, 7.0, 30.0, 59.5, 60.0, 200.0])


@dataclass(eq=False)
class Taken:
    """What a lease took, as the model knows it; what it was not used for is 0."""

    keys: tuple[str, ...]
    at: float
    requests: int
    tokens: dict[str, int]
    out: bool = True


class LimitsMachine(RuleBasedStateMachine):
    """Two candidates of one key: each has limits of its own, and both have the key's."""

    leases = Bundle("leases")
    ended = Bundle("ended")

    @initialize(own=policies, other=policies, of_both=policies)
    def configure(self, own, other, of_both):
        limits = Limits()
        self.policies = dict(zip(KEYS, (own, other, of_both), strict=True))
        self.capacities = {key: limits.capacity(key, policy) for key, policy in self.policies.items()}
        self.taken: list[Taken] = []
        self.now = 1000.0

    # -- what may happen ---------------------------------------------------------------------------------------

    @rule(target=leases, keys=st.sampled_from([("a", "of_both"), ("b", "of_both"), ("a",)]), tokens=tokens_of_a_call)
    def take(self, keys, tokens):
        """A lease is refused where the model finds no room, and told when there will be; else it is granted."""
        has_room = self.has_room(keys, tokens, self.now)
        answer = Limits.take([self.capacities[key] for key in keys], tokens, self.now)
        assert isinstance(answer, Lease) == has_room
        if isinstance(answer, Lease):
            counted = {key: min(tokens, self.policies[key].tokens_per_minute or 0) for key in keys}
            taken = Taken(keys, self.now, 1, counted)
            self.taken.append(taken)
            return answer, taken
        self.check_when_it_is_free(keys, tokens, answer.free_at)
        return multiple()

    @rule(target=ended, held=consumes(leases), late=seconds, used=st.booleans(), tokens=st.none() | tokens_of_a_call)
    def end(self, held, late, used, tokens):
        """With the provider's count, within the minute or long after it; what was not used counts for nothing."""
        self.now += late
        lease, taken = held
        lease.end(used=used, tokens=tokens)
        taken.out = False
        if not used:
            taken.requests, taken.tokens = 0, dict.fromkeys(taken.keys, 0)
        elif tokens is not None:
            taken.tokens = {key: tokens if self.policies[key].tokens_per_minute else 0 for key in taken.keys}
        return held

    @rule(held=ended, used=st.booleans())
    def end_twice(self, held, used):
        """A lease that is given back again changes nothing."""
        held[0].end(used=used)

    @rule(late=seconds)
    def time_passes(self, late):
        self.now += late

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def what_is_used_is_what_the_last_minute_took(self):
        """And never less than nothing, however late or often it was settled."""
        for key, capacity in self.capacities.items():
            requests, tokens = capacity.used(self.now)
            assert requests == (self.requests(key, self.now) if self.policies[key].requests_per_minute else 0)
            assert tokens == self.tokens(key, self.now)
            assert min(requests, tokens) >= 0

    @invariant()
    def no_sixty_seconds_hold_more_requests_than_the_limit(self):
        """Whichever minute of the whole history is looked at."""
        for key, policy in self.policies.items():
            if policy.requests_per_minute:
                assert all(self.requests(key, taken.at) <= policy.requests_per_minute for taken in self.taken)

    @invariant()
    def leases_out_are_those_taken_and_not_ended(self):
        """And never more than may be at once."""
        for key, capacity in self.capacities.items():
            assert capacity.in_use == self.out(key)
            assert capacity.in_use <= (self.policies[key].concurrency or math.inf)

    # -- the model ---------------------------------------------------------------------------------------------

    def requests(self, key, at):
        """Requests in the sixty seconds up to ``at``."""
        return sum(taken.requests for taken in self.within_a_minute(key, at))

    def tokens(self, key, at):
        """Tokens in the sixty seconds up to ``at``."""
        return sum(taken.tokens[key] for taken in self.within_a_minute(key, at))

    def within_a_minute(self, key, at):
        return [taken for taken in self.taken if key in taken.keys and at - 60.0 < taken.at <= at]

    def out(self, key):
        return sum(taken.out for taken in self.taken if key in taken.keys)

    def has_room(self, keys, tokens, at):
        """Whether all of these have room, if nothing else happens until then."""
        for key in keys:
            policy = self.policies[key]
            if policy.concurrency and self.out(key) + 1 > policy.concurrency:
                return False
            if policy.requests_per_minute and self.requests(key, at) + 1 > policy.requests_per_minute:
                return False
            limit = policy.tokens_per_minute
            if limit and self.tokens(key, at) + min(tokens, limit) > limit:
                return False
        return True

    def check_when_it_is_free(self, keys, tokens, free_at):
        """It is free then, and not a moment before; or only a lease given back can tell."""
        assert free_at > self.now
        if free_at == math.inf:
            assert not self.has_room(keys, tokens, self.now + 1000.0)
        else:
            assert not self.has_room(keys, tokens, free_at - 0.25)
            assert self.has_room(keys, tokens, free_at)


def test_local_capacity_is_what_a_model_of_all_that_was_taken_says():
    """Whatever is taken, settled and given back, and whenever."""
    run_state_machine_as_test(LimitsMachine, settings=settings(max_examples=70, stateful_step_count=30))
