"""One run as a state machine. Pure: no I/O, no clock, no chance of its own.

The rules of this file:

1. `Plan.step` says what to do now; the shell does it and tells what came of it by exactly one of the ``report_*``
   methods, then asks for the next step. Plain and streamed runs are driven by the same steps.
2. Every candidate has one turn. In its turn it is tried, and tried again while the retry decision, ``maxAttempts``, the
   backoff and the deadline allow. What the failover decision says then happens to it, and the run goes on or stops.
3. There is no wait before a failover. A run waits only for the same candidate (backoff, a hint), for the end of the
   earliest cooldown where all candidates are cooling, and in the queue where somebody is left out for local capacity.
4. Nothing starts at or after the deadline.
5. What a failure does to a candidate's health is a value that the shell hands to the state before it asks for the next
   step, so that the run itself, like every other, passes by what it cooled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from standby.clients import ClientError, redacted
from standby.store import Effect

from ._classify import classify
from ._decide import decide
from ._decisions import Decisions
from ._health import (
    MIN_COOLDOWN_SECONDS,
    Availability,
    FailedTry,
    StandingOf,
    availability,
    effects_of_failure,
    effects_of_success,
    leaves_out,
    probe_held_until,
)
from ._record import Did, Ending, Failure, RunRecord, Skip, Try
from ._route import Route, RouteCandidate

MAX_HINT_SECONDS: Final = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Call:
    """Try this candidate now.

    Attributes:
        candidate: Whom.
        until: When the try is to be cut, on the run's timeline.
        clock: Whose clock that is: ``attemptSeconds``, ``firstTokenSeconds`` or ``deadline``.
        probe: The half-open domains whose probe must be leased first; empty for an ordinary try.
        admitted: Whether the queue already holds the local capacity for it.
    """

    candidate: RouteCandidate
    until: float
    clock: str
    probe: tuple[str, ...] = ()
    admitted: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until then; where ``for_health``, or until any standing changes."""

    until: float
    for_health: bool = False


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Wait in the model's queue for the local capacity of one of these, until then at the latest."""

    candidates: tuple[RouteCandidate, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Deliver:
    """Somebody answered: the run is over."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run is over without an answer; somebody may be free in ``retry_after_seconds``."""

    ending: Ending
    retry_after_seconds: float | None = None


Step = Call | Wait | Enqueue | Deliver | GiveUp

DELIVER: Final = Deliver()


class Plan:
    """One run.

    Args:
        route: What the run is pinned to.
        order: The candidates in this run's order.
        record: Where the run is told.
        standing_of: What is held against a failure domain.
        chance: Returns a number in [0, 1), for backoff and jitter.
        deadline: When the run must be over, on its timeline.
        may_fail_over: Whether another candidate may be called after one failed.
        streamed: Whether the answer is a stream; a try is then over at its first content.
    """

    def __init__(
        self,
        route: Route,
        order: Iterator[RouteCandidate],
        record: RunRecord,
        standing_of: StandingOf,
        chance: Callable[[], float],
        deadline: float,
        *,
        may_fail_over: bool = True,
        streamed: bool = False,
    ) -> None:
        self.route = route
        self.record = record
        self.deadline = deadline
        self._order = order
        self._standing_of = standing_of
        self._chance = chance
        self._may_fail_over = may_fail_over
        self._streamed = streamed
        self._end: Deliver | GiveUp | None = None
        self._current: RouteCandidate | None = None
        self._admitted = False
        self._tries: dict[RouteCandidate, int] = {}
        self._not_before = 0.0
        self._fallback: Decisions | None = None
        self._told_skips: set[tuple[str, str]] = set()
        self._passed_by: list[tuple[RouteCandidate, Availability]] = []
        self._at_limit: list[tuple[RouteCandidate, float]] = []
        self._only_queue = False
        self._health_wait_until: float | None = None
        self._queue_wait_until: float | None = None

    # -- what to do --------------------------------------------------------------------------------------------

    def step(self, now: float) -> Step:
        """What to do now."""
        while self._end is None:
            if now >= self.deadline:
                return self._finish(GiveUp("deadline"))
            candidate = self._current or self._next_turn()
            if candidate is None:
                step = self._nobody_left(now)
                if step is None:
                    continue
                return step
            found = availability(candidate, self._standing_of, now)
            if found.verdict not in ("usable", "probe"):
                self._pass_by(candidate, found, now)
            elif now < self._not_before:
                return Wait(self._not_before, for_health=True)
            else:
                return self._call(candidate, found, now)
        return self._end

    def _next_turn(self) -> RouteCandidate | None:
        if not self._only_queue:
            self._current = next(self._order, None)
        self._not_before, self._fallback = 0.0, None
        return self._current

    def _call(self, candidate: RouteCandidate, found: Availability, now: float) -> Call:
        seconds, clock = candidate.attempt_seconds, "attemptSeconds"
        if self._streamed and candidate.first_token_seconds < seconds:
            seconds, clock = candidate.first_token_seconds, "firstTokenSeconds"
        until = now + seconds
        if self.deadline < until:
            until, clock = self.deadline, "deadline"
        return Call(candidate, until, clock, found.domains, self._admitted)

    def _pass_by(self, candidate: RouteCandidate, found: Availability, now: float) -> None:
        self._admitted = False
        if self._fallback is not None:
            # Cooled or disabled, by this run or another, while it waited for its next try: its turn ends as the
            # failover decision of its last failure says.
            did = self._leave(self._fallback)
            self.record.tries[-1] = replace(self.record.tries[-1], did=did, why="left out while it waited")
            return
        if (candidate.id, found.cause) not in self._told_skips:
            self._told_skips.add((candidate.id, found.cause))
            self.record.skips.append(Skip(candidate.id, now, found.verdict, found.until, found.cause))
        self._passed_by.append((candidate, found))
        self._current = None

    def _nobody_left(self, now: float) -> Step | None:
        """What to do when all have had their turn or were passed by; `None` where one of the latter has it now."""
        if self._turns_again(now):
            return None
        if self._at_limit:
            return self._queue(now)
        standings = [availability(candidate, self._standing_of, now) for candidate in self.route.candidates]
        ends = [found.until for found in standings if found.verdict == "cooling"]
        untils, probing = self._waited_for(now)
        retry_after = min([*ends, *untils], default=now) - now if ends or untils else None
        ending: Ending = "exhausted" if self.record.attempts else "unavailable"
        if not untils or any(found.verdict == "usable" for found in standings):
            return self._finish(GiveUp(ending, retry_after))
        if self._health_wait_until is None:
            self._health_wait_until = min(self.deadline, now + self.route.queue.max_wait_seconds)
        if now >= self._health_wait_until or (not probing and min(untils) >= self._health_wait_until):
            return self._finish(GiveUp(ending, retry_after))
        return Wait(min(*untils, self._health_wait_until), for_health=True)

    def _turns_again(self, now: float) -> bool:
        """Give their turn to those who were passed by and may be called now."""
        again = [pair for pair in self._passed_by if not self._only_queue and self._may_go(*pair, now)]
        self._passed_by = [pair for pair in self._passed_by if pair not in again]
        self._order = iter([candidate for candidate, _ in again]) if again else self._order
        return bool(again)

    def _may_go(self, candidate: RouteCandidate, passed: Availability, now: float) -> bool:
        found = availability(candidate, self._standing_of, now)
        if found.verdict != "probe":
            return found.verdict == "usable"
        if probe_held_until(found.domains, self._standing_of) > now:
            return False
        # A lease that the state refused, though nobody was seen to hold it, is not asked for again at once.
        return passed.verdict != "probing" or bool(passed.domains) or now >= passed.until

    def _waited_for(self, now: float) -> tuple[list[float], bool]:
        """When those who were passed by may be called, and whether one of them is being probed."""
        untils: list[float] = []
        probing = False
        for candidate, passed in self._passed_by:
            found = availability(candidate, self._standing_of, now)
            if found.verdict == "cooling":
                untils.append(found.until)
            elif found.verdict == "probe":
                probing = True
                untils.append(max(passed.until, probe_held_until(found.domains, self._standing_of)))
        return untils, probing

    def _queue(self, now: float) -> Step | None:
        queue = self.route.queue
        free_at = min(at for _, at in self._at_limit)
        retry_after = max(free_at - now, 0.0) if free_at < float("inf") else 1.0
        if self._queue_wait_until is None:
            if not queue.max_waiting:
                return self._without_queue(retry_after, now)
            self._queue_wait_until = now + queue.max_wait_seconds
        if now >= self._queue_wait_until:
            return self._finish(GiveUp("queue_timeout", retry_after))
        until = min(self.deadline, self._queue_wait_until)
        return Enqueue(tuple(candidate for candidate, _ in self._at_limit), until)

    def _without_queue(self, retry_after: float, now: float) -> Step | None:
        """Nobody may wait; but whose capacity came back while others were tried has a turn after all."""
        free = [candidate for candidate, at in self._at_limit if at <= now]
        if not free:
            return self._finish(GiveUp("queue_full", retry_after))
        self._at_limit = [pair for pair in self._at_limit if pair[0] not in free]
        self._order, self._only_queue = iter(free), False
        return None

    def _finish(self, end: Deliver | GiveUp) -> Deliver | GiveUp:
        self._end = end
        return end

    # -- what came of it ---------------------------------------------------------------------------------------

    def report_answer(self, call: Call, began_at: float, now: float) -> tuple[Effect, ...]:
        """The candidate answered; returns what that does to its health."""
        effects = effects_of_success(call.candidate, began_at, self._standing_of, now)
        self.record.tries.append(Try(call.candidate.id, self._count(call.candidate), began_at, now, effects=effects))
        self.record.candidate = call.candidate.id
        self._finish(DELIVER)
        return effects

    def report_commit(self, call: Call, began_at: float, now: float) -> tuple[Effect, ...]:
        """The candidate's stream has content, and goes to the caller; a probe is settled, the rest at its end."""
        effects = effects_of_success(call.candidate, began_at, self._standing_of, now) if call.probe else ()
        self.record.tries.append(Try(call.candidate.id, self._count(call.candidate), began_at, now, effects=effects))
        self.record.candidate = call.candidate.id
        self._finish(DELIVER)
        return effects

    def report_end(self, call: Call, now: float) -> tuple[Effect, ...]:
        """The stream that the run committed to is complete."""
        tried = self.record.tries[-1]
        effects = effects_of_success(call.candidate, tried.began_at, self._standing_of, now)
        self.record.tries[-1] = replace(tried, ended_at=now, effects=tried.effects + effects)
        return effects

    def report_left(self, now: float) -> None:
        """The caller left the stream that the run committed to: it changes nobody's health."""
        self.record.tries[-1] = replace(self.record.tries[-1], ended_at=now, abandoned=True)

    def report_break(self, call: Call, error: Exception, now: float) -> tuple[Effect, ...]:
        """The stream that the run committed to broke: nobody can take over, but the candidate's health hears of it."""
        tried, candidate = self.record.tries[-1], call.candidate
        failure = _failure(error)
        decisions = decide(candidate.rules, failure.info, retryable=failure.retryable)
        failed = self._failed(call, failure, tried.began_at, given_up=True, now=now)
        effects = effects_of_failure(candidate, decisions, failed, self._standing_of, now)
        self.record.tries[-1] = replace(
            tried,
            ended_at=now,
            failure=failure,
            decisions=decisions,
            did="stop",
            why="the caller has had the first content",
            effects=tried.effects + effects,
        )
        return effects

    def report_failure(self, call: Call, error: Exception, began_at: float, now: float) -> tuple[Effect, ...]:
        """The call failed; returns what that does to the candidate's health, and to what shares it."""
        candidate = call.candidate
        tries = self._count(candidate)
        failure = _failure(error)
        decisions = decide(candidate.rules, failure.info, retryable=failure.retryable)
        wait_seconds, why = self._wait_before_retry(candidate, tries, decisions, failure, now)
        failed = self._failed(call, failure, began_at, given_up=wait_seconds is None, now=now)
        effects = effects_of_failure(candidate, decisions, failed, self._standing_of, now)
        if wait_seconds is not None and leaves_out(candidate, effects):
            # What it just did leaves it out: a wait for its next try would be a wait before a failover.
            wait_seconds, why = None, "this failure leaves it out"
            given_up = replace(failed, given_up=True)
            effects = effects_of_failure(candidate, decisions, given_up, self._standing_of, now)
        if wait_seconds is not None:
            self._current, self._fallback, self._not_before = candidate, decisions, now + wait_seconds
            did: Did = "retry"
        else:
            did = self._leave(decisions)
        if failure.blame == "caller" and now >= self.deadline:
            self._finish(GiveUp("deadline"))
        self.record.tries.append(
            Try(candidate.id, tries, began_at, now, failure, decisions, did, why, effects, wait_seconds or 0.0)
        )
        return effects

    def report_abandoned(self, call: Call, began_at: float, now: float) -> None:
        """The caller went away during the call: it changes nobody's health."""
        self.record.tries.append(Try(call.candidate.id, self._count(call.candidate), began_at, now, abandoned=True))

    def report_refused(self, call: Call, free_at: float, now: float) -> None:
        """Our own limit left no capacity for the call; ``free_at`` is when there may be some."""
        failure = _local_failure()
        decisions = decide(call.candidate.rules, failure.info, retryable=True, local=True)
        self._at_limit.append((call.candidate, free_at))
        self._current = None
        next_allowed = decisions.failover.retry and self._may_fail_over
        if self._fallback is not None:
            # It was to be tried again; whether another may be called is what was decided about its failure.
            next_allowed = next_allowed and self._fallback.failover.retry
        if not next_allowed:
            # "Stop" for our own limit means: nobody else; the run waits for this one, unless a hard stop forbids it.
            self._only_queue = True
            if decisions.failover.reason == "hard_stop_policy":
                self._finish(GiveUp("stopped", free_at - now if free_at < float("inf") else None))
        did: Did = "next" if next_allowed else "stop"
        self.record.tries.append(Try(call.candidate.id, 0, now, now, failure, decisions, did))

    def report_probed_elsewhere(self, call: Call, now: float) -> None:
        """The probe was not to be had: another run holds it, or the candidate is cooling again."""
        until = probe_held_until(call.probe, self._standing_of)
        seen = call.probe if until > now else ()
        until = max(until, now + MIN_COOLDOWN_SECONDS)
        self._pass_by(call.candidate, Availability("probing", until, "another run probes it", seen), now)

    def report_admitted(self, candidate: RouteCandidate, queued_seconds: float) -> None:
        """The queue handed over the local capacity for ``candidate``: its turn begins."""
        self.record.queued_seconds += queued_seconds
        self._at_limit = [(other, at) for other, at in self._at_limit if other is not candidate]
        self._current, self._admitted, self._only_queue = candidate, True, False
        self._not_before, self._fallback = 0.0, None

    def report_not_admitted(self, queued_seconds: float, *, full: bool, free_at: float, now: float) -> None:
        """The queue was full, or the wait in it ran out."""
        self.record.queued_seconds += queued_seconds
        retry_after = free_at - now if free_at < float("inf") else 1.0
        if full or now < self.deadline:
            self._finish(GiveUp("queue_full" if full else "queue_timeout", retry_after))

    # -- what follows from a failure ---------------------------------------------------------------------------

    def _failed(self, call: Call, failure: Failure, began_at: float, *, given_up: bool, now: float) -> FailedTry:
        return FailedTry(
            category=failure.info.category,
            blame=failure.blame,
            hint=failure.hint,
            began_at=began_at,
            given_up=given_up,
            probe=call.probe,
            last_usable=lambda: self._last_usable(call.candidate, now),
            chance=self._chance(),
        )

    def _count(self, candidate: RouteCandidate) -> int:
        self._admitted = False
        self._tries[candidate] = tries = self._tries.get(candidate, 0) + 1
        return tries

    def _wait_before_retry(
        self, candidate: RouteCandidate, tries: int, decisions: Decisions, failure: Failure, now: float
    ) -> tuple[float | None, str]:
        """How long to wait before the same candidate is tried again; `None`, and why, where it is not."""
        if not decisions.retry.retry:
            return None, ""
        if tries >= candidate.max_attempts:
            return None, f"maxAttempts {candidate.max_attempts}"
        hint = failure.hint or 0.0
        if hint > candidate.backoff.max_seconds:
            return None, f"asked to wait {hint:g} s, longer than backoff.maxSeconds {candidate.backoff.max_seconds:g}"
        wait_seconds = max(hint, candidate.backoff_seconds(tries, self._chance()))
        if now + wait_seconds >= self.deadline:
            return None, "the deadline comes before the next try"
        return wait_seconds, ""

    def _leave(self, decisions: Decisions) -> Did:
        """The candidate's turn is over: go on to the next, or stop."""
        self._current, self._fallback = None, None
        if decisions.failover.retry and self._may_fail_over:
            return "next"
        self._finish(GiveUp("stopped"))
        return "stop"

    def _last_usable(self, candidate: RouteCandidate, now: float) -> bool:
        return not any(self._usable(other, now) for other in self.route.candidates if other is not candidate)

    def _usable(self, candidate: RouteCandidate, now: float) -> bool:
        found = availability(candidate, self._standing_of, now)
        if found.verdict == "probe":
            return probe_held_until(found.domains, self._standing_of) <= now
        return found.verdict == "usable"


def _failure(error: Exception) -> Failure:
    """Classify what a client raised; what is not a `ClientError` is nobody's word on anything but itself."""
    if isinstance(error, ClientError):
        info = classify(error.code, error.message, error.status)
        return Failure(info, error.retryable, _clamped(error.hint), error.scope, error.work, error.request_id, error)
    info = classify("", redacted(str(error) or type(error).__name__), 0)
    return Failure(info, False, None, "candidate", "unknown", "", error)


def _clamped(hint: float | None) -> float | None:
    """A hint is never trusted: what is no number of seconds is none, and nothing is longer than a year."""
    return min(hint, MAX_HINT_SECONDS) if hint is not None and hint >= 0 else None


def _local_failure() -> Failure:
    error = ClientError("rate_limit", "local capacity exceeded", retryable=True, scope="local", work="not_sent")
    return Failure(classify("rate_limit", error.message, 0), True, None, "local", "not_sent", "", error)
