"""One run's plan, driven without an event loop: whatever comes of its steps, and whatever others do meanwhile.

The machine is the shell: it does what the plan says as a shell may, and asserts of each step that it keeps the rules.
Calls, waits and the queue take a time of the machine's choice.
"""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from standby.clients import ClientError
from standby.runner._budget import Budgets, Extra
from standby.runner._health import availability
from standby.runner._hedge import HEARD, STOPPED
from standby.runner._run import cut
from standby.runner._steps import Call, Deliver, Enqueue, GiveUp, Wait
from standby.store import Cool, Disable, Enable, Restore, RetryBudget
from standby.store._standing import CLEAN, returned
from tests.runner.machines.plan_shell import Shell

STEPS_OF_A_RUN = 150
LONGEST_BACKOFF = 6

categories = st.lists(
    st.sampled_from(["network", "timeout", "provider_5xx", "rate_limit", "auth_error", "client_error"]), max_size=1
)
failovers = st.fixed_dictionaries(
    {
        "denyCategories": categories,
        "allowCategories": categories,
        "actions": st.dictionaries(
            st.sampled_from(["provider_5xx", "rate_limit", "auth_error"]),
            st.sampled_from(["cooldown_and_next", "disable_and_next"]),
        ),
        "cooldownSeconds": st.sampled_from([1, 40]),
        "ejectAfter": st.sampled_from([0, 2]),
    }
)
policies = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["active", "active", "paused"]),
        "failoverPolicy": failovers,
        "retryBudget": st.fixed_dictionaries({"capacity": st.sampled_from([100, 100, 14, 4])}),
    },
    optional={"hardStopPolicy": st.fixed_dictionaries({"categories": categories})},
)
backoffs = st.fixed_dictionaries(
    {
        "initialSeconds": st.sampled_from([1, 0]),
        "maxSeconds": st.just(LONGEST_BACKOFF),
        "jitter": st.sampled_from(["full", "none"]),
    }
)
retries = st.fixed_dictionaries(
    {
        "maxAttempts": st.sampled_from([3, 2, 1]),
        "denyCategories": categories,
        "allowCategories": categories,
        "backoff": backoffs,
    }
)
queues = st.fixed_dictionaries(
    {"maxWaiting": st.sampled_from([10, 10, 0]), "maxWaitSeconds": st.sampled_from([5, 100, 0])}
)
hedges = st.sampled_from([None, {"afterSeconds": 2}, {"afterSeconds": 1, "maxExtra": 2}, {"afterSeconds": 4}])
models = st.fixed_dictionaries(
    {
        "timeouts": st.fixed_dictionaries({"totalSeconds": st.sampled_from([60, 60, 6, 2])}),
        "queue": queues,
        "hedge": hedges,
    }
)
errors = st.builds(
    ClientError,
    st.sampled_from(["network", "timeout", "server_error", "rate_limit", "auth_failed", "bad_request"]),
    status=st.sampled_from([0, 400, 429, 500]),
    retryable=st.sampled_from([True, True, False]),
    hint=st.sampled_from([None, None, 0.0, 3.0, 6.0, 7.0, 1e9]),
    scope=st.sampled_from(["candidate", "candidate", "credential", "provider", "request", "caller"]),
    work=st.sampled_from(["rejected", "unknown", "not_sent"]),
)
seconds = st.sampled_from([0.0, 0.0, 0.5, 2.0, 10.0])
numbers = st.integers(0, 3)


