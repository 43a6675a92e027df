"""What a runner does within limits that processes share: whom it asks, what it does with the answer, and with a share."""

import math

import pytest

from standby.runner._limits import ASK_AGAIN_SECONDS, Capacity, Lease, Limits, Refused
from standby.runner._queue import Ticket
from standby.store import Asked, Full, RateLimitPolicy

pytestmark = pytest.mark.anyio

NOW = 1000.0
REQUESTS = RateLimitPolicy(requests_per_minute=8, shared=True)
PLACES = RateLimitPolicy(concurrency=8, shared=True)
TOKENS = RateLimitPolicy(tokens_per_minute=80, shared=True)
OWN = RateLimitPolicy(concurrency=8, shared=False)


class Grant:
    def __init__(self):
        self.told = []

    def end(self, *, used, tokens=None):
        self.told += ["used" if used is True else "not used" if used is False else used, tokens]


class Others:
    """Who counts for all processes: it answers as it is told to, and remembers what it heard."""

    share = 1.0

    def __init__(self, answer=None):
        self.answer = answer if answer is not None else Grant()
        self.asked, self.left, self.listeners = [], [], []

    def listen(self, room, share_changed):
        self.listeners.append((room, share_changed))

    async def take(self, asked, waited_seconds, *, in_line):
        self.asked.append((list(asked), waited_seconds, in_line))
        return self.answer

    def leave(self, keys):
        self.left.append(keys)


def at_once(capacity, now=NOW):
    """How many of twenty calls of it there may be."""
    tried = [Limits.take((capacity,), 0, now) for _ in range(20)]
    taken = [lease for lease in tried if isinstance(lease, Lease)]
    for lease in taken:
        lease.end(used=False)
    return len(taken)


def waited_for(capacity):
    """Somebody waits for it here."""
    capacity.waiters.append(Ticket((), 0, lambda: None))


# -- what is asked of others


async def test_others_are_asked_for_what_is_shared():
    """How much, of which limits, how long it has waited, and whether it goes on waiting: once."""
    others = Others()
    limits = Limits(others)
    tokens, own = limits.capacity("chat/a", TOKENS), limits.capacity("caller:app", OWN)
    lease = limits.take((tokens, own), 30, NOW)
    assert await limits.confirm(lease, NOW, NOW - 5, in_line=True) is None
    assert others.asked == [([Asked("chat/a", TOKENS, 30)], 5.0, True)]
    assert await limits.confirm(lease, NOW, NOW - 5, in_line=True) is None
    assert len(others.asked) == 1


@pytest.mark.parametrize("others", [None, Others()])
async def test_where_nothing_is_shared_nobody_is_asked(others):
    """The policy says so, or nobody counts for all."""
    limits = Limits(others)
    lease = limits.take((limits.capacity("a", OWN if others else PLACES),), 0, NOW)
    assert await limits.confirm(lease, NOW, NOW, in_line=False) is None
    assert (limits.shares, lease.grant) == (others is not None, None)
    assert others is None or (others.asked, others.listeners) == ([], [])


def test_a_capacity_is_nobody_elses_where_nothing_else_is_said():
    """It has no name by which others would know it."""
    capacity = Capacity(OWN)
    assert (capacity.key, capacity.shared, capacity.take(0, NOW).to_be_asked) == ("", False, False)


async def test_what_was_granted_is_settled_and_given_back():
    """In the provider's count, and as used or not used."""
    for end, told in (
        ({"used": True, "tokens": 7}, ["used", 7]),
        ({"used": True}, ["used", None]),
        ({"used": False}, ["not used", None]),
    ):
        others = Others()
        limits = Limits(others)
        lease = limits.take((limits.capacity("a", TOKENS),), 30, NOW)
        await limits.confirm(lease, NOW, NOW, in_line=False)
        lease.end(**end)
        lease.end(**end)
        assert others.answer.told == told


