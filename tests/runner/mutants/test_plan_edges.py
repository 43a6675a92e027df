"""One run's plan, step by step: what its record tells to the letter, and the very second at which a step changes."""

import math

import pytest

from standby.clients import ClientError
from standby.runner import RunRecord
from standby.runner._budget import Budgets
from standby.runner._left_over import NOBODY
from standby.runner._limits import Limits
from standby.runner._plan import Plan
from standby.runner._record import Skip
from standby.runner._route import compile_route
from standby.runner._shared import Shared
from standby.runner._steps import Call, Enqueue, GiveUp, Wait
from standby.runner.testing import ScriptedClient
from standby.store import Failed, Model, Provider, RunnerPolicy, RuntimePolicy, Snapshot, Standing, Succeeded

NOW = 1000.0
A, B = "candidate:chat/a", "candidate:chat/b"
DOWN = ClientError("server_error", "down", status=500, retryable=True, work="rejected")
WRONG_KEY = ClientError("auth_failed", "wrong key", status=401, retryable=True, scope="credential", work="rejected")
LATE = ClientError("timeout", "cut", retryable=True, scope="caller")
REFUSED = ClientError("bad_request", "no", status=400, scope="request")
COOLING = Standing(cooling_until=NOW + 20, cooled_at=NOW - 10, cooldowns_in_row=1, cooled_for="elsewhere")
HALF_OPEN = Standing(cooling_until=NOW - 1, cooled_at=NOW - 10, cooldowns_in_row=1)
ONCE_FAILED = Standing(failures_in_row=1)


class Run:
    """A run of candidates, each named with its provider, asked for its steps and told what comes of them."""

    def __init__(self, *named, policy=None, retry=None, timeouts=None, model=None, seconds=60.0, **options):
        listed = [
            {"id": name, "provider": provider, "model": "m", "runtime_policy": "own"}
            for name, provider in (each.split("@") for each in named)
        ]
        providers = {each["provider"] for each in listed}
        snapshot = Snapshot(
            version=1,
            models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed, **(model or {})})},
            providers={name: Provider(client=name) for name in providers},
            runner_policies={"own": RunnerPolicy.model_validate(policy or {})},
            runtime_policies={
                "own": RuntimePolicy.model_validate({"retryPolicy": retry or {}, "timeouts": timeouts or {}})
            },
        )
        route = compile_route(snapshot, "chat", {name: ScriptedClient() for name in providers}, Limits())
        self.candidates = {each.id: each for each in route.candidates}
        self.held, self.budgets = {}, Budgets()
        self.record = RunRecord("run_1", "chat", 1, NOW)
        shared = Shared(self.held.get, self.budgets, lambda *_: math.inf, lambda: 0.5)
        self.plan = Plan(route, iter(route.candidates), self.record, shared, NOW + seconds, **options)

    def call(self, now=NOW):
        step = self.plan.step(now)
        assert isinstance(step, Call)
        return step

    def fail(self, error, now=NOW):
        """Whoever is called now fails at once."""
        call = self.call(now)
        self.plan.report_failure(call, error, now, now)
        return call

    def spend(self, domain):
        """Others pay for retries until the budget has no token left."""
        policy = self.candidates["a"].retry_budget
        while self.budgets.spent(domain) < policy.capacity:
            self.budgets.end(self.budgets.take(domain, "rejected", policy), refund=False)


# -- clocks


def test_a_run_is_plain_and_may_fail_over_where_nothing_else_is_said():
    """Its clock is that of a whole answer, and a failure is followed by the next candidate."""
    run = Run("a@p", "b@q", retry={"maxAttempts": 1}, timeouts={"attemptSeconds": 10, "firstTokenSeconds": 4})
    assert [run.fail(DOWN).clock, run.call().candidate.id] == ["attemptSeconds", "b"]


def test_of_two_clocks_that_end_together_the_first_content_is_not_the_one_that_is_told():
    """The whole answer is late as well."""
    call = Run("a@p", timeouts={"attemptSeconds": 10, "firstTokenSeconds": 10}, streamed=True).call()
    assert (call.until, call.clock) == (NOW + 10, "attemptSeconds")


