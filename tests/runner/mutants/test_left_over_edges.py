"""Who is left of a run, and what it does instead, at the very second at which that changes."""

import math

import pytest

from standby.runner._health import Availability, availability
from standby.runner._left_over import Awaited, LeftOver, retry_after_seconds
from standby.runner._limits import Limits
from standby.runner._record import RunRecord
from standby.runner._route import compile_route
from standby.runner._steps import Enqueue, GiveUp, Wait
from standby.runner.testing import ScriptedClient
from standby.store import Candidate, Model, Provider, RunnerPolicy, RuntimePolicy, Snapshot, Standing

A = "candidate:chat/a"
NOW = 30.0


def cooling(until):
    return Standing(cooling_until=until, cooled_at=10.0, cooldowns_in_row=1)


def probed(until):
    """Half open, and another run has the probe until then."""
    return Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1, probe_holder="x", probe_until=until)


class Left:
    """A run of `a` and `b` at the end of its candidates, what is held against them, and what it does then."""

    def __init__(self, *, deadline=500.0, useful=1.0, **queue):
        names = ("a", "b")
        listed = [
            Candidate.model_validate({"id": name, "provider": name, "model": "m", "runtime_policy": "own"})
            for name in names
        ]
        snapshot = Snapshot(
            version=1,
            models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed, "queue": queue})},
            providers={name: Provider.model_validate({"client": name}) for name in names},
            runner_policies={"own": RunnerPolicy()},
            runtime_policies={"own": RuntimePolicy()},
        )
        route = compile_route(snapshot, "chat", {name: ScriptedClient([]) for name in names}, Limits())
        self.held = {}
        self.a, self.b = route.candidates
        record = RunRecord("run_1", "chat", 1, 0.0)
        self.over = LeftOver(route, record, self.standing, deadline, lambda _: useful)

    def standing(self, domain):
        return self.held.get(domain)

    def pass_by(self, now=NOW, **held):
        """Both are passed by for what is held against them."""
        self.held = {f"candidate:chat/{name}": standing for name, standing in held.items()}
        for candidate in (self.a, self.b):
            if candidate.id in held:
                self.over.passed_by(candidate, availability(candidate, self.held.get, now))
        return self.over


# -- waiting for health


def test_the_earliest_is_waited_for():
    """It is the first that may be called."""
    assert Left().pass_by(a=cooling(50.0), b=cooling(40.0)).next(NOW) == Wait(40.0)


def test_what_ends_after_the_longest_wait_is_not_waited_for():
    """The caller is told when to come again."""
    over = Left(maxWaitSeconds=10).pass_by(a=cooling(50.0), b=cooling(45.0))
    assert over.next(NOW) == GiveUp("unavailable", 15.0)


@pytest.mark.parametrize(("until", "step"), [(39.0, Wait(39.0)), (40.0, GiveUp("unavailable", 10.0))])
def test_what_ends_with_the_longest_wait_is_not_waited_for(until, step):
    """Its end would be too late by nothing, but too late."""
    assert Left(maxWaitSeconds=10).pass_by(a=cooling(until), b=cooling(90.0)).next(NOW) == step


def test_the_longest_wait_is_counted_from_its_begin():
    """To look again does not make it longer."""
    over = Left(maxWaitSeconds=10).pass_by(a=cooling(35.0), b=cooling(90.0))
    assert over.next(NOW) == Wait(35.0)
    assert over.next(34.0) == Wait(35.0)
    left = Left(maxWaitSeconds=10)
    over = left.pass_by(a=probed(60.0), b=cooling(90.0))
    assert over.next(NOW) == Wait(40.0)
    assert over.next(39.0) == Wait(40.0)
    assert over.next(40.0) == GiveUp("unavailable", 20.0)


def test_no_wait_leaves_too_little_time_for_a_call():
    """The deadline, less what a call needs, bounds it."""
    over = Left(deadline=45.0, useful=5.0).pass_by(a=probed(60.0), b=cooling(90.0))
    assert over.next(NOW) == Wait(40.0)


def test_a_probe_of_another_run_is_waited_for_though_its_lease_ends_late():
    """It may answer before that."""
    over = Left(maxWaitSeconds=10).pass_by(a=probed(60.0), b=cooling(90.0))
    assert over.next(NOW) == Wait(40.0)


def test_who_is_disabled_is_not_waited_for():
    """But when it is rechecked is when to come again."""
    left = Left()
    disabled = Standing(disabled_at=5.0, disabled_by="policy", recheck_at=50.0)
    assert left.pass_by(a=disabled, b=disabled).next(NOW) == GiveUp("unavailable", 20.0)


def test_who_is_disabled_for_good_is_no_reason_to_come_again():
    """Nobody knows when that ends."""
    disabled = Standing(disabled_at=5.0, disabled_by="ann")
    assert Left().pass_by(a=disabled, b=disabled).next(NOW) == GiveUp("unavailable", None)


def test_nobody_is_waited_for_while_somebody_is_usable():
    """It had its turn, and did not answer: the others are no reason to keep the caller."""
    assert Left().pass_by(a=cooling(40.0)).next(NOW) == GiveUp("unavailable", 10.0)


def test_whoever_was_called_and_cools_down_says_when_to_come_again():
    """It is not waited for: it has had its turn."""
    left = Left()
    left.held = {A: cooling(40.0)}
    assert left.over.next(NOW) == GiveUp("unavailable", 10.0)


