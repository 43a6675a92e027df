"""Who goes when somebody is well again, at the very second and by the very number at which that changes."""

import math

import pytest

from standby.runner._left_over import NOBODY, Awaited
from standby.runner._limits import Limits
from standby.runner._recovery import Recovery
from standby.runner._route import compile_route
from standby.runner.testing import ScriptedClient
from standby.store import Candidate, Model, Provider, RunnerPolicy, RuntimePolicy, Snapshot, Standing

NOW = 1000.0
WELL = None
HALF_OPEN = Standing(cooling_until=NOW - 1, cooled_at=NOW - 10, cooldowns_in_row=1)
DISABLED = Standing(disabled_at=NOW - 10, disabled_by="ada")


def cooling(until):
    return Standing(cooling_until=until, cooled_at=NOW - 10, cooldowns_in_row=1)


def probed(until):
    """Half open, and another run has the probe until then."""
    return Standing(cooling_until=NOW - 1, cooled_at=NOW - 10, cooldowns_in_row=1, probe_holder="x", probe_until=until)


class Lines:
    """Runs that wait for `a`, for `b`, or for both, and what is held against these."""

    def __init__(self, **held):
        listed = [
            Candidate.model_validate({"id": name, "provider": name, "model": "m", "runtime_policy": "own"})
            for name in "ab"
        ]
        snapshot = Snapshot(
            version=1,
            models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed})},
            providers={name: Provider(client=name) for name in "ab"},
            runner_policies={"own": RunnerPolicy()},
            runtime_policies={"own": RuntimePolicy()},
        )
        route = compile_route(snapshot, "chat", {name: ScriptedClient() for name in "ab"}, Limits())
        self.candidates = dict(zip("ab", route.candidates, strict=True))
        self.held = {}
        self.hold(**held)
        self.recovery = Recovery(self.held.get)

    def hold(self, **held):
        """From now on this is held against them."""
        self.held.update({f"candidate:chat/{name}": standing for name, standing in held.items()})

    def wait(self, of="a", *, due=NOW + 20, latest=math.inf, now=NOW, again=False):
        """One more run that waits for these."""
        awaited = Awaited(tuple(self.candidates[name] for name in of), due, latest)
        return self.recovery.join(awaited, now, again=again)

    def went(self, runs, *, of="a"):
        """As many runs go as can when `a` and `b` are well, of so many that waited."""
        self.hold(a=cooling(NOW + 20), b=cooling(NOW + 20))
        waiters = [self.wait(of) for _ in range(runs)]
        self.hold(a=WELL, b=WELL)
        waiters[0].look(NOW)
        return waiters


def turns(waiters):
    """How many of these have had a turn, as a run sees it: it was woken to go."""
    gone = [waiter.woken for waiter in waiters]
    assert gone == sorted(gone, reverse=True), "first come, first served"
    return sum(gone)


def over(waiters, number, *, answered):
    """So many of those who go have come to an end."""
    for waiter in [each for each in waiters if each.turn][:number]:
        waiter.over(NOW, answered=answered)


# -- how many go at once


def test_eight_go_at_once_and_one_more_for_every_two_answers():
    """In the order in which they came."""
    waiters = Lines().went(20)
    gone = [turns(waiters)]
    for _ in range(4):
        over(waiters, 1, answered=True)
        gone.append(turns(waiters))
    assert gone == [8, 9, 11, 12, 14]


def test_a_failure_halves_how_many_go_at_once():
    """What came to no call changes nothing but that somebody else goes: the fifth of eight makes room for the fourth."""
    waiters = Lines().went(20)
    over(waiters, 1, answered=False)
    over(waiters, 3, answered=None)
    assert turns(waiters) == 8
    over(waiters, 1, answered=None)
    assert turns(waiters) == 9


def test_however_many_fail_one_goes_at_a_time():
    """When the last of them is over, and not before."""
    waiters = Lines().went(20)
    over(waiters, 7, answered=False)
    assert turns(waiters) == 8
    over(waiters, 1, answered=False)
    assert turns(waiters) == 9
    over(waiters, 1, answered=None)
    assert turns(waiters) == 10


@pytest.mark.parametrize(("of", "b", "at_once"), [("a", WELL, 1), ("ab", HALF_OPEN, 2), ("ab", cooling(NOW + 9), 1)])
def test_of_who_is_half_open_as_many_go_as_there_are_to_be_probed(of, b, at_once):
    """However many were well before."""
    lines = Lines(a=cooling(NOW + 20), b=cooling(NOW + 20))
    waiters = [lines.wait(of) for _ in range(5)]
    lines.hold(a=HALF_OPEN, b=b)
    waiters[0].look(NOW)
    assert turns(waiters) == at_once


