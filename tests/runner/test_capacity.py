"""Local capacity by itself: windows of a minute, calls at once, and leases of several of them."""

import math

import pytest

from standby.runner._limits import Capacity, Lease, Limits, Refused
from standby.store import RateLimitPolicy


def capacity(**policy):
    return Capacity(RateLimitPolicy.model_validate(policy))


def take(*capacities, tokens=0, now=0.0):
    return Limits.take(capacities, tokens, now)


# -- windows


@pytest.mark.parametrize(("now", "free_at"), [(0.0, 60.0), (59.9, 60.0), (60.0, 60.0), (75.0, 75.0)])
def test_a_minute_is_sixty_seconds_from_what_was_taken(now, free_at):
    """It is not the clock's minute, and it is over when sixty seconds are."""
    requests = capacity(requestsPerMinute=1)
    take(requests)
    assert requests.free_at(0, now) == free_at


def test_a_window_opens_by_what_is_a_minute_old():
    """Each call is forgotten by itself, the oldest first."""
    requests = capacity(requestsPerMinute=2)
    take(requests, now=0.0)
    take(requests, now=30.0)
    assert requests.free_at(0, 40.0) == 60
    take(requests, now=60.0)
    assert requests.free_at(0, 61.0) == 90


def test_many_tokens_are_free_when_enough_calls_are_a_minute_old():
    """A call that needs much waits for more than one to be forgotten."""
    tokens = capacity(tokensPerMinute=100)
    for now in (0.0, 10.0, 20.0):
        take(tokens, tokens=30, now=now)
    assert [tokens.free_at(amount, 25.0) for amount in (10, 40, 41, 100)] == [25, 60, 70, 80]


def test_more_tokens_than_the_limit_are_free_when_all_of_it_is():
    """A call that is estimated too high is not refused for ever."""
    tokens = capacity(tokensPerMinute=100)
    take(tokens, tokens=1, now=5.0)
    assert tokens.free_at(1_000_000, 6.0) == 65


def test_calls_at_once_have_no_time():
    """Only a lease given back can tell when there is a place."""
    places = capacity(concurrency=1)
    take(places)
    assert places.free_at(0, 1_000.0) == math.inf


# -- all or none


def test_a_call_takes_all_the_capacity_that_it_needs():
    """Its candidate's and its key's at once."""
    own, of_key = capacity(concurrency=2, tokensPerMinute=50), capacity(concurrency=3, requestsPerMinute=9)
    assert isinstance(take(own, of_key, tokens=20), Lease)
    assert (own.in_use, own.used(1.0)) == (1, (0, 20))
    assert (of_key.in_use, of_key.used(1.0)) == (1, (1, 0))


@pytest.mark.parametrize("turned_round", [False, True])
def test_a_call_that_lacks_one_capacity_takes_none(turned_round):
    """Nothing is taken of those that have room, whichever is asked first."""
    free, full = capacity(concurrency=5, requestsPerMinute=5, tokensPerMinute=50), capacity(concurrency=1)
    take(full)
    assert isinstance(take(*((full, free) if turned_round else (free, full)), tokens=7), Refused)
    assert (free.in_use, free.used(0.0)) == (0, (0, 0))
    assert full.in_use == 1


def test_who_is_refused_hears_when_the_last_of_them_is_free():
    """A call needs all of them, so that is the time that counts."""
    own, of_key = capacity(requestsPerMinute=1), capacity(requestsPerMinute=2)
    take(own, of_key, now=0.0)
    take(of_key, now=10.0)
    assert take(own, of_key, now=20.0) == Refused(60)
    take(of_key, now=60.0)
    assert take(own, of_key, now=61.0) == Refused(70)


# -- what comes of a lease


def test_a_lease_that_was_used_gives_back_its_place_only():
    """The request and the tokens of the minute stay counted."""
    all_three = capacity(concurrency=1, requestsPerMinute=5, tokensPerMinute=50)
    take(all_three, tokens=20).end()
    assert (all_three.in_use, all_three.used(1.0)) == (0, (1, 20))


def test_a_lease_that_was_not_used_counts_for_nothing():
    """Neither as a request nor by its tokens, on any of its limits."""
    own, of_key = capacity(concurrency=1, requestsPerMinute=1), capacity(requestsPerMinute=1, tokensPerMinute=50)
    take(own, of_key, tokens=50).end(used=False)
    assert (own.in_use, own.used(0.0), of_key.used(0.0)) == (0, (0, 0), (0, 0))
    assert isinstance(take(own, of_key, tokens=50), Lease)