async def test_what_others_refuse_is_given_back_as_not_used():
    """Of all that it needs; it hears when the last of them has room."""
    limits = Limits(Others(Full({"a": 20.0, "b": 30.0})))
    capacities = limits.capacity("a", REQUESTS), limits.capacity("b", TOKENS), limits.capacity("c", OWN)
    lease = limits.take(capacities, 30, NOW)
    assert await limits.confirm(lease, NOW, NOW, in_line=False) == Refused(NOW + 30)
    assert [(each.in_use, each.used(NOW)) for each in capacities] == [(0, (0, 0))] * 3
    assert lease.grant is None


async def test_a_refusal_that_names_no_limit_tells_no_time():
    """Only a call that ends can tell."""
    limits = Limits(Others(Full({})))
    lease = limits.take((limits.capacity("a", PLACES),), 0, NOW)
    assert await limits.confirm(lease, NOW, NOW, in_line=True) == Refused(math.inf)


# -- who asks next


@pytest.mark.parametrize(
    ("seconds", "in_line", "free_at"),
    [
        (20.0, False, NOW),
        (20.0, True, NOW + 20),
        (math.inf, True, NOW + ASK_AGAIN_SECONDS),
        (math.inf, False, NOW),
    ],
)
async def test_who_was_refused_asks_again_when_time_has_come(seconds, in_line, free_at):
    """Where only a call that ends can tell, every now and then; of what had room, or where it does not wait, at once."""
    limits = Limits(Others(Full({"a": seconds})))
    a, b = limits.capacity("a", PLACES), limits.capacity("b", PLACES)
    await limits.confirm(limits.take((a, b), 0, NOW), NOW, NOW, in_line=in_line)
    assert (a.free_at(0, NOW), b.free_at(0, NOW)) == (free_at, NOW)
    assert isinstance(limits.take((a,), 0, NOW), Lease) is (free_at == NOW)
    assert isinstance(limits.take((a,), 0, free_at), Lease)


async def test_room_that_is_told_of_before_the_answer_is_there_is_not_overlooked():
    """However often that happens: who was refused asks again at once."""

    class Overtaken(Others):
        async def take(self, asked, waited_seconds, *, in_line):
            ((room, _),) = self.listeners
            room(("a",))
            return Full({"a": 20.0})

    limits = Limits(Overtaken())
    places = limits.capacity("a", PLACES)
    for _ in range(3):
        await limits.confirm(limits.take((places,), 0, NOW), NOW, NOW, in_line=True)
        assert places.free_at(0, NOW) == NOW


async def test_who_leaves_while_others_are_asked_has_used_nothing():
    """Nothing is under way, and the minute has counted no request."""

    class Away(Others):
        async def take(self, asked, waited_seconds, *, in_line):
            raise ConnectionError

    limits = Limits(Away())
    minute = limits.capacity("a", RateLimitPolicy.model_validate({"requestsPerMinute": 5}))
    with pytest.raises(ConnectionError):
        await limits.confirm(limits.take((minute,), 0, NOW), NOW, NOW, in_line=True)
    assert (minute.in_use, minute.used(NOW)) == (0, (0, 0))


def test_while_others_have_room_any_number_asks_at_once():
    """Nobody waits for what another hears."""
    capacity = Capacity(PLACES, shared=True)
    assert at_once(capacity) == 8


def test_where_others_have_no_room_one_at_a_time_asks():
    """The next when it has heard, and none before all have that asked already."""
    capacity = Capacity(PLACES, shared=True)
    first, second = capacity.take(0, NOW), capacity.take(0, NOW)
    capacity.asked(first)
    capacity.refused(NOW)
    assert (capacity.free_at(0, NOW), capacity.take(0, NOW)) == (math.inf, None)
    capacity.asked(second)
    assert capacity.free_at(0, NOW) == NOW
    assert at_once(capacity) == 1
    assert capacity.take(0, NOW) is not None


def test_who_goes_away_before_it_has_heard_lets_the_next_ask():
    """However its call ends."""
    capacity = Capacity(PLACES, shared=True)
    capacity.refused(NOW)
    for used in (True, False):
        part = capacity.take(0, NOW)
        assert capacity.free_at(0, NOW) == math.inf
        capacity.give_back(part, used=used)
        assert (part.to_be_asked, capacity.free_at(0, NOW)) == (False, NOW)


