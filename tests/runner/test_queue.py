"""The queue for local capacity by itself: who goes first, what is kept for whom, and who is woken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.runner._limits import Capacity, Lease, Refused
from standby.runner._queue import Queue, Ticket
from standby.store import RateLimitPolicy


def capacity(**policy):
    return Capacity(RateLimitPolicy.model_validate(policy))


class Line:
    """A queue as a runner uses it, and who was woken, in that order."""

    def __init__(self):
        self.queue = Queue()
        self.woken = []

    def take(self, *capacities, tokens=0, now=0.0):
        """Capacity for a call, without a wait."""
        return self.queue.take(capacities, tokens, now)

    def wait(self, name, *capacities, now=0.0, tokens=0, priority="normal", model="chat", wants=None):
        """Wait for these, or for one of several candidates: by its name what it needs."""
        listed = [("a", capacities)] if wants is None else list(wants.items())
        ticket = Ticket(listed, tokens, lambda: self.woken.append(name))
        self.queue.join(ticket, model, priority, now)
        self.queue.serve(ticket.capacities(), now)
        return ticket

    def give_back(self, lease, *, now=0.0, used=True):
        """A call is over."""
        lease.end(used=used)
        self.queue.serve([part.capacity for part in lease.parts], now)

    def leave(self, ticket, *, now=0.0):
        """Wait no longer."""
        self.queue.leave(ticket)
        self.queue.serve(ticket.capacities(), now)


@pytest.fixture
def line():
    return Line()


# -- first come, first served


def test_first_come_first_served(line):
    """Among equals whoever came first is served first."""
    place = capacity(concurrency=1)
    lease = line.take(place)
    tickets = [line.wait(name, place, now=1.0) for name in ("first", "second", "third")]
    for ticket in tickets:
        line.give_back(lease, now=5.0)
        lease = ticket.lease
    assert line.woken == ["first", "second", "third"]


def test_whoever_is_woken_holds_a_lease(line):
    """Capacity is handed over before its new holder runs; there is nothing left to race for."""
    place = capacity(concurrency=1)
    lease = line.take(place)
    held = []
    ticket = Ticket([("a", (place,))], 0, lambda: held.append((ticket.key, place.in_use)))
    line.queue.join(ticket, "chat", "normal", 1.0)
    line.give_back(lease, now=2.0)
    assert held == [("a", 1)]
    assert isinstance(ticket.lease, Lease)


def test_nobody_is_woken_for_nothing(line):
    """One place wakes one, and no place wakes none."""
    place = capacity(concurrency=1)
    lease = line.take(place)
    for name in ("first", "second"):
        line.wait(name, place, now=1.0)
    line.queue.serve([place], 2.0)
    assert line.woken == []
    line.give_back(lease, now=3.0)
    line.queue.serve([place], 4.0)
    assert line.woken == ["first"]


def test_all_the_room_there_is_is_handed_out(line):
    """Two who fit are served together."""
    place = capacity(concurrency=2)
    leases = [line.take(place) for _ in range(2)]
    for name in ("first", "second", "third"):
        line.wait(name, place, now=1.0)
    for lease in leases:
        lease.end()
    line.queue.serve([place], 2.0)
    assert line.woken == ["first", "second"]


def test_a_lease_that_was_handed_over_and_not_used_goes_to_the_next(line):
    """It counts for nothing, so that the next is served at the same moment."""
    minute = capacity(requestsPerMinute=1)
    line.take(minute, now=0.0)
    first = line.wait("first", minute, now=1.0)
    line.wait("second", minute, now=2.0)
    line.queue.serve([minute], 60.0)
    line.give_back(first.lease, used=False, now=60.0)
    assert line.woken == ["first", "second"]
    assert minute.used(60.0) == (1, 0)


# -- classes


@pytest.mark.parametrize(
    ("waits", "comes", "seconds_later", "order"),
    [
        ("normal", "high", 9.0, ["comes", "waits"]),
        ("normal", "high", 11.0, ["waits", "comes"]),
        ("low", "normal", 9.0, ["comes", "waits"]),
        ("low", "normal", 11.0, ["waits", "comes"]),
        ("low", "high", 19.0, ["comes", "waits"]),
        ("low", "high", 21.0, ["waits", "comes"]),
        ("high", "normal", 0.0, ["waits", "comes"]),
        ("high", "high", 9.0, ["waits", "comes"]),
        ("low", "low", 9.0, ["waits", "comes"]),
    ],
)
def test_a_class_is_worth_ten_seconds_of_waiting(line, waits, comes, seconds_later, order):
    """A higher class goes before what came up to ten seconds earlier, and not before what came earlier than that."""
    place = capacity(concurrency=1)
    lease = line.take(place)
    tickets = {"waits": line.wait("waits", place, now=100.0, priority=waits)}
    tickets["comes"] = line.wait("comes", place, now=100.0 + seconds_later, priority=comes)
    line.give_back(lease, now=200.0)
    line.give_back(tickets[line.woken[0]].lease, now=200.0)
    assert line.woken == order


# -- one of several candidates


def test_whoever_waits_for_several_takes_the_one_that_is_free(line):
    """The ticket says which it was, and the lease is of that one's capacities."""
    places = {"a": (capacity(concurrency=1),), "b": (capacity(concurrency=1),)}
    line.take(*places["a"])
    lease = line.take(*places["b"])
    ticket = line.wait("waits", wants=places, now=1.0)
    line.give_back(lease, now=2.0)
    assert (ticket.key, [part.capacity for part in ticket.lease.parts]) == ("b", [places["b"][0]])