@pytest.mark.parametrize(("seconds", "clock"), [(10.0, "attemptSeconds"), (9.5, "deadline")])
def test_a_try_that_ends_with_the_deadline_has_had_all_of_its_time(seconds, clock):
    """Then it is the candidate that was too slow, and not the caller who was too fast."""
    call = Run("a@p", timeouts={"attemptSeconds": 10}, seconds=seconds).call()
    assert (call.until, call.clock) == (NOW + seconds, clock)


# -- waits


def test_a_wait_for_the_next_try_ends_when_a_standing_changes():
    """The candidate may be left out meanwhile, and then the run goes on at once."""
    run = Run("a@p", retry={"backoff": {"initialSeconds": 2, "jitter": "none"}})
    run.fail(DOWN)
    assert run.plan.step(NOW) == Wait(NOW + 2)


def test_a_run_that_waits_to_try_again_waits_for_nobody_to_recover():
    """Not even for those whom it passed by before."""
    run = Run("a@p", "b@q", retry={"backoff": {"initialSeconds": 2, "jitter": "none"}})
    run.held[A] = COOLING
    run.fail(DOWN)
    assert run.plan.step(NOW) == Wait(NOW + 2)
    assert run.plan.awaited(NOW) == NOBODY


def test_a_hint_as_long_as_the_longest_wait_is_waited_for():
    """Only a longer one sends the run to the next candidate."""
    run = Run("a@p", retry={"backoff": {"initialSeconds": 0, "maxSeconds": 6}})
    run.fail(ClientError("server_error", status=500, retryable=True, hint=6.0))
    assert run.plan.step(NOW) == Wait(NOW + 6 * 1.05)


@pytest.mark.parametrize(("seconds", "did"), [(3.0, "next"), (3.1, "retry")])
def test_a_wait_that_leaves_only_what_a_try_needs_is_too_long(seconds, did):
    """It would leave nothing for the answer to be late by."""
    backoff = {"initialSeconds": 2, "jitter": "none"}
    run = Run("a@p", retry={"backoff": backoff}, timeouts={"minUsefulSeconds": 1}, seconds=seconds)
    run.fail(DOWN)
    assert run.record.tries[-1].did == did


# -- who is passed by


def test_who_cools_down_is_told_with_when_and_why():
    """At the time of this step, until its end."""
    run = Run("a@p", "b@q")
    run.held[A] = COOLING
    assert run.call(NOW + 1).candidate.id == "b"
    assert run.record.skips == [Skip("a", NOW + 1, "cooling", NOW + 20, "elsewhere")]


def test_who_is_not_called_for_want_of_time_is_told_with_how_much_there_was():
    """It has no end: what is over does not come back."""
    run = Run("a@p", "b@q", retry={"maxAttempts": 1}, timeouts={"minUsefulSeconds": 5})
    run.fail(DOWN)
    assert run.plan.step(NOW + 56.5).ending == "deadline"
    assert run.record.skips == [Skip("b", NOW + 56.5, "deadline", 0.0, "3.5 s left, minUsefulSeconds 5")]


def test_who_is_not_paid_for_is_told_with_the_rule():
    """Whoever shares the key that failed would be a retry."""
    run = Run("a@p", "b@p", "c@q", retry={"maxAttempts": 1}, policy={"retryBudget": {"capacity": 5}})
    run.spend("credential:p")
    run.fail(WRONG_KEY)
    assert run.call(NOW + 1).candidate.id == "c"
    cause = "retry_budget_exhausted (retryBudget.capacity = 5)"
    assert run.record.skips == [Skip("b", NOW + 1, "budget", 0.0, cause)]


def test_capacity_that_was_handed_over_to_one_who_is_not_paid_for_is_nobody_elses():
    """The next one takes its own."""
    run = Run("a@p", "b@q", "c@p", retry={"maxAttempts": 1}, policy={"retryBudget": {"capacity": 5}})
    run.plan.report_refused(run.call(), NOW + 9, NOW)
    run.held[B] = COOLING
    run.fail(WRONG_KEY)
    assert isinstance(run.plan.step(NOW), Enqueue)
    run.spend("credential:p")
    run.held.clear()
    run.plan.report_admitted(run.candidates["a"], 1.0)
    call = run.call(NOW + 1)
    assert (call.candidate.id, call.admitted) == ("b", False)