def test_where_one_is_well_all_go_to_it():
    """Whether or not another is half open, or probed."""
    lines = Lines(a=cooling(NOW + 20), b=cooling(NOW + 20))
    waiters = [lines.wait("ab") for _ in range(12)]
    lines.hold(a=probed(NOW + 5), b=WELL)
    waiters[0].look(NOW)
    assert turns(waiters) == 8


def test_of_two_half_open_a_probe_that_is_free_is_made():
    """The other's is held by another run."""
    lines = Lines(a=cooling(NOW + 20), b=cooling(NOW + 20))
    waiter = lines.wait("ab")
    lines.hold(a=probed(NOW + 5), b=HALF_OPEN)
    waiter.look(NOW)
    assert waiter.turn


def test_who_was_half_open_in_between_begins_with_eight_again():
    """What failed before, failed in another incident."""
    lines = Lines()
    waiters = lines.went(30)
    over(waiters, 8, answered=False)
    assert turns(waiters) == 9
    lines.hold(a=HALF_OPEN)
    over(waiters, 1, answered=None)
    lines.hold(a=WELL)
    over(waiters, 1, answered=True)
    assert turns(waiters) == 10 + 8


# -- when they go


@pytest.mark.parametrize(("now", "goes"), [(NOW + 4.9, False), (NOW + 5, True)])
def test_a_probe_is_made_at_the_second_at_which_the_lease_of_another_ends(now, goes):
    """Until then another run may say what it found."""
    lines = Lines(a=probed(NOW + 5))
    waiter = lines.wait(due=NOW + 1)
    waiter.look(now)
    assert waiter.turn is waiter.woken is goes


@pytest.mark.parametrize(("now", "goes"), [(NOW, False), (NOW + 0.9, False), (NOW + 1, True)])
def test_what_a_run_has_seen_when_it_came_is_no_news(now, goes):
    """A probe that the state refused, though nobody is seen to hold it, is not asked for before its time."""
    waiter = Lines(a=HALF_OPEN).wait(due=NOW + 1)
    waiter.look(now)
    assert waiter.turn is goes


def test_what_another_run_has_seen_since_is_no_news_to_who_came_after_it():
    """It goes when it is due."""
    lines = Lines(a=cooling(NOW + 20))
    first = lines.wait()
    lines.hold(a=HALF_OPEN)
    first.look(NOW)
    late = lines.wait(due=NOW + 1)
    first.over(NOW, answered=None)
    assert (first.woken, late.woken) == (True, False)
    assert late.look(NOW + 0.5) == NOW + 1


def test_what_is_as_it_was_is_no_news():
    """However often it is looked at."""
    waiter = Lines(a=HALF_OPEN).wait(due=NOW + 1)
    assert [waiter.look(NOW + at) for at in (0.1, 0.2)] == [NOW + 1, NOW + 1]
    assert not waiter.woken


@pytest.mark.parametrize(
    ("held", "due", "look_at"),
    [
        ({"a": cooling(NOW + 9), "b": cooling(NOW + 7)}, NOW + 8, NOW + 7),
        ({"a": cooling(NOW + 9), "b": probed(NOW + 6)}, NOW + 8, NOW + 6),
        ({"a": cooling(NOW + 9), "b": cooling(NOW + 9)}, NOW + 8, NOW + 8),
        ({"a": cooling(NOW + 9), "b": HALF_OPEN}, NOW + 10, NOW + 9),
        ({"a": cooling(NOW + 9), "b": cooling(NOW + 9)}, NOW, NOW + 9),
        ({"a": DISABLED, "b": DISABLED}, NOW, math.inf),
    ],
)
def test_whoever_looks_hears_when_time_alone_may_change_something(held, due, look_at):
    """A cooldown that ends, a lease that does, or the time at which it is due; of these what is still to come."""
    assert Lines(**held).wait("ab", due=due).look(NOW) == look_at


def test_when_all_are_gone_nobody_is_due():
    """There is nobody to look."""
    lines = Lines(a=cooling(NOW + 20))
    waiter = lines.wait()
    lines.hold(a=WELL)
    assert waiter.look(NOW) == math.inf


# -- in vain


