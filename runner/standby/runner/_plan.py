"""One run as a state machine. Pure: no I/O, no clock, no chance of its own.

The rules of this file:

1. `Plan.step` says what to do now; the shell does it and tells what came of it by exactly one of the ``report_*``
   methods, then asks for the next step. Plain and streamed runs are driven by the same steps.
2. Every candidate has one turn. In its turn it is tried, and tried again while the retry decision, ``maxAttempts``, the
   retry budget, the backoff and the deadline allow. What the failover decision says then happens to it, and the run
   goes on or stops.
3. There is no wait before a failover. A run waits only for the same candidate (backoff, a hint), for the end of the
   earliest cooldown where all candidates are cooling, and in the queue where somebody is left out for local capacity.
4. Nothing starts with less time left than it can use.
5. What a failure does to a candidate's health is a value that the shell hands to the state before it asks for the next
   step, so that the run itself, like every other, passes by what it cooled.
6. While a call is silent, `Plan.hedge` may name a second candidate to ask beside it: then each is reported for itself,
   and the next step is asked for when nobody is under way any more.
7. A candidate whose provider has several keys has a turn with each, as long as what fails is the key's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from math import inf

from standby.clients import Work
from standby.store import Effect

from ._backoff import wait_before_retry
from ._budget import Extra
from ._decide import decide, observed
from ._decisions import Decisions, RetryDecision
from ._failure import failure_of, local_failure
from ._health import (
    MIN_COOLDOWN_SECONDS,
    USABLE,
    Availability,
    FailedTry,
    availability,
    effects_of_failure,
    effects_of_success,
    leaves_out,
    probe_held_until,
)
from ._left_over import NOBODY, Awaited, LeftOver, retry_after_seconds
from ._record import Did, Failure, RunRecord, Skip, Try
from ._route import Route, RouteCandidate
from ._shared import Shared
from ._steps import DELIVER, Call, Deliver, Enqueue, GiveUp, Step, Wait


class Plan:
    """One run.

    Args:
        route: What the run is pinned to.
        order: The candidates in this run's order.
        record: Where the run is told.
        shared: What it has in common with other runs.
        deadline: When the run must be over, on its timeline.
        may_fail_over: Whether another candidate may be called after one failed.
        streamed: Whether the answer is a stream; a try is then over at its first content.
    """

    def __init__(
        self,
        route: Route,
        order: Iterator[RouteCandidate],
        record: RunRecord,
        shared: Shared,
        deadline: float,
        *,
        may_fail_over: bool = True,
        streamed: bool = False,
    ) -> None:
        self.route = route
        self.record = record
        self.deadline = deadline
        self._order: Iterator[RouteCandidate] = order
        self._shared = shared
        self._standing_of = shared.standing_of
        self._may_fail_over = may_fail_over
        self._streamed = streamed
        self._end: Deliver | GiveUp | None = None
        self._current: RouteCandidate | None = None
        self._admitted = False
        self._tries: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._failed_domains: dict[str, Work] = {}
        self._not_before = 0.0
        self._fallback: Decisions | None = None
        self._fallbacks: dict[RouteCandidate, Decisions] = {}
        self._extra: Extra | None = None
        self._hedges = 0
        self._under_way: list[Call] = []
        self._left_over_or_none: LeftOver | None = None

    # -- what to do --------------------------------------------------------------------------------------------

    def step(self, now: float) -> Step:
        """What to do now."""
        while self._end is None:
            if now >= self.deadline:
                return self._finish(GiveUp("deadline"))
            candidate = self._current or self._next_turn()
            if candidate is None:
                left = self._left_over.next(now)
                if isinstance(left, GiveUp):
                    return self._finish(left)
                if isinstance(left, Wait | Enqueue):
                    return left
                self._order = iter(left)
                continue
            found = availability(candidate, self._standing_of, now)
            if found.verdict not in ("usable", "probe"):
                self._pass_by(candidate, found, now)
            elif now < self._not_before:
                return Wait(self._not_before)
            elif self._is_worth_it(candidate, now):
                return self._call(candidate, found, now)
        return self._end

    def awaited(self, now: float) -> Awaited:
        """Whom the run waits for to be well again, where the step is a wait or the queue; nobody in a backoff."""
        return NOBODY if self._current is not None else self._left_over.awaited(now)

    @property
    def over(self) -> bool:
        """Whether the run has come to its end."""
        return self._end is not None

    @property
    def _left_over(self) -> LeftOver:
        # Made when it is first needed: the usual run leaves nobody out.
        if self._left_over_or_none is None:
            self._left_over_or_none = LeftOver(
                self.route, self.record, self._standing_of, self.deadline, self._useful_seconds
            )
        return self._left_over_or_none

    def _next_turn(self) -> RouteCandidate | None:
        if self._left_over_or_none is None or not self._left_over_or_none.only_queue:
            given_up = self._given_up
            self._current = next((each for each in self._order if each.key not in given_up), None)
        self._not_before, self._fallback = 0.0, None
        return self._current

    def _call(self, candidate: RouteCandidate, found: Availability, now: float, *, hedge: bool = False) -> Call:
        seconds, clock = candidate.attempt_seconds, "attemptSeconds"
        if self._streamed and candidate.first_token_seconds < seconds:
            seconds, clock = candidate.first_token_seconds, "firstTokenSeconds"
        until = now + seconds
        if self.deadline < until:
            until, clock = self.deadline, "deadline"
        extra, self._extra = self._extra, None
        hedge_at = inf if self.route.hedge is None else now + self._hedge_after(candidate)
        call = Call(candidate, until, clock, found.domains, self._admitted and not hedge, extra, hedge, hedge_at)
        self._under_way.append(call)
        return call

    def _is_worth_it(self, candidate: RouteCandidate, now: float) -> bool:
        """Whether there is the time for a try, and, where it would be a retry, the budget; else its turn is over."""
        left, useful = self.deadline - now, self._useful_seconds(candidate)
        if left < useful:
            self._left_over.out_of_time = True
            self._skip(candidate, "deadline", f"{left:.3g} s left, minUsefulSeconds {useful:g}", now)
        elif self._failed_domains and self._extra is None and (refusal := self._pay_for(candidate)):
            self._skip(candidate, "budget", f"{refusal.reason} ({refusal.match})", now)
        else:
            return True
        self._give_extra_back()
        self._admitted = False
        if self._fallback is None:
            self._current = None
        else:
            self._leave_after_all(candidate, self._fallback, "no time or no budget for its next try")
        return False

    def _useful_seconds(self, candidate: RouteCandidate) -> float:
        """The least time for a try; who has a shorter deadline than that wants its first try all the same."""
        return min(candidate.min_useful_seconds, (self.deadline - self.record.began_at) / 2)

    def _pay_for(self, candidate: RouteCandidate) -> RetryDecision | None:
        """Pay for a try of somebody who shares a domain with what failed in this run; or why that is refused."""
        for domain in candidate.domains.all():
            if (work := self._failed_domains.get(domain)) is not None:
                return self._pay(domain, work, candidate)
        return None

    def _pay(self, domain: str, work: Work, candidate: RouteCandidate) -> RetryDecision | None:
        """Pay for the next call, of ``candidate``; or why that is refused."""
        paid = self._shared.budgets.take(domain, work, candidate.retry_budget)
        if isinstance(paid, RetryDecision):
            return paid
        self._extra = paid
        return None

    def _skip(self, candidate: RouteCandidate, reason: str, cause: str, now: float, until: float = 0.0) -> None:
        told = (candidate.id, candidate.key_id, cause)
        if not any((skip.candidate, skip.key, skip.cause) == told for skip in self.record.skips):
            self.record.skips.append(Skip(candidate.id, now, reason, until, cause, candidate.key_id))

    def _pass_by(self, candidate: RouteCandidate, found: Availability, now: float) -> None:
        self._admitted = False
        self._give_extra_back()
        if self._fallback is not None:
            # Cooled or disabled while it waited for its next try: its turn ends as its last failure's failover says.
            self._leave_after_all(candidate, self._fallback, "left out while it waited")
            return
        self._skip(candidate, found.verdict, found.cause, now, found.until)
        self._left_over.passed_by(candidate, found)
        self._current = None

    def _finish(self, end: Deliver | GiveUp) -> Deliver | GiveUp:
        self._end = end
        return end

    # -- somebody else beside it -------------------------------------------------------------------------------

    def hedge(self, now: float, has_capacity: Callable[[RouteCandidate], bool]) -> Call | None:
        """Whom to ask while those under way are still silent; `None` where that is nobody, and nobody later either.

        The next in the run's order who is of another provider, is well, has local capacity and the time to answer.
        """
        policy = self.route.hedge
        if policy is None or self._end is not None or self._hedges >= policy.max_extra or not self._may_fail_over:
            return None
        rest = list(self._order)
        suitable = (each for each in rest if self._may_hedge(each, now) and has_capacity(each))
        candidate = next(suitable, None)
        self._order = iter([each for each in rest if each is not candidate])
        if candidate is None:
            return None
        # Whoever is silent pays: that work goes on, and may be billed as well.
        silent = self._under_way[-1].candidate.domains.candidate
        if refusal := self._pay(silent, "unknown", candidate):
            self._skip(candidate, "budget", f"no hedge: {refusal.reason} ({refusal.match})", now)
            self._order = iter(rest)
            return None
        self._hedges += 1
        return self._call(candidate, USABLE, now, hedge=True)

    def _may_hedge(self, other: RouteCandidate, now: float) -> bool:
        return (
            all(other.provider != call.candidate.provider for call in self._under_way)
            and now < self.deadline
            and self.deadline - now >= self._useful_seconds(other)
            and availability(other, self._standing_of, now).verdict == "usable"
        )

    def latency_key(self, candidate: RouteCandidate) -> str:
        """What the times of ``candidate`` are remembered by: a first content comes sooner than a whole answer."""
        return f"{candidate.key} streamed" if self._streamed else candidate.key

    def _hedge_after(self, candidate: RouteCandidate) -> float:
        policy = self.route.hedge
        # A stream that commits later has had content by then, and is not silent.
        if policy is None or (self._streamed and self.route.commit.at != "first_content"):
            return inf
        if policy.after_percentile is not None:
            return self._shared.slow_after(self.latency_key(candidate), policy.after_percentile)
        return inf if policy.after_seconds is None else policy.after_seconds

    # -- what came of it ---------------------------------------------------------------------------------------

    def report_answer(self, call: Call, began_at: float, now: float) -> tuple[Effect, ...]:
        """The candidate answered; returns what that does to its health."""
        return self._succeeded(
            call, began_at, now, effects_of_success(call.candidate, began_at, self._standing_of, now)
        )

    def report_commit(self, call: Call, began_at: float, now: float) -> tuple[Effect, ...]:
        """The candidate's stream has content, and goes to the caller; a probe is settled, the rest at its end."""
        effects = effects_of_success(call.candidate, began_at, self._standing_of, now) if call.probe else ()
        return self._succeeded(call, began_at, now, effects)

    def report_end(self, call: Call, now: float) -> tuple[Effect, ...]:
        """The stream that the run committed to is complete."""
        tried = self.record.tries[-1]
        effects = effects_of_success(call.candidate, tried.began_at, self._standing_of, now)
        self.record.tries[-1] = tried._replace(ended_at=now, effects=tried.effects + effects)
        return effects

    def report_left(self, now: float) -> None:
        """The caller left the stream that the run committed to: it changes nobody's health."""
        self.record.tries[-1] = self.record.tries[-1]._replace(ended_at=now, abandoned=True)

    def report_break(self, call: Call, error: Exception, now: float) -> tuple[Effect, ...]:
        """The stream that the run committed to broke: nobody can take over, but the candidate's health hears of it."""
        tried, candidate = self.record.tries[-1], call.candidate
        failure = failure_of(error)
        decisions = decide(candidate.rules, failure.info, retryable=failure.retryable)
        failed = self._failed(call, failure, tried.began_at, given_up=True)
        effects = effects_of_failure(candidate, decisions, failed, self._standing_of, now)
        self.record.tries[-1] = tried._replace(
            ended_at=now,
            failure=failure,
            decisions=decisions,
            observed=observed(candidate.rules, failure.info, retryable=failure.retryable),
            did="stop",
            why="the caller has had the first content",
            effects=tried.effects + effects,
        )
        return effects

    def report_failure(self, call: Call, error: Exception, began_at: float, now: float) -> tuple[Effect, ...]:
        """The call failed; returns what that does to the candidate's health, and to what shares it."""
        candidate = call.candidate
        tries = self._over(call, refund=False)
        failure = failure_of(error)
        decisions = decide(candidate.rules, failure.info, retryable=failure.retryable)
        domain = candidate.domains.of(candidate.cooldown.scopes.get(failure.info.category, "candidate"))
        wait_seconds, why = None, ""
        if decisions.retry.retry and (self._under_way or self._end is not None):
            why = "another call is under way" if self._under_way else "the run is over"
        elif decisions.retry.retry:
            left = self.deadline - now - self._useful_seconds(candidate)
            wait_seconds, why = wait_before_retry(candidate, tries, failure, self._shared.chance, left)
        refusal: RetryDecision | None = None
        failed = self._failed(call, failure, began_at, given_up=wait_seconds is None)
        effects = effects_of_failure(candidate, decisions, failed, self._standing_of, now)
        if wait_seconds is not None:
            if leaves_out(candidate, effects):
                # What it just did leaves it out: a wait for its next try would be a wait before a failover.
                why = "this failure leaves it out"
            elif refusal := self._pay(domain, failure.work, candidate):
                why = f"{refusal.reason} ({refusal.match})"
            if why:
                wait_seconds = None
                effects = effects_of_failure(
                    candidate, decisions, replace(failed, given_up=True), self._standing_of, now
                )
        self._failed_domains[domain] = failure.work
        if candidate.key_id:
            self._give_up_other_keys(candidate, domain)
        if wait_seconds is not None:
            self._current, self._fallback, self._not_before = candidate, decisions, now + wait_seconds
            self._fallbacks[candidate] = decisions
            did: Did = "retry"
        else:
            did = self._leave(decisions)
        if failure.blame == "caller" and now >= self.deadline:
            self._finish(GiveUp("deadline"))
        self.record.tries.append(
            Try(
                candidate.id,
                tries,
                began_at,
                now,
                failure,
                decisions,
                did,
                why,
                effects,
                wait_seconds or 0.0,
                observed=observed(candidate.rules, failure.info, retryable=failure.retryable),
                refusal=refusal,
                hedge=call.hedge,
                key_id=candidate.key_id,
            )
        )
        return effects

    def report_abandoned(self, call: Call, began_at: float, now: float, why: str = "") -> None:
        """Nobody waits for the call any more, the caller or a hedge that was heard: it changes nobody's health."""
        tries, key_id = self._over(call, refund=not why), call.candidate.key_id
        tried = Try(call.candidate.id, tries, began_at, now, why=why, hedge=call.hedge, key_id=key_id)
        self.record.tries.append(tried._replace(abandoned=True))

    def report_refused(self, call: Call, free_at: float, now: float) -> None:
        """Our own limit left no capacity for the call; ``free_at`` is when there may be some."""
        self._ended(call, refund=True)
        failure = local_failure()
        decisions = decide(call.candidate.rules, failure.info, retryable=True, local=True)
        self._left_over.at_limit(call.candidate, free_at)
        self._current = None
        next_allowed = decisions.failover.retry and self._may_fail_over
        if self._fallback is not None:
            # It was to be tried again; whether another may be called is what was decided about its failure.
            next_allowed = next_allowed and self._fallback.failover.retry
        if not next_allowed:
            # "Stop" for our own limit means: nobody else; the run waits for this one, unless a hard stop forbids it.
            self._left_over.only_queue = True
            if decisions.failover.reason == "hard_stop_policy":
                self._finish(GiveUp("stopped", free_at - now if free_at < inf else None))
        did: Did = "next" if next_allowed else "stop"
        seen = observed(call.candidate.rules, failure.info, retryable=failure.retryable, local=True)
        tried = Try(call.candidate.id, 0, now, now, failure, decisions, did, observed=seen)
        self.record.tries.append(tried._replace(key_id=call.candidate.key_id))

    def report_probed_elsewhere(self, call: Call, now: float) -> None:
        """The probe was not to be had: another run holds it, or the candidate is cooling again."""
        self._ended(call, refund=True)
        until = probe_held_until(call.probe, self._standing_of)
        seen = call.probe if until > now else ()
        until = max(until, now + MIN_COOLDOWN_SECONDS)
        self._pass_by(call.candidate, Availability("probing", until, "another run probes it", seen), now)

    def may_still_begin(self, call: Call, now: float) -> bool:
        """Whether the candidate of ``call`` was not left out anew while others were asked for what it needs."""
        found = availability(call.candidate, self._standing_of, now)
        return found.verdict in ("usable", "probe") and set(found.domains) <= set(call.probe)

    def report_not_made(self, call: Call) -> None:
        """The call was not made after all; its candidate comes up again as if it had not been asked for."""
        self._ended(call, refund=True)
        self._admitted = False
        if call.hedge:
            self._hedges -= 1
            self._order = chain((call.candidate,), self._order)

    def report_admitted(self, candidate: RouteCandidate, queued_seconds: float) -> None:
        """The queue handed over the local capacity for ``candidate``: its turn begins."""
        self.record.queued_seconds += queued_seconds
        self._left_over.admitted(candidate)
        self._current, self._admitted = candidate, True
        # Where it was to be tried again, what was decided about its failure still says what follows its turn.
        self._not_before, self._fallback = 0.0, self._fallbacks.get(candidate)

    def report_not_admitted(self, queued_seconds: float, *, full: bool, free_at: float, now: float) -> None:
        """The queue was full, the wait in it ran out, or somebody who was passed by may be called by now."""
        self.record.queued_seconds += queued_seconds
        if full and not self._left_over.has_turn(now):
            self._finish(GiveUp("queue_full", retry_after_seconds(free_at, now)))

    def close(self) -> None:
        """The run is over, however it ended: what was paid for and not used is given back."""
        self._give_extra_back()
        for call in self._under_way:  # the caller went away before it was made
            if call.extra is not None:
                self._shared.budgets.end(call.extra, refund=True)

    # -- what follows from it ----------------------------------------------------------------------------------

    def _succeeded(self, call: Call, began_at: float, now: float, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        candidate = call.candidate
        tries = self._over(call, refund=True)
        if self._shared.budgets.owing:
            self._shared.budgets.succeeded(candidate.domains.all())
        tried = Try(candidate.id, tries, began_at, now, effects=effects, hedge=call.hedge, key_id=candidate.key_id)
        self.record.tries.append(tried._replace(content_at=now) if self._streamed else tried)
        self.record.candidate = candidate.id
        self._finish(DELIVER)
        return effects

    def _failed(self, call: Call, failure: Failure, began_at: float, *, given_up: bool) -> FailedTry:
        return FailedTry(
            category=failure.info.category,
            blame=failure.blame,
            hint=failure.hint,
            began_at=began_at,
            given_up=given_up,
            probe=call.probe,
            others=[other for other in self.route.candidates if other is not call.candidate],
            chance=self._shared.chance(),
        )

    def _over(self, call: Call, *, refund: bool) -> int:
        """A call is over; returns which try of its candidate it was."""
        self._admitted = False
        self._ended(call, refund=refund)
        key = call.candidate.key
        self._tries[key] = tries = self._tries.get(key, 0) + 1
        return tries

    def _ended(self, call: Call, *, refund: bool) -> None:
        self._under_way.remove(call)
        if call.extra is not None:
            self._shared.budgets.end(call.extra, refund=refund)

    def _give_extra_back(self) -> None:
        extra, self._extra = self._extra, None
        if extra is not None:
            self._shared.budgets.end(extra, refund=True)

    def _give_up_other_keys(self, candidate: RouteCandidate, failed_domain: str) -> None:
        """Where its key was not to blame, no other key of its provider would do better."""
        self._given_up.discard(candidate.key)
        if failed_domain not in (candidate.domains.credential, candidate.domains.credential_model):
            self._given_up.add(candidate.key)
            if self._left_over_or_none is not None:
                self._left_over_or_none.given_up(candidate.key)

    def _leave_after_all(self, candidate: RouteCandidate, decisions: Decisions, why: str) -> None:
        """It was to be tried again, and is not."""
        tries = self.record.tries
        told = (candidate.id, candidate.key_id)
        last = max(index for index, tried in enumerate(tries) if (tried.candidate, tried.key_id) == told and tried.n)
        tries[last] = tries[last]._replace(did=self._leave(decisions), why=why)

    def _leave(self, decisions: Decisions) -> Did:
        """The candidate's turn is over: go on to the next, or stop."""
        self._current, self._fallback = None, None
        if decisions.failover.retry and self._may_fail_over:
            return "next"
        self._finish(GiveUp("stopped"))
        return "stop"