def test_of_several_that_are_free_it_is_the_first(line):
    """A run names its candidates in its own order."""
    places = {"a": (capacity(concurrency=1),), "b": (capacity(concurrency=1),)}
    leases = [line.take(*places[name]) for name in "ab"]
    ticket = line.wait("waits", wants=places, now=1.0)
    for lease in leases:
        lease.end()
    line.queue.serve([*places["a"], *places["b"]], 2.0)
    assert ticket.key == "a"


def test_whoever_is_served_waits_for_nothing_else(line):
    """What it would have taken instead is the next one's at the same moment."""
    x, y = capacity(concurrency=1), capacity(tokensPerMinute=100)
    lease = line.take(x)
    line.take(y, tokens=60)
    first = line.wait("first", wants={"x": (x,), "y": (y,)}, tokens=90, now=1.0)
    second = line.wait("second", y, tokens=10, now=2.0)
    assert second.lease is None
    line.give_back(lease, now=3.0)
    assert (first.key, second.key) == ("x", "a")
    assert (x.waiters, y.waiters) == ([], [])


def test_when_something_may_be_free_is_the_earliest_of_all_candidates(line):
    """Each candidate is free when the last of its own limits is."""
    x, y, key = capacity(requestsPerMinute=1), capacity(requestsPerMinute=1), capacity(requestsPerMinute=3)
    line.take(key, now=0.0)
    line.take(x, key, now=10.0)
    line.take(y, key, now=20.0)
    ticket = line.wait("waits", wants={"x": (x, key), "y": (y, key)}, now=30.0)
    assert ticket.free_at(30.0) == 70


# -- several limits


def test_whoever_waits_for_two_limits_takes_both_or_none(line):
    """What is free of one is not held while the other has no room."""
    own, key = capacity(concurrency=1), capacity(concurrency=1)
    lease_of_own, lease_of_key = line.take(own), line.take(key)
    ticket = line.wait("waits", own, key, now=1.0)
    line.give_back(lease_of_own, now=2.0)
    assert (ticket.lease, own.in_use) == (None, 0)
    line.give_back(lease_of_key, now=3.0)
    assert (own.in_use, key.in_use) == (1, 1)


def test_whoever_waits_for_one_candidate_does_not_hold_up_others_of_the_same_key(line):
    """The key has room, and the first in line could not use it."""
    own, key = capacity(concurrency=1), capacity(concurrency=2)
    line.take(own, key)
    busy = line.take(key)
    first = line.wait("first", own, key, now=1.0)
    line.wait("second", key, now=2.0)
    line.give_back(busy, now=3.0)
    assert (line.woken, first.lease) == (["second"], None)


def test_a_run_that_comes_takes_what_whoever_waits_does_not_lack(line):
    """To wait for one candidate's own limit keeps nothing of the key."""
    own, key = capacity(concurrency=1), capacity(concurrency=2)
    line.take(own, key)
    line.wait("waits", own, key, now=1.0)
    assert isinstance(line.take(key, now=2.0), Lease)


# -- what is kept


def test_what_somebody_lacks_is_kept_for_it(line):
    """Whoever needs little and is behind does not take the rest of a minute that whoever needs much waits for."""
    minute = capacity(tokensPerMinute=100)
    line.take(minute, tokens=60, now=0.0)
    line.wait("much", minute, tokens=80, now=1.0)
    line.wait("little", minute, tokens=20, now=2.0)
    assert line.woken == []
    line.queue.serve([minute], 60.0)
    assert line.woken == ["much", "little"]


def test_a_run_that_comes_takes_nothing_that_is_kept(line):
    """It is refused, though there is room for it."""
    minute = capacity(tokensPerMinute=100)
    line.take(minute, tokens=60, now=0.0)
    line.wait("much", minute, tokens=80, now=1.0)
    assert isinstance(line.take(minute, tokens=20, now=2.0), Refused)
    assert minute.used(2.0) == (0, 60)


def test_what_is_kept_is_kept_from_lower_ranks_only(line):
    """A high one that came up later goes before a normal one, and so takes what it needs of the rest."""
    minute = capacity(tokensPerMinute=100)
    line.take(minute, tokens=60, now=0.0)
    line.wait("much", minute, tokens=80, now=1.0)
    line.wait("little", minute, tokens=20, now=2.0, priority="high")
    assert line.woken == ["little"]