def test_a_lease_is_given_back_once():
    """Whoever ends it again gives back nobody else's."""
    places = capacity(concurrency=1)
    first = take(places)
    first.end()
    take(places)
    first.end()
    assert (places.in_use, take(places)) == (1, Refused(math.inf))


def test_tokens_that_nobody_limits_are_not_told():
    """Though the provider counted them."""
    requests = capacity(requestsPerMinute=1)
    take(requests).end(tokens=7)
    assert requests.used(0.0) == (1, 0)


def test_a_lease_that_was_used_stays_so():
    """To end it again as one that was not used takes nothing out of the count."""
    requests = capacity(requestsPerMinute=1)
    lease = take(requests)
    lease.end()
    lease.end(used=False)
    assert requests.used(0.0) == (1, 0)


@pytest.mark.parametrize(("counted", "left"), [(5, 95), (80, 20), (0, 100)])
def test_tokens_are_settled_on_every_limit(counted, left):
    """What the provider counted replaces the estimate on the candidate's limit and on its key's."""
    own, of_key = capacity(tokensPerMinute=100), capacity(tokensPerMinute=100)
    lease = take(own, of_key, tokens=40)
    lease.end(tokens=counted)
    for each in (own, of_key):
        assert each.used(1.0) == (0, counted)
        assert (each.free_at(left, 1.0), each.free_at(left + 1, 1.0)) == (1, 60 if counted else 1)


def test_tokens_may_turn_out_to_be_more_than_the_limit():
    """Then nothing is free until that call is a minute old."""
    tokens = capacity(tokensPerMinute=100)
    take(tokens, tokens=10).end(tokens=250)
    assert (tokens.used(59.0), tokens.free_at(1, 59.0)) == ((0, 250), 60)
    assert tokens.free_at(100, 60.0) == 60


def test_an_estimate_above_the_limit_is_settled_by_what_was_counted():
    """The rest of the limit is free again."""
    tokens = capacity(tokensPerMinute=100)
    take(tokens, tokens=5_000).end(tokens=30)
    assert (tokens.used(1.0), tokens.free_at(70, 1.0)) == ((0, 30), 1)


def test_tokens_that_nothing_counts_are_not_remembered():
    """A caller may have asked for any number."""
    assert [part.tokens for part in take(capacity(requestsPerMinute=5), tokens=9 * 10**18).parts] == [0]


@pytest.mark.parametrize("what_comes", [lambda lease: lease.end(tokens=90), lambda lease: lease.end(used=False)])
def test_a_call_longer_than_a_minute_settles_nothing(what_comes):
    """Its request and its tokens are forgotten by then; those of others are not touched."""
    minute = capacity(requestsPerMinute=5, tokensPerMinute=100)
    lease = take(minute, tokens=30, now=0.0)
    take(minute, tokens=40, now=50.0)
    assert minute.used(60.0) == (1, 40)
    what_comes(lease)
    assert minute.used(60.0) == (1, 40)


# -- whose they are


def test_what_limits_nothing_is_no_capacity():
    """There is nothing to take, and nothing to give back."""
    assert Limits().capacity("credential:openai", RateLimitPolicy()) is None


def test_a_capacity_is_kept_while_its_policy_is_the_same():
    """A reload that changes something else forgets nothing that was used."""
    limits = Limits()
    known = limits.capacity("credential:openai", RateLimitPolicy(concurrency=2))
    assert limits.capacity("credential:openai", RateLimitPolicy(concurrency=2)) is known
    assert limits.capacity("credential:other", RateLimitPolicy(concurrency=2)) is not known
    assert limits.capacity("credential:openai", RateLimitPolicy(concurrency=3)) is not known


@pytest.mark.parametrize(
    ("policy", "counts"),
    [({"concurrency": 1}, False), ({"requestsPerMinute": 1}, False), ({"tokensPerMinute": 1}, True)],
)
def test_only_a_limit_of_tokens_needs_an_estimate(policy, counts):
    """Where there is none no body is looked at."""
    assert capacity(**policy).counts_tokens is counts