@pytest.mark.parametrize(("anybody", "at_a_time"), [(False, 8), (True, 1)])
def test_when_others_have_room_again_all_ask_unless_somebody_waits_here(anybody, at_a_time):
    """Room that was told of is for one, and whoever gets it lets the next ask."""
    capacity = Capacity(PLACES, shared=True)
    capacity.refused(20.0)
    if anybody:
        waited_for(capacity)
    capacity.granted()
    assert (capacity.free_at(0, 0.0), at_once(capacity, 0.0)) == (0.0, at_a_time)


def test_who_waits_for_what_others_have_makes_nobody_careful():
    """Not before others have refused."""
    capacity = Capacity(PLACES, shared=True)
    waited_for(capacity)
    capacity.granted()
    assert at_once(capacity) == 8


async def test_what_was_granted_says_that_there_is_room():
    """Of all that was asked for."""
    limits = Limits(Others())
    capacities = limits.capacity("a", PLACES), limits.capacity("b", PLACES)
    for each in capacities:
        each.refused(NOW)
    lease = limits.take(capacities, 0, NOW)
    assert [each.free_at(0, NOW) for each in capacities] == [math.inf, math.inf]
    await limits.confirm(lease, NOW, NOW, in_line=False)
    assert [at_once(each) for each in capacities] == [7, 7]


def test_a_refusal_counts_tokens_as_well():
    """When there is room elsewhere there may be none here."""
    capacity = Capacity(TOKENS, shared=True)
    capacity.asked(capacity.take(60, NOW))
    capacity.refused(NOW + 1)
    assert (capacity.take(30, NOW + 2), capacity.free_at(30, NOW + 2)) == (None, NOW + 60)
    assert capacity.take(20, NOW + 2) is not None


# -- what others say


def test_others_are_listened_to_once():
    """When there is the first limit to share."""
    others = Others()
    limits = Limits(others)
    limits.capacity("own", OWN)
    assert others.listeners == []
    for key in "ab":
        limits.capacity(key, PLACES)
    assert len(others.listeners) == 1


def test_room_is_told_of_what_is_known_here():
    """It may be asked for at once."""
    others, told = Others(), []
    limits = Limits(others, room=lambda found: told.append(list(found)))
    a, b = limits.capacity("a", PLACES), limits.capacity("b", PLACES)
    for each in (a, b):
        each.refused(NOW + 20)
    ((room, _),) = others.listeners
    room(("x", "a"))
    room(("x",))
    assert told == [[a]]
    assert (a.free_at(0, NOW), b.free_at(0, NOW)) == (NOW, NOW + 20)


def test_room_need_be_told_to_nobody():
    """It may be asked for all the same."""
    others = Others()
    a = Limits(others).capacity("a", PLACES)
    a.refused(NOW + 20)
    ((room, _),) = others.listeners
    room(("a",))
    assert a.free_at(0, NOW) == NOW


def test_others_are_told_of_what_nobody_waits_for():
    """Of what they count, and of nothing that somebody still waits for."""
    others = Others()
    limits = Limits(others)
    a, b, own = limits.capacity("a", PLACES), limits.capacity("b", PLACES), limits.capacity("own", OWN)
    with limits.in_line((b,)):
        with limits.in_line((a, b, own)):
            assert (a.in_line, b.in_line, others.left) == (1, 2, [])
        assert others.left == [["a"]]
        with limits.in_line((b, own)):
            pass
        assert others.left == [["a"]]
    assert others.left == [["a"], ["b"]]
    assert (a.in_line, b.in_line, own.in_line) == (0, 0, 0)


def test_when_nobody_waits_any_more_anybody_may_ask():
    """What the others said to those who waited is not kept for who comes later."""
    limits = Limits(Others())
    a = limits.capacity("a", PLACES)
    with limits.in_line((a,)):
        a.refused(NOW + 20)
        assert a.free_at(0, NOW) == NOW + 20
    assert a.free_at(0, NOW) == NOW


# -- the share