def test_a_run_that_comes_just_when_there_is_room_does_not_overtake(line):
    """Room that came with time is handed over before anybody else may take it."""
    minute = capacity(requestsPerMinute=1)
    line.take(minute, now=0.0)
    line.wait("waits", minute, now=1.0)
    assert isinstance(line.take(minute, now=60.0), Refused)
    assert line.woken == ["waits"]


def test_a_run_that_comes_takes_what_is_left(line):
    """Who waits is served first, and nothing more is kept for them."""
    minute = capacity(requestsPerMinute=2)
    for _ in range(2):
        line.take(minute, now=0.0)
    line.wait("waits", minute, now=1.0)
    assert isinstance(line.take(minute, now=60.0), Lease)
    assert line.woken == ["waits"]


# -- leaving


def test_whoever_leaves_makes_room_in_the_line(line):
    """The next moves up."""
    place = capacity(concurrency=1)
    lease = line.take(place)
    first = line.wait("first", place, now=1.0)
    line.wait("second", place, now=2.0)
    line.leave(first, now=3.0)
    line.give_back(lease, now=4.0)
    assert line.woken == ["second"]


def test_nothing_is_kept_for_whoever_left(line):
    """Whoever was held up by what was kept is served at that moment."""
    minute = capacity(tokensPerMinute=100)
    line.take(minute, tokens=60, now=0.0)
    much = line.wait("much", minute, tokens=80, now=1.0)
    line.wait("little", minute, tokens=20, now=2.0)
    line.leave(much, now=3.0)
    assert line.woken == ["little"]


def test_to_leave_twice_is_to_leave_once(line):
    """Nor does leaving do anything for whoever was served."""
    place = capacity(concurrency=1)
    lease = line.take(place)
    gone, served, waits = (line.wait(name, place, now=1.0) for name in ("gone", "served", "waits"))
    for _ in range(2):
        line.queue.leave(gone)
    line.give_back(lease, now=2.0)
    line.queue.leave(served)
    assert (line.queue.length("chat"), place.waiters, place.in_use) == (1, [waits], 1)


def test_each_model_counts_its_own(line):
    """Those who wait are counted by model, though they wait for the same key, and no longer when they are served."""
    key = capacity(concurrency=1)
    lease = line.take(key)
    for name, model in (("first", "chat"), ("second", "other"), ("third", "chat")):
        line.wait(name, key, now=1.0, model=model)
    assert [line.queue.length(model) for model in ("chat", "other", "third")] == [2, 1, 0]
    line.give_back(lease, now=2.0)
    assert [line.queue.length(model) for model in ("chat", "other")] == [1, 1]


def test_models_that_share_a_key_wait_in_one_line(line):
    """First come, first served, whichever the model."""
    key = capacity(concurrency=1)
    lease = line.take(key)
    tickets = {
        name: line.wait(name, key, now=1.0, model=model)
        for name, model in (("first", "chat"), ("second", "other"), ("third", "chat"))
    }
    for _ in tickets:
        line.give_back(lease, now=2.0)
        lease = tickets[line.woken[-1]].lease
    assert line.woken == ["first", "second", "third"]


# -- whatever happens


operations = st.lists(
    st.tuples(st.sampled_from(["come", "come", "end", "drop", "leave", "later"]), st.integers(0, 9), st.booleans()),
    max_size=40,
)


@given(operations)
def test_whatever_happens_nothing_is_exceeded_lost_or_overtaken(steps):
    """Calls at once keep to their limits, equals are served in order, and in the end everything was given back."""
    line, now = Line(), 0.0
    key, own = capacity(concurrency=3), capacity(concurrency=2)
    needs = {True: (own, key), False: (key,)}
    held, waiting, came = [], [], 0
    for what, which, needs_both in steps:
        if what == "come":
            came += 1
            lease = line.take(*needs[needs_both], now=now)
            if isinstance(lease, Lease):
                held.append(lease)
            else:
                waiting.append((came, needs_both, line.wait(came, *needs[needs_both], now=now)))
        elif what == "later":
            now += which
        elif what == "leave" and waiting:
            line.leave(waiting.pop(which % len(waiting))[2], now=now)
        elif held and what in ("end", "drop"):
            line.give_back(held.pop(which % len(held)), used=what == "end", now=now)
        held += _served(waiting)
        assert key.in_use == len(held) <= 3
        assert own.in_use == sum(len(lease.parts) == 2 for lease in held) <= 2
        assert not waiting or key.in_use == 3 or (own.in_use == 2 and all(both for _, both, _ in waiting))
    while held:
        line.give_back(held.pop(), now=now)
        held += _served(waiting)
    assert (waiting, key.in_use, own.in_use, key.waiters, own.waiters) == ([], 0, 0, [], [])


def _served(waiting):
    """The leases of those who were served, who no longer wait; they overtook nobody that needs the same."""
    served = [each for each in waiting if each[2].lease is not None]
    for each in served:
        waiting.remove(each)
    assert not any(
        number < last and needs_both == needs for number, needs_both, _ in waiting for last, needs, _ in served
    )
    return [ticket.lease for _, _, ticket in served]