def test_a_retry_for_which_the_time_has_run_out_is_told_on_the_try_before_it():
    """It was to be tried again; its turn ends as the failover decision says."""
    run = Run("a@p", "b@q", retry={"maxAttempts": 2, "backoff": {"initialSeconds": 0}}, seconds=20.0)
    run.fail(DOWN)
    assert run.plan.step(NOW + 19.8).ending == "deadline"
    (tried,) = run.record.tries
    assert (tried.did, tried.why) == ("next", "no time or no budget for its next try")


# -- somebody beside it


def test_nobody_is_asked_beside_a_call_where_the_model_does_not_hedge():
    """Whoever asks is told that it is nobody, and nobody later either."""
    run = Run("a@p", "b@q")
    assert run.call().hedge_at == math.inf
    assert run.plan.hedge(NOW + 30, lambda _: True) is None


def test_whoever_failed_once_before_may_be_asked_beside_a_call():
    """It is usable, and nothing needs to be probed."""
    run = Run("a@p", "b@q", model={"hedge": {"afterSeconds": 2}})
    run.held[B] = ONCE_FAILED
    assert run.call().hedge_at == NOW + 2
    hedge = run.plan.hedge(NOW + 2, lambda _: True)
    assert (hedge.candidate.id, hedge.probe, hedge.hedge) == ("b", (), True)


def test_a_call_that_fails_while_another_is_under_way_is_not_tried_again():
    """Nor one that fails when the other has ended the run; each try tells which of the two it was."""
    run = Run("a@p", "b@q", "c@r", retry={"maxAttempts": 2}, model={"hedge": {"afterSeconds": 2, "maxExtra": 2}})
    calls = [run.call(), *(run.plan.hedge(NOW + 2, lambda _: True) for _ in range(2))]
    for call, error in zip(calls, [DOWN, REFUSED, DOWN], strict=True):
        run.plan.report_failure(call, error, NOW, NOW + 3)
    told = [(tried.candidate, tried.did, tried.why) for tried in run.record.tries]
    assert told == [
        ("a", "next", "another call is under way"),
        ("b", "stop", ""),
        ("c", "next", "the run is over"),
    ]


def test_a_call_that_the_deadline_cut_ends_the_run():
    """Whoever is still under way beside it is not waited for."""
    run = Run("a@p", "b@q", seconds=5.0, model={"hedge": {"afterSeconds": 2}})
    call = run.call()
    run.plan.hedge(NOW + 2, lambda _: True)
    run.plan.report_failure(call, LATE, NOW, NOW + 5)
    assert run.plan.over
    assert run.plan.step(NOW + 5) == GiveUp("deadline")


@pytest.mark.parametrize(("at", "asked"), [(NOW + 4.9, True), (NOW + 5, False)])
def test_when_the_run_is_over_nobody_is_asked_beside_a_call(at, asked):
    """Not even one for whom any time is enough."""
    run = Run("a@p", "b@q", seconds=5.0, timeouts={"minUsefulSeconds": 0}, model={"hedge": {"afterSeconds": 2}})
    run.call()
    assert (run.plan.hedge(at, lambda _: True) is not None) is asked


def test_whoever_was_not_asked_beside_a_call_after_all_is_the_next_in_the_order():
    """And what was paid for that is given back."""
    run = Run("a@p", "b@q", "c@r", retry={"maxAttempts": 1}, model={"hedge": {"afterSeconds": 2}})
    call = run.call()
    run.plan.report_not_made(run.plan.hedge(NOW + 2, lambda _: True))
    assert run.budgets.extras == 0
    run.plan.report_failure(call, DOWN, NOW, NOW + 3)
    assert [run.fail(DOWN, NOW + 3).candidate.id for _ in range(2)] == ["b", "c"]


def test_whoever_was_not_asked_beside_a_call_after_all_was_one_of_those_who_may_be():
    """One that is not made leaves room for one, and for no more."""
    run = Run("a@p", "b@q", "c@r", "d@s", model={"hedge": {"afterSeconds": 2}})
    run.call()
    run.plan.report_not_made(run.plan.hedge(NOW + 2, lambda _: True))
    asked = [run.plan.hedge(NOW + 2, lambda _: True) for _ in range(2)]
    assert [call and call.candidate.id for call in asked] == ["b", None]