class PlanMachine(Shell, RuleBasedStateMachine):
    """A run of up to four candidates of up to three providers, and the next one when it is over."""

    @initialize(
        names=st.lists(st.sampled_from("pqr"), min_size=1, max_size=4),
        policy=policies,
        retry=retries,
        model=models,
        min_useful=st.sampled_from([0.5, 0, 5]),
        chance=st.sampled_from([0.5, 0.999, 0.0]),
        at_once=st.sampled_from([True, True, False]),
    )
    def begin(self, at_once, **configuration):
        self.at_once = at_once
        self.configure(**configuration)

    @precondition(lambda self: self.over)
    @rule(
        may_fail_over=st.sampled_from([True, True, True, False]),
        streamed=st.booleans(),
        all_well=st.sampled_from([True, True, False]),
    )
    def begin_the_next(self, may_fail_over, streamed, all_well):
        """A run that is over stays so."""
        if self.record is not None and isinstance(self.step, Deliver | GiveUp):
            assert self.plan.step(self.now) is self.step
        if all_well:
            self.standings.clear()
        self.begin_run(may_fail_over, streamed)
        self.go_on()

    # -- what the shell does -----------------------------------------------------------------------------------

    def go_on(self):
        """Most shells ask at once, and leave others no time to act between a report and the next step."""
        if self.at_once and self.at(None):
            self.ask()

    @precondition(lambda self: self.at(None))
    @rule()
    def ask(self):
        """Nobody is under way: what is to be done?"""
        self.steps, self.acts = self.steps + 1, 0
        assert self.steps < STEPS_OF_A_RUN
        self.step = self.plan.step(self.now)
        match self.step:
            case Call():
                self.check_call(self.step)
            case Wait():
                self.check_wait(self.step)
            case Enqueue():
                self.check_queue(self.step)
            case Deliver() | GiveUp():
                self.check_end(self.step)
                self.close()
        self.was_full = False

    @precondition(lambda self: self.at(Call))
    @rule(
        fate=st.sampled_from(["made", "made", "made", "refused", "probed elsewhere"]),
        free_in=st.sampled_from([1.0, 20.0, math.inf]),
    )
    def make_the_call(self, fate="made", free_in=math.inf):
        """Unless our own limits leave no room for it, or its probe is not to be had."""
        call, self.step = self.step, None
        if fate == "refused" and not call.admitted:
            self.refused.add(call.candidate.id)
            self.plan.report_refused(call, self.now + free_in, self.now)
            self.only_queue = self.record.tries[-1].did == "stop"
        elif call.probe and (fate == "probed elsewhere" or not self.lease(call.probe, "run_1", call.until + 5.0)):
            self.plan.report_probed_elsewhere(call, self.now)
        else:
            self.made(call)
        self.go_on()

    @precondition(lambda self: self.calling() and self.hedge_at <= self.until())
    @rule(room=st.sampled_from([True, True, False]))
    def hedge(self, room):
        """Those under way are silent: is there somebody to ask beside them?"""
        self.now = max(self.now, self.hedge_at)
        call = self.plan.hedge(self.now, lambda candidate: room)
        self.hedge_at = math.inf
        if call is not None:
            self.hedges += 1
            self.check_hedge(call)
            self.made(call)

    @precondition(lambda self: self.calling())
    @rule(number=numbers, passed=seconds, error=st.one_of(errors, errors, errors, st.none()), at_once=st.booleans())
    def come_to_something(self, number, passed, error, at_once):
        """One answers, fails or is cut by its clock; where that ends the run, the others are stopped, or fail as well."""
        self.time_passes(passed)
        call = one_of(self.under_way, number)
        others = [each for each in self.under_way if each is not call]
        if error is None:
            for other in others:
                self.stop(other, HEARD, at_once=at_once)
            self.answered(call)
            assert self.plan.over
        else:
            self.failed(call, error)
            for other in others if self.plan.over else []:
                self.stop(other, STOPPED, at_once=at_once)
        self.go_on()

    @precondition(lambda self: self.at(Wait))
    @rule()
    def wait(self):
        """Nothing changes meanwhile."""
        self.now, self.step = self.step.until, None
        self.go_on()

    @precondition(lambda self: self.at(Enqueue))
    @rule(
        number=numbers,
        passed=seconds,
        fate=st.sampled_from(["admitted", "admitted", "admitted and cooled", "in vain", "full"]),
    )
    def wait_in_the_queue(self, number=0, passed=0.0, fate="in vain"):
        """It hands over the capacity of one that is waited for, though that may be left out meanwhile; or it does not."""
        enqueue = self.step
        self.time_passes(math.inf if fate == "in vain" else passed)
        self.step = None
        if "admitted" in fate:
            candidate = one_of(enqueue.candidates, number)
            self.refused.discard(candidate.id)
            self.only_queue = False
            self.plan.report_admitted(candidate, 0.0)
            if "cooled" in fate:
                self.apply(Cool(candidate.domains.candidate, self.now, self.now + 20.0, 1, "elsewhere"))
        else:
            self.was_full = fate == "full" or self.queue_is_off
            self.plan.report_not_admitted(0.0, full=self.was_full, free_at=math.inf, now=self.now)
        self.go_on()

    @precondition(lambda self: not self.over and self.steps > 2)
    @rule(passed=seconds)
    def leave(self, passed):
        """The caller goes away, whatever the run is at."""
        self.time_passes(passed)
        for call, began_at in self.under_way.items():
            self.plan.report_abandoned(call, began_at, self.now)
            self.give_back(call)
        self.close()

    # -- what others do meanwhile ------------------------------------------------------------------------------

    @precondition(lambda self: not self.over and self.acts < 1)
    @rule(
        number=numbers,
        passed=seconds,
        what=st.sampled_from(["cool", "cool its provider", "disable", "restore", "probe", "no probe", "pay", "earn"]),
    )
    def others_act(self, number, passed, what):
        """They learn of failures, probe, pay for retries and answer; operators speak. All that only now and then."""
        self.acts += 1
        self.time_passes(passed)
        domains = self.candidates[number % len(self.candidates)].domains
        match what:
            case "cool":
                self.apply(Cool(domains.candidate, self.now, self.now + 20.0, 1, "elsewhere"))
            case "cool its provider":
                self.apply(Cool(domains.provider, self.now, self.now + 1.0, 1, "elsewhere"))
            case "disable":
                self.apply(Disable(domains.candidate, self.now, "ann", "maintenance"))
            case "restore":
                for domain in domains.all():
                    self.apply(Restore(domain, self.now, "ann"), Enable(domain, self.now, "ann"))
            case "probe" if self.standings.get(domains.provider, CLEAN).half_open(self.now):
                self.lease([domains.provider], "run_2", self.now + 10.0)
            case "no probe":
                self.put(domains.provider, returned(self.standings.get(domains.provider, CLEAN), "run_2"))
            case "pay":
                answer = Budgets.take(self.budgets, domains.candidate, "rejected", RetryBudget())
                self.of_others += [answer] if isinstance(answer, Extra) else []
            case "earn" if self.of_others:
                Budgets.end(self.budgets, self.of_others.pop(), refund=True)
                self.budgets.succeeded(domains.all())

    # -- what holds of each step -------------------------------------------------------------------------------

    def check_start(self, call):
        """No call starts too late to be of use, nor goes on past its clock or the deadline."""
        assert self.now < self.deadline
        assert self.deadline - self.now >= self.useful_seconds
        assert call.until == min(self.deadline, self.now + self.attempt_seconds)

    def check_call(self, call):
        """Who is called may be called, is in its one turn, and pays where it shares something with what failed."""
        candidate = call.candidate
        self.check_start(call)
        found = availability(candidate, self.standings.get, self.now)
        assert (found.verdict, call.probe) in (("usable", ()), ("probe", found.domains))
        assert not self.only_queue
        assert not self.passed_for_good(candidate)
        tries = self.tries(candidate)
        assert len(tries) < self.max_attempts
        if tries:
            assert tries[-1].did == "retry"
            assert self.now >= tries[-1].ended_at + tries[-1].wait_seconds
        assert (call.extra is not None) == any(each in self.failed_domains() for each in candidate.domains.all())
        # A first try is not even asked for.
        assert self.tries() or not self.budgets.asked
        # Nobody else comes between, and nobody at all after a failure that stops.
        for other in self.candidates:
            if other is not candidate and (tries := self.tries(other)):
                assert tries[-1].did != "retry" or self.turn_was_cut(other)
                assert self.others_may_follow(tries[-1])

    def check_hedge(self, call):
        """Who is asked beside others has had no turn, is well and of another provider, and is paid for."""
        candidate = call.candidate
        self.check_start(call)
        assert self.may_fail_over
        assert availability(candidate, self.standings.get, self.now).verdict == "usable"
        assert candidate.provider not in {other.candidate.provider for other in self.under_way}
        assert not self.tries(candidate)
        assert not self.passed_for_good(candidate)
        assert call.extra is not None
        assert self.hedges <= self.max_extra
        assert len(self.under_way) <= self.max_extra

    def check_wait(self, wait):
        """A run waits for the next try of the same candidate, or where nobody is left who may be called."""
        assert self.now < wait.until <= self.deadline
        tries = self.tries()
        if tries and tries[-1].did == "retry" and wait.until == tries[-1].ended_at + tries[-1].wait_seconds:
            assert self.record.tries[-1] is tries[-1]
        else:
            assert not self.left()
            assert not self.refused

    def check_queue(self, enqueue):
        """A run waits for the capacity of all who were refused for want of it; whoever is well sooner has a turn."""
        assert self.queue_is_off or self.now < enqueue.until
        assert enqueue.until <= self.deadline
        assert {candidate.id for candidate in enqueue.candidates} == self.refused
        for candidate, found in [] if self.only_queue else self.without_a_turn():
            if candidate.id not in self.refused:
                assert found.verdict != "usable"
                assert found.verdict != "cooling" or enqueue.until <= found.until

    def check_end(self, end):
        """A run gives up for a reason."""
        tries = self.tries()
        if isinstance(end, Deliver):
            assert tries[-1].failure is None
        elif end.ending in ("exhausted", "unavailable"):
            assert (end.ending == "exhausted") == bool(tries)
            assert not self.left()
        elif end.ending in ("queue_full", "queue_timeout"):
            assert (end.ending == "queue_full") == self.was_full
            assert self.refused
            assert self.only_queue or {candidate.id for candidate in self.left()} <= self.refused
        elif end.ending == "stopped":
            assert any(each.did == "stop" for each in self.record.tries)
        else:
            assert end.ending == "deadline"
            too_late = self.now + self.useful_seconds >= self.deadline
            assert too_late or any(skip.reason == "deadline" for skip in self.record.skips)

    def check_retry(self, tried):
        """The same candidate is tried again after what its hint or the backoff says, where all that is allowed."""
        hint, bound = (
            tried.failure.hint or 0.0,
            min(LONGEST_BACKOFF, self.backoff["initialSeconds"] * 2 ** (tried.n - 1)),
        )
        assert tried.decisions.retry.retry
        assert not self.under_way
        assert tried.n < self.max_attempts
        assert hint <= LONGEST_BACKOFF
        assert tried.wait_seconds >= max(hint, bound if self.backoff["jitter"] == "none" else 0.0)
        assert tried.wait_seconds <= max(hint * 1.1, bound)
        assert self.now + tried.wait_seconds + self.useful_seconds < self.deadline
        assert not any(isinstance(effect, Cool | Disable) for effect in tried.effects)
        assert self.budgets.paid
        assert not self.budgets.paid[-1].ended

    def close(self):
        """What was paid for is over; what was not used, or was answered, was given back, and nothing else was."""
        assert self.now <= self.deadline
        self.over = True
        self.plan.close()
        assert self.budgets.extras == len(self.of_others)
        for extra in self.budgets.paid:
            assert extra.ended
            assert contains(self.budgets.got_back, extra) != contains(self.lost, extra)

    def teardown(self):
        """Every run ends, here by the clocks: nobody answers any more, and no capacity comes."""
        while not self.over:
            if self.under_way:
                self.now = self.until()
                self.failed(next(iter(self.under_way)), ClientError("network", retryable=True))
                while self.plan.over and self.under_way:
                    self.stop(next(iter(self.under_way)), STOPPED, at_once=False)
            elif isinstance(self.step, Call):
                self.make_the_call()
            elif isinstance(self.step, Wait):
                self.wait()
            elif isinstance(self.step, Enqueue):
                self.wait_in_the_queue()
            else:
                self.ask()

    # -- what comes of a call ----------------------------------------------------------------------------------

    def stop(self, call, why, *, at_once):
        """Nobody waits for this call any more; ``at_once``: it has failed already."""
        if at_once:
            self.failed(call, ClientError("network", retryable=True))
        else:
            self.plan.report_abandoned(call, self.under_way.pop(call), self.now, why)
            self.lost += [call.extra] if call.extra is not None else []
            self.give_back(call)

    def answered(self, call):
        report = self.plan.report_commit if self.streamed else self.plan.report_answer
        self.apply(*report(call, self.under_way.pop(call), self.now))
        self.give_back(call)

    def failed(self, call, error):
        began_at, was_over = self.under_way.pop(call), self.plan.over
        error = cut(call, began_at) if self.now >= call.until else error
        effects = self.plan.report_failure(call, error, began_at, self.now)
        self.lost += [call.extra] if call.extra is not None else []
        if self.record.tries[-1].did == "retry":
            assert not was_over
            self.check_retry(self.record.tries[-1])
        self.apply(*effects)
        self.give_back(call)


def one_of(choices, number):
    return list(choices)[number % len(choices)]


def contains(extras, extra):
    return any(each is extra for each in extras)


def test_a_run_keeps_its_rules():
    """Whatever comes of its calls, and whatever others do meanwhile."""
    run_state_machine_as_test(PlanMachine, settings=settings(max_examples=180, stateful_step_count=40))
