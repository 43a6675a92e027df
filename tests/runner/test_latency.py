"""How long candidates took lately: what is remembered, and what a percentile of it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.runner._latency import Latencies


def known(*seconds, candidate="chat/a"):
    """What is known of one candidate that took so long, one time after the other."""
    latencies = Latencies()
    for each in seconds:
        latencies.add(candidate, each)
    return latencies


@pytest.mark.parametrize(("times", "slow_after"), [(0, math.inf), (1, math.inf), (19, math.inf), (20, 3.0), (21, 3.0)])
def test_twenty_times_are_enough(times, slow_after):
    """Of fewer nobody can say what is slow."""
    assert known(*[3.0] * times).slow_after("chat/a", 95) == slow_after


@pytest.mark.parametrize(
    ("percentile", "seconds"),
    [(0.1, 1), (1, 1), (5, 1), (5.1, 2), (50, 10), (90, 18), (95, 19), (95.1, 20), (99.9, 20)],
)
def test_a_percentile_is_one_of_the_times(percentile, seconds):
    """The shortest that so many per cent of them were no slower than: here they are one to twenty seconds."""
    assert known(*range(1, 21)).slow_after("chat/a", percentile) == seconds


def test_the_order_in_which_they_came_does_not_matter():
    """The slow ones may be the oldest or the newest."""
    assert known(*range(20, 0, -1)).slow_after("chat/a", 95) == 19
    assert known(*range(1, 21, 2), *range(2, 21, 2)).slow_after("chat/a", 95) == 19


def test_one_slow_answer_of_twenty_is_beyond_the_ninety_fifth_percentile():
    """It does not move what is expected of the others."""
    assert known(*[1.0] * 19, 600.0).slow_after("chat/a", 95) == 1.0


def test_two_slow_answers_of_twenty_are_not():
    """A tenth of all answers is no exception."""
    assert known(*[1.0] * 18, 600.0, 600.0).slow_after("chat/a", 95) == 600.0


@pytest.mark.parametrize(("newer", "seconds"), [(0, 9.0), (94, 9.0), (95, 1.0), (100, 1.0), (500, 1.0)])
def test_only_the_last_hundred_are_remembered(newer, seconds):
    """The hundred and first takes the place of the first."""
    assert known(*[9.0] * 100, *[1.0] * newer).slow_after("chat/a", 95) == seconds


@pytest.mark.parametrize(("newer", "seconds"), [(99, 9.0), (100, 1.0)])
def test_the_hundredth_is_remembered(newer, seconds):
    """It is the slowest here, and so the last percentile."""
    assert known(9.0, *[1.0] * newer).slow_after("chat/a", 99.9) == seconds


def test_what_is_new_counts_at_once():
    """Whoever has looked before sees it when they look again."""
    latencies = known(*[9.0] * 20)
    assert latencies.slow_after("chat/a", 5) == 9.0
    latencies.add("chat/a", 1.0)
    latencies.add("chat/a", 1.0)
    assert latencies.slow_after("chat/a", 5) == 1.0


def test_where_a_hundred_are_known_twenty_new_ones_are_put_in_order_together():
    """To do so for each would cost every call more than it tells anybody; so it goes on, twenty by twenty."""
    latencies = known(*[1.0] * 100)
    assert latencies.slow_after("chat/a", 99.9) == 1.0
    for before, then in ((1.0, 5.0), (5.0, 9.0)):
        for _ in range(19):
            latencies.add("chat/a", then)
            assert latencies.slow_after("chat/a", 99.9) == before
        latencies.add("chat/a", then)
        assert latencies.slow_after("chat/a", 99.9) == then


def test_each_percentile_is_found_for_itself():
    """Two models may ask for different ones of the same candidate."""
    latencies = known(*range(1, 21))
    assert [latencies.slow_after("chat/a", percentile) for percentile in (50, 95, 50)] == [10, 19, 10]


def test_each_candidate_is_known_for_itself():
    """What one took says nothing of another."""
    latencies = known(*[9.0] * 20)
    for _ in range(20):
        latencies.add("chat/b", 1.0)
    assert (latencies.slow_after("chat/a", 95), latencies.slow_after("chat/b", 95)) == (9.0, 1.0)


def test_nothing_is_known_of_who_was_never_asked():
    """Nobody is slow then."""
    assert known(*[1.0] * 20).slow_after("chat/b", 95) == math.inf


def test_looking_changes_nothing():
    """Whoever looks twice sees the same."""
    latencies = known(*range(20, 0, -1))
    assert [latencies.slow_after("chat/a", 50) for _ in range(3)] == [10, 10, 10]
    assert latencies.slow_after("chat/a", 95) == 19


@given(times=st.lists(st.integers(0, 9), min_size=20, max_size=250), percentile=st.sampled_from([1, 50, 90, 95, 99.9]))
def test_so_many_per_cent_of_the_last_hundred_were_no_slower(times, percentile):
    """And of those that were quicker it is less: whatever came, in whatever order."""
    slow_after = known(*times).slow_after("chat/a", percentile)
    last = times[-100:]
    assert sum(seconds <= slow_after for seconds in last) * 100 >= len(last) * percentile
    assert sum(seconds < slow_after for seconds in last) * 100 < len(last) * percentile