@pytest.mark.parametrize(("latest", "told"), [(NOW + 7, True), (NOW + 6, True), (NOW + 7.1, False), (math.inf, False)])
def test_who_gives_up_before_anybody_is_back_is_told(latest, told):
    """It goes nowhere; who may still be served waits on, and is now the first of the line."""
    lines = Lines(a=cooling(NOW + 5), b=cooling(NOW + 5))
    waiter, other = lines.wait("ab", latest=latest), lines.wait("ab", latest=NOW + 50)
    lines.hold(a=cooling(NOW + 9), b=cooling(NOW + 7))
    waiter.look(NOW)
    assert (waiter.woken, waiter.turn, other.woken) == (told, False, False)
    assert other.looks is told


@pytest.mark.parametrize(("latest", "told"), [(NOW + 50, True), (math.inf, False)])
def test_where_nobody_ever_comes_back_all_are_told_who_wait_for_nothing_else(latest, told):
    """Who waits for capacity as well waits on."""
    lines = Lines(a=cooling(NOW + 5))
    waiters = [lines.wait(latest=latest) for _ in range(3)]
    lines.hold(a=DISABLED)
    waiters[0].look(NOW)
    assert [(each.woken, each.turn) for each in waiters] == [(told, False)] * 3


# -- the line


def test_the_first_looks_for_all():
    """Who stands behind it sees nothing by itself."""
    lines = Lines(a=cooling(NOW + 20))
    first, second = lines.wait(), lines.wait()
    lines.hold(a=WELL)
    assert (first.looks, second.looks) == (True, False)
    assert second.look(NOW) == math.inf
    assert not second.woken


def test_who_is_now_the_first_is_woken_to_look():
    """Nobody else is, and nothing else happens to it."""
    lines, woken = Lines(a=cooling(NOW + 20)), []
    waiters = [lines.wait() for _ in range(4)]
    for name, waiter in zip("1234", waiters, strict=True):
        waiter.wake = lambda name=name: woken.append(name)
    waiters[2].leave()
    assert woken == []
    waiters[0].leave()
    waiters[0].leave()
    assert woken == ["2"]
    assert (waiters[1].looks, waiters[1].woken) == (True, False)


def test_nobody_need_have_said_yet_how_it_is_woken():
    """It has not looked so far, and does so before it waits."""
    lines = Lines(a=cooling(NOW + 20))
    first, second = lines.wait(), lines.wait()
    first.leave()
    assert second.looks


def test_who_has_a_turn_is_told_so():
    """That it is woken says that it need not look."""
    lines, woken = Lines(a=cooling(NOW + 20)), []
    waiter = lines.wait()
    waiter.wake = lambda: woken.append((waiter.woken, waiter.turn))
    lines.hold(a=WELL)
    waiter.look(NOW)
    assert woken == [(True, True)]


def test_who_comes_from_a_turn_stands_in_front():
    """It has waited before all of these."""
    lines = Lines(a=cooling(NOW + 20))
    first, again, last = lines.wait(), lines.wait(again=True), lines.wait()
    assert (first.looks, again.looks, last.looks) == (False, True, False)


def test_who_waits_for_others_stands_in_another_line():
    """Each line has somebody who looks; the order in which candidates are named makes no difference."""
    lines = Lines(a=cooling(NOW + 20), b=cooling(NOW + 20))
    assert [lines.wait(of).looks for of in ("a", "b", "ab", "ba", "a")] == [True, True, True, False, False]


def test_who_waits_for_nobody_stands_in_no_line():
    """It never looks, and leaves nothing behind."""
    lines = Lines()
    waiters = [lines.recovery.join(NOBODY, NOW, again=False) for _ in range(2)]
    assert [(each.looks, each.look(NOW)) for each in waiters] == [(False, math.inf)] * 2
    waiters[0].leave()
    assert lines.recovery._lines == {}


def test_a_turn_is_over_once():
    """Whoever says so again frees nobody else's place; who has had none frees nothing."""
    waiters = Lines().went(20)
    waiters[-1].over(NOW, answered=True)
    waiters[0].over(NOW, answered=None)
    waiters[0].over(NOW, answered=None)
    assert turns(waiters) == 9


def test_a_line_is_kept_while_somebody_goes():
    """Who comes meanwhile is behind them; when all are over nothing is left."""
    lines = Lines()
    waiters = lines.went(8)
    late = lines.wait()
    late.look(NOW + 20)
    assert not late.turn
    late.leave()
    over(waiters, 7, answered=True)
    assert len(lines.recovery._lines) == 1
    over(waiters, 8, answered=True)
    assert lines.recovery._lines == {}


def test_who_leaves_twice_ends_no_line_that_began_since():
    """Who was told that it waits in vain leaves again when its run goes on."""
    lines = Lines(a=cooling(NOW + 20))
    gone = lines.wait()
    gone.leave()
    first = lines.wait()
    gone.leave()
    assert (first.looks, lines.wait().looks) == (True, False)