def test_a_recovery_is_awaited_as_long_as_the_run_waits_for_nothing_else():
    """Where it waits for local capacity as well, that wait has an end of its own."""
    left = Left(maxWaitSeconds=10)
    over = left.pass_by(a=cooling(35.0), b=cooling(90.0))
    assert over.awaited(NOW) == Awaited((left.a, left.b), 35.0, math.inf)
    assert over.next(NOW) == Wait(35.0)
    assert over.awaited(NOW) == Awaited((left.a, left.b), 35.0, 40.0)
    over.at_limit(left.a, 65.0)
    assert over.awaited(NOW) == Awaited((left.a, left.b), 35.0, math.inf)


# -- turns after all


def test_whoever_may_be_called_again_has_a_turn_and_one_alone():
    """It is not passed by any more."""
    left = Left()
    over = left.pass_by(a=cooling(40.0), b=cooling(90.0))
    left.held[A] = Standing()
    assert over.next(NOW) == [left.a]
    left.held[A] = cooling(95.0)
    assert over.next(NOW) == GiveUp("unavailable", 60.0)


@pytest.mark.parametrize(("now", "turn"), [(59.0, False), (60.0, True)])
def test_a_probe_is_free_at_the_second_at_which_its_lease_ends(now, turn):
    """Then this run may probe."""
    left = Left(maxWaitSeconds=100)
    over = left.pass_by(a=probed(60.0), b=cooling(90.0))
    assert (over.next(now) == [left.a]) is turn


@pytest.mark.parametrize(("now", "turn"), [(44.0, False), (45.0, True)])
def test_a_lease_that_was_refused_though_nobody_was_seen_to_hold_it_is_asked_for_later(now, turn):
    """Not at once, which could go on for ever."""
    left = Left(maxWaitSeconds=100)
    over = left.pass_by(b=cooling(90.0))
    left.held[A] = Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1)
    over.passed_by(left.a, Availability("probing", 45.0))
    assert (over.next(now) == [left.a]) is turn
    if not turn:
        assert over.next(now) == Wait(45.0)


def test_a_lease_that_was_given_back_is_asked_for_at_once():
    """Whoever was seen to hold it when this candidate was passed by holds it no more."""
    left = Left(maxWaitSeconds=100)
    over = left.pass_by(b=cooling(90.0))
    left.held[A] = Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1)
    over.passed_by(left.a, Availability("probing", 90.0, domains=(A,)))
    assert over.next(NOW) == [left.a]


# -- local capacity


def test_whoever_lacks_local_capacity_waits_in_the_queue():
    """For all that are at their limit, as long as the model allows."""
    left = Left(maxWaitSeconds=10)
    left.over.at_limit(left.a, 35.0)
    left.over.at_limit(left.b, 90.0)
    assert left.over.next(NOW) == Enqueue((left.a, left.b), 40.0)


def test_in_the_queue_too_the_wait_is_counted_from_its_begin():
    """At its end the run gives up, and says when the first will be free."""
    left = Left(maxWaitSeconds=10)
    left.over.at_limit(left.a, 65.0)
    left.over.at_limit(left.b, 90.0)
    assert left.over.next(NOW) == Enqueue((left.a, left.b), 40.0)
    assert left.over.next(39.0) == Enqueue((left.a, left.b), 40.0)
    assert [left.over.may_wait(now) for now in (39.0, 40.0)] == [True, False]
    assert left.over.next(40.0) == GiveUp("queue_timeout", 25.0)


@pytest.mark.parametrize(("now", "over"), [(39.0, False), (40.0, True)])
def test_there_is_no_wait_for_capacity_that_would_be_of_no_use(now, over):
    """A call needs five seconds here, and has them until then."""
    left = Left(deadline=45.0, useful=5.0)
    left.over.at_limit(left.a, 65.0)
    assert left.over.next(now) == (GiveUp("deadline") if over else Enqueue((left.a,), 40.0))


def test_a_run_in_the_queue_looks_again_when_somebody_may_be_called():
    """Whoever was passed by has a turn then."""
    left = Left(maxWaitSeconds=20)
    over = left.pass_by(b=cooling(37.0))
    over.at_limit(left.a, 65.0)
    assert over.next(NOW) == Enqueue((left.a,), 37.0)
    over.only_queue = True
    assert over.next(NOW) == Enqueue((left.a,), 50.0)


def test_whoever_is_admitted_waits_no_longer_and_the_others_do():
    """Others may then have a turn again."""
    left = Left(maxWaitSeconds=10)
    left.over.at_limit(left.a, 65.0)
    left.over.at_limit(left.b, 90.0)
    left.over.only_queue = True
    left.over.admitted(left.a)
    assert not left.over.only_queue
    assert left.over.next(NOW) == Enqueue((left.b,), 40.0)


def test_a_run_without_time_gives_up():
    """Whoever else is at a limit."""
    left = Left()
    left.over.at_limit(left.a, 65.0)
    left.over.out_of_time = True
    assert left.over.next(NOW) == GiveUp("deadline")


@pytest.mark.parametrize(("free_at", "seconds"), [(40.0, 10.0), (30.0, 1.0), (20.0, 1.0), (math.inf, 1.0)])
def test_when_nobody_knows_when_to_come_again_it_is_in_a_second(free_at, seconds):
    """Or when something is free already, and kept for others."""
    assert retry_after_seconds(free_at, NOW) == seconds