@pytest.mark.parametrize(
    ("others", "processes", "policy", "may"),
    [
        (None, 1, PLACES, 8),
        (None, 4, PLACES, 2),
        (None, 4, OWN, 8),
        (None, 16, PLACES, 1),
        (None, 3, REQUESTS, 2),
        (1.0, 4, PLACES, 8),
        (0.25, 1, PLACES, 2),
        (0.5, 4, PLACES, 2),
        (0.5, 4, OWN, 8),
    ],
)
def test_each_process_has_its_share_of_what_is_shared(others, processes, policy, may):
    """All of it where somebody counts for all and is heard; one call at least."""
    heard = None if others is None else Others()
    if heard is not None:
        heard.share = others
    assert at_once(Limits(heard, processes).capacity("a", policy)) == may


def test_without_others_there_is_one_process_where_nothing_else_is_said():
    """It may use all."""
    assert at_once(Limits().capacity("a", PLACES)) == 8


def test_when_the_share_changes_there_is_less_or_more_of_what_is_shared():
    """Whoever waits is served from it, and a refusal from before says nothing any more."""
    others, told = Others(), []
    limits = Limits(others, 4, lambda found: told.append(list(found)))
    a, b, own = limits.capacity("a", PLACES), limits.capacity("b", REQUESTS), limits.capacity("own", OWN)
    a.refused(NOW + 20)
    ((_, share_changed),) = others.listeners
    for share, may in ((0.25, [2, 2, 8]), (1.0, [8, 8, 8])):
        others.share = share
        share_changed()
        assert [at_once(each) for each in (a, b, own)] == may
    assert told == [[a, b], [a, b]]


def test_what_was_taken_before_the_share_shrank_counts():
    """As many requests have to be a minute old as are too many now."""
    capacity = Capacity(RateLimitPolicy(requests_per_minute=4))
    for at in range(4):
        capacity.take(0, NOW + at)
    capacity.use_share(0.5)
    assert capacity.free_at(0, NOW + 10) == NOW + 62


async def test_what_was_taken_before_the_share_shrank_is_given_back_where_it_is_too_much():
    """Nobody could be asked; there is room when the last of its limits has some, and until then nothing is used."""
    others = Others()
    limits = Limits(others)
    places, requests, tokens = (limits.capacity(*each) for each in (("p", PLACES), ("r", REQUESTS), ("t", TOKENS)))
    for at in range(7):
        limits.take((requests,), 0, NOW + at).end()
    lease = limits.take((places, requests, tokens), 10, NOW + 10)
    others.share = 0.25
    others.listeners[0][1]()
    assert await limits.confirm(lease, NOW + 10, NOW, in_line=False) == Refused(NOW + 65)
    assert (places.in_use, others.answer.told) == (0, ["not used", None])


def test_others_that_were_never_heard_do_not_say_how_many_there_are():
    """Then it is as many as this process was told of."""
    others = Others()
    others.share = None
    limits = Limits(others, 4)
    assert at_once(limits.capacity("a", RateLimitPolicy(concurrency=8))) == 2


async def test_what_is_within_the_share_is_granted():
    """However small the share is by now."""
    others = Others()
    limits = Limits(others)
    lease = limits.take((limits.capacity("a", PLACES), limits.capacity("b", TOKENS)), 20, NOW)
    others.share = 0.25
    others.listeners[0][1]()
    assert await limits.confirm(lease, NOW, NOW, in_line=False) is None
    assert others.answer.told == []


async def test_where_others_were_asked_what_they_grant_holds():
    """More tokens than the limit were used meanwhile, by a call that had been granted before."""
    limits = Limits(Others())
    tokens = limits.capacity("a", TOKENS)
    before, lease = limits.take((tokens,), 40, NOW), limits.take((tokens,), 40, NOW)
    before.end(tokens=90)
    assert await limits.confirm(lease, NOW, NOW, in_line=False) is None


# -- by itself


def test_of_a_call_that_was_never_made_nothing_is_counted_whichever_came_later():
    """What is free when a minute is over is what was used."""
    capacity = Capacity(RateLimitPolicy(requests_per_minute=2))
    first = capacity.take(0, NOW)
    capacity.take(0, NOW + 5)
    capacity.give_back(first, used=False)
    capacity.take(0, NOW + 10)
    assert capacity.free_at(0, NOW + 20) == NOW + 65
    assert capacity.used(NOW + 61) == (2, 0)