# -- streams


def committed(held):
    """A stream that has had content after a second."""
    run = Run("a@p", streamed=True)
    run.held[A] = held
    call = run.call()
    run.plan.report_commit(call, NOW, NOW + 1)
    return run, call


def test_a_stream_is_a_try_from_its_first_content_on():
    """It is over then, until it goes on: a record that is looked at meanwhile has a time for everything."""
    run, _ = committed(ONCE_FAILED)
    (tried,) = run.record.tries
    assert (tried.began_at, tried.ended_at, tried.effects) == (NOW, NOW + 1, ())


def test_a_stream_that_is_complete_proves_what_its_first_content_did_not():
    """What either did is told, in that order."""
    run, call = committed(HALF_OPEN)
    at_its_end = (Succeeded(A, NOW + 9, NOW),)
    assert run.plan.report_end(call, NOW + 9) == at_its_end
    (tried,) = run.record.tries
    assert (tried.ended_at, tried.effects) == (NOW + 9, (Succeeded(A, NOW + 1, NOW), *at_its_end))


def test_a_stream_that_the_caller_left_ended_then():
    """And not at its first content."""
    run, _ = committed(ONCE_FAILED)
    run.plan.report_left(NOW + 9)
    (tried,) = run.record.tries
    assert (tried.ended_at, tried.abandoned) == (NOW + 9, True)


def test_a_stream_that_broke_is_told_with_what_follows_from_it():
    """Nobody can take over, though the candidate's health hears of it."""
    run, call = committed(HALF_OPEN)
    run.held.clear()
    at_its_end = (Failed(A, NOW + 9),)
    assert run.plan.report_break(call, DOWN, NOW + 9)[:1] == at_its_end
    (tried,) = run.record.tries
    assert (tried.ended_at, tried.did, tried.why) == (NOW + 9, "stop", "the caller has had the first content")
    assert tried.effects[:2] == (Succeeded(A, NOW + 1, NOW), *at_its_end)


# -- local capacity


@pytest.mark.parametrize(("free_at", "seconds"), [(NOW + 9, 9.0), (math.inf, None)])
def test_a_hard_stop_for_our_own_limit_says_when_there_will_be_room(free_at, seconds):
    """Where that is known."""
    run = Run("a@p", "b@q", policy={"hardStopPolicy": {"codes": ["rate_limit"]}})
    run.plan.report_refused(run.call(), free_at, NOW)
    assert run.plan.step(NOW) == GiveUp("stopped", seconds)


def test_the_times_in_the_queue_add_up():
    """Whether they were in vain or not."""
    run = Run("a@p")
    for queued_seconds in (1.0, 2.0):
        run.plan.report_refused(run.call(), NOW + 9, NOW)
        run.plan.report_not_admitted(4.0, full=False, free_at=NOW + 9, now=NOW)
        run.plan.report_admitted(run.candidates["a"], queued_seconds)
    assert run.record.queued_seconds == 4 + 1 + 4 + 2


@pytest.mark.parametrize(("held", "ended"), [(COOLING, True), (ONCE_FAILED, False)])
def test_a_full_queue_ends_the_run_unless_somebody_who_was_passed_by_may_be_called_by_now(held, ended):
    """Whoever cools down no more has its turn."""
    run = Run("a@p", "b@q")
    run.held[B] = COOLING
    run.plan.report_refused(run.call(), NOW + 9, NOW)
    assert isinstance(run.plan.step(NOW), Enqueue)
    run.held[B] = held
    run.plan.report_not_admitted(0.0, full=True, free_at=NOW + 9, now=NOW)
    step = run.plan.step(NOW)
    assert step == GiveUp("queue_full", 9.0) if ended else step.candidate.id == "b"


