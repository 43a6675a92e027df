"""What the queue keeps for somebody who would do with one of several candidates, and what it tells them."""

import math

from standby.runner._limits import Capacity, Lease
from standby.runner._queue import Queue, Ticket
from standby.store import RateLimitPolicy


def tokens_a_minute(count):
    return Capacity(RateLimitPolicy(tokens_per_minute=count))


def waiting(queue, tokens, **wants):
    """A ticket in the queue for one of these, and the candidates that it was served."""
    served = []
    ticket = Ticket(list(wants.items()), tokens, lambda: served.append(ticket.key))
    queue.join(ticket, "chat", "normal", 0.0)
    return ticket, served


def test_all_that_is_lacking_is_kept():
    """Of each candidate that would do, not of the last one alone: who needs less of it does not overtake."""
    queue, a, b = Queue(), tokens_a_minute(100), tokens_a_minute(100)
    assert isinstance(queue.take((a,), 50, 0.0), Lease)
    assert isinstance(queue.take((b,), 100, 0.0), Lease)
    much, little = waiting(queue, 80, a=(a,), b=(b,)), waiting(queue, 10, a=(a,))
    queue.serve((a, b), 1.0)
    assert (much[1], little[1]) == ([], [])


def test_where_time_alone_brings_nothing_no_time_is_told():
    """Whoever waits for a call to end has nothing to wake up for."""
    queue, place = Queue(), Capacity(RateLimitPolicy(concurrency=1))
    assert isinstance(queue.take((place,), 0, 0.0), Lease)
    ticket, _ = waiting(queue, 0, a=(place,))
    told = []
    ticket.due_changed = lambda: told.append(ticket.due)
    queue.serve((place,), 1.0)
    assert (ticket.due, told) == (math.inf, [])


def test_what_is_kept_for_one_stays_kept_when_another_lacks_something_else():
    """Whoever comes last takes neither."""
    queue, a, b = Queue(), tokens_a_minute(100), tokens_a_minute(100)
    assert isinstance(queue.take((a, b), 50, 0.0), Lease)
    waiting(queue, 80, a=(a,))
    waiting(queue, 80, b=(b,))
    last, served = waiting(queue, 10, a=(a,))
    queue.serve((a, b), 1.0)
    assert served == []
    assert last.due == math.inf  # until one of the others is served


def test_a_request_that_was_never_made_makes_nobody_wait_shorter():
    """What is free when it is a minute old is what was used."""
    place = Capacity(RateLimitPolicy(requests_per_minute=1))
    place.give_back(place.take(0, 0.0), used=False)
    place.take(0, 10.0)
    assert place.free_at(0, 20.0) == 70.0


def test_more_tokens_than_the_limit_are_all_of_it():
    """What is over it is not owed in the minutes after."""
    assert tokens_a_minute(100).take(500, 0.0).tokens == 100
