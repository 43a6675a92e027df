"""What a run's shell keeps, without an event loop: the time, the standings, the budgets, and what is under way."""

from __future__ import annotations

import math

from standby.runner import RunRecord
from standby.runner._budget import Budgets, Extra
from standby.runner._health import availability
from standby.runner._limits import Limits
from standby.runner._plan import Plan
from standby.runner._route import compile_route
from standby.runner._shared import Shared
from standby.runner._steps import Call, Enqueue, Step, Wait
from standby.runner.testing import ScriptedClient
from standby.store import Model, Provider, RunnerPolicy, RuntimePolicy, Snapshot, Standing
from standby.store._standing import CLEAN, changed, leased, returned

SCOPES = {"rate_limit": "credential_model", "auth_error": "credential"}


class Ledger(Budgets):
    """Budgets that remember what the run asked for, paid for and got back."""

    def __init__(self):
        super().__init__()
        self.begin()

    def begin(self):
        """A run begins."""
        self.asked = 0
        self.paid: list[Extra] = []
        self.got_back: list[Extra] = []

    def take(self, domain, work, policy):
        self.asked += 1
        answer = super().take(domain, work, policy)
        if isinstance(answer, Extra):
            self.paid.append(answer)
        return answer

    def end(self, extra, *, refund):
        if refund and not extra.ended:
            self.got_back.append(extra)
        super().end(extra, refund=refund)


class Shell:
    """Runs of one model, one after the other, each with what the one before left behind."""

    def configure(self, names, policy, retry, model, min_useful, chance):
        clocks = {"attemptSeconds": 10, "firstTokenSeconds": 4, "minUsefulSeconds": min_useful}
        listed = [
            {"id": f"c{n}", "provider": name, "model": "m", "runtime_policy": "own"} for n, name in enumerate(names)
        ]
        snapshot = Snapshot(
            version=1,
            models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed, **model})},
            providers={name: Provider(client=name) for name in "pqr"},
            runner_policies={"own": RunnerPolicy.model_validate(policy)},
            runtime_policies={"own": RuntimePolicy.model_validate({"retryPolicy": retry, "timeouts": clocks})},
        )
        route = compile_route(snapshot, "chat", {name: ScriptedClient() for name in "pqr"}, Limits())
        self.now = 1000.0
        self.total_seconds = model["timeouts"]["totalSeconds"]
        self.useful_seconds = min(min_useful, self.total_seconds / 2)
        self.max_attempts, self.backoff = retry["maxAttempts"], retry["backoff"]
        self.max_extra = model["hedge"].get("maxExtra", 1) if model["hedge"] else 0
        self.queue_is_off = not model["queue"]["maxWaiting"]
        self.route, self.candidates = route, route.candidates
        self.standings: dict[str, Standing] = {}
        self.record: RunRecord | None = None
        self.budgets = Ledger()
        self.shared = Shared(self.standings.get, self.budgets, lambda *_: math.inf, lambda: chance)
        self.of_others: list[Extra] = []
        self.over = True

    def begin_run(self, may_fail_over, streamed):
        """Begin the next run; the one before is over."""
        self.may_fail_over, self.streamed = may_fail_over, streamed
        self.attempt_seconds = 4 if streamed else 10
        self.deadline = self.now + self.total_seconds
        self.record = RunRecord("run_1", "chat", 1, self.now)
        self.plan = Plan(
            self.route,
            iter(self.candidates),
            self.record,
            self.shared,
            self.deadline,
            may_fail_over=may_fail_over,
            streamed=streamed,
        )
        self.budgets.begin()
        self.step: Step | None = None
        self.steps, self.acts = 0, 0
        self.under_way: dict[Call, float] = {}
        self.hedge_at, self.hedges = math.inf, 0
        self.refused: set[str] = set()
        self.only_queue = self.was_full = False
        self.lost: list[Extra] = []
        self.over = False

    # -- what the run is at -------------------------------------------------------------------------------------

    def at(self, kind):
        """Whether the run's step is of this kind; `None` where the plan is to be asked for it."""
        if self.over or self.under_way:
            return False
        return self.step is None if kind is None else isinstance(self.step, kind)

    def calling(self):
        """Whether a call of the run is under way."""
        return not self.over and bool(self.under_way)

    def until(self):
        """How long what is under way may go on."""
        if self.over:
            return math.inf
        if self.under_way:
            return min(call.until for call in self.under_way)
        may_wait = isinstance(self.step, Wait) or (isinstance(self.step, Enqueue) and not self.queue_is_off)
        return self.step.until if may_wait else self.now

    def time_passes(self, passed):
        """As far as what is under way allows."""
        self.now = max(self.now, min(self.now + passed, self.until()))

    def made(self, call):
        """A call is under way."""
        self.under_way[call] = self.now
        self.hedge_at = call.hedge_at

    def give_back(self, call):
        """Return the probe of a call that is over."""
        for domain in call.probe:
            self.put(domain, returned(self.standings.get(domain, CLEAN), "run_1"))

    def apply(self, *effects):
        """Make effects true."""
        for effect in effects:
            self.put(effect.domain, changed(self.standings.get(effect.domain, CLEAN), effect))

    def lease(self, domains, holder, until):
        """Take the probe of all of these half-open domains, or of none; whether it was to be had."""
        taken = {each: leased(self.standings.get(each, CLEAN), holder, self.now, until) for each in domains}
        if None in taken.values():
            return False
        for domain, standing in taken.items():
            self.put(domain, standing)
        return True

    def put(self, domain, standing):
        """Let this be what is known of the domain; a run that waits looks again where that is new."""
        changes = standing != self.standings.pop(domain, CLEAN)
        if standing != CLEAN:
            self.standings[domain] = standing
        if changes and self.at(Wait):
            self.step = None

    # -- the record, as the rules see it -----------------------------------------------------------------------

    def tries(self, candidate=None):
        """Calls that were made and are over, of this candidate or of all."""
        return [each for each in self.record.tries if each.n and (candidate is None or each.candidate == candidate.id)]

    def failed_domains(self):
        """The domains that the failures of this run concern."""
        return {
            candidate.domains.of(SCOPES.get(tried.failure.info.category, "candidate"))
            for candidate in self.candidates
            for tried in self.tries(candidate)
            if tried.failure is not None
        }

    def passed_for_good(self, candidate):
        """Its turn is over without a call, for want of time or budget."""
        return any(
            skip.candidate == candidate.id and skip.reason in ("budget", "deadline") and "no hedge" not in skip.cause
            for skip in self.record.skips
        )

    def without_a_turn(self):
        """Those who have had no turn, each with whether it may be called."""
        return [
            (candidate, availability(candidate, self.standings.get, self.now))
            for candidate in self.candidates
            if not self.tries(candidate) and not self.passed_for_good(candidate)
        ]

    def left(self):
        """Those of them who may be called."""
        return [candidate for candidate, found in self.without_a_turn() if found.verdict == "usable"]

    def turn_was_cut(self, candidate):
        """Whether there was no capacity or no time for its next try after all."""
        refused = any(each.candidate == candidate.id and not each.n for each in self.record.tries)
        return refused or self.passed_for_good(candidate)

    def others_may_follow(self, tried):
        """Whether another candidate may be called after this try."""
        return self.may_fail_over and (tried.decisions is None or tried.decisions.failover.retry)