def test_a_call_that_was_not_made_comes_up_again_and_takes_its_own_capacity():
    """What the queue had handed over for it was given back."""
    run = Run("a@p")
    run.plan.report_refused(run.call(), NOW + 9, NOW)
    run.plan.report_admitted(run.candidates["a"], 1.0)
    call = run.call()
    assert call.admitted
    run.plan.report_not_made(call)
    again = run.call()
    assert (again.candidate.id, again.admitted) == ("a", False)


# -- probes


@pytest.mark.parametrize(
    ("probe_until", "until"), [(NOW + 30, NOW + 30), (NOW + 0.5, NOW + 1), (NOW, NOW + 1), (0.0, NOW + 1)]
)
def test_a_probe_that_is_not_to_be_had_is_told_with_who_has_it_and_how_long(probe_until, until):
    """For a second at least: nobody may be seen to have it."""
    run = Run("a@p", "b@q")
    run.held[A] = HALF_OPEN
    call = run.call()
    run.held[A] = Standing(cooling_until=NOW - 1, cooled_at=NOW - 10, cooldowns_in_row=1, probe_until=probe_until)
    run.plan.report_probed_elsewhere(call, NOW)
    assert run.record.skips == [Skip("a", NOW, "probing", until, "another run probes it")]
    assert run.call().candidate.id == "b"


@pytest.mark.parametrize(("probe_until", "at_once"), [(NOW + 30, True), (NOW, False), (0.0, False)])
def test_a_lease_that_was_refused_is_asked_for_at_once_only_where_somebody_was_seen_to_give_it_back(
    probe_until, at_once
):
    """Else the state and this process differ about the time, and the run would ask for ever."""
    run = Run("a@p")
    run.held[A] = HALF_OPEN
    call = run.call()
    run.held[A] = Standing(cooling_until=NOW - 1, cooled_at=NOW - 10, cooldowns_in_row=1, probe_until=probe_until)
    run.plan.report_probed_elsewhere(call, NOW)
    run.held[A] = HALF_OPEN
    if not at_once:
        assert run.plan.step(NOW) == Wait(NOW + 1)
    assert run.call(NOW if at_once else NOW + 1).probe == (A,)


@pytest.mark.parametrize(
    ("held", "may"),
    [({A: HALF_OPEN}, True), ({}, True), ({A: COOLING}, False), ({A: HALF_OPEN, B: HALF_OPEN}, True)],
    ids=["as it was", "well", "cooling", "another is half open too"],
)
def test_a_probe_begins_where_its_candidate_was_not_left_out_meanwhile(held, may):
    """While its lease was on its way; what is held against others is nothing to it."""
    run = Run("a@p", "b@q")
    run.held[A] = HALF_OPEN
    call = run.call()
    run.held.clear()
    run.held.update(held)
    assert run.plan.may_still_begin(call, NOW) is may


def test_a_probe_does_not_begin_where_more_must_be_probed_by_now():
    """The lease is of what was half open when it was asked for."""
    run = Run("a@p")
    run.held[A] = HALF_OPEN
    call = run.call()
    run.held["provider:p"] = HALF_OPEN
    assert not run.plan.may_still_begin(call, NOW)


# -- the end


def test_a_retry_that_was_never_made_gets_back_what_it_cost():
    """The caller went away between the step and the call."""
    run = Run("a@p", retry={"maxAttempts": 2, "backoff": {"initialSeconds": 0}})
    run.fail(DOWN)
    run.call()
    assert (run.budgets.extras, run.budgets.spent(A)) == (1, 5)
    run.plan.close()
    assert (run.budgets.extras, run.budgets.spent(A)) == (0, 0)


@pytest.mark.parametrize(
    "came_of_it",
    [
        lambda plan, call: plan.report_refused(call, NOW + 9, NOW),
        lambda plan, call: plan.report_probed_elsewhere(call, NOW),
        lambda plan, call: plan.report_not_made(call),
    ],
)
def test_a_retry_that_could_not_be_made_gets_back_what_it_cost(came_of_it):
    """For want of capacity or of the probe, or since its candidate was left out meanwhile."""
    run = Run("a@p", "b@q", retry={"maxAttempts": 2, "backoff": {"initialSeconds": 0}})
    run.fail(DOWN)
    came_of_it(run.plan, run.call())
    assert (run.budgets.extras, run.budgets.spent(A)) == (0, 0)
