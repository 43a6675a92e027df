"""Who is left of a run when everybody has had a turn: those who were passed by, and those without local capacity. Pure.

- Whoever was passed by and may be called now has a turn after all.
- Where somebody is left out only for local capacity, the run waits in the queue.
- Where all are cooling down or being probed, the run waits for the earliest, if that is within bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Final, NamedTuple

from ._health import Availability, StandingOf, availability, probe_held_until
from ._record import Ending, RunRecord
from ._route import Route, RouteCandidate
from ._steps import Enqueue, GiveUp, Wait


class Awaited(NamedTuple):
    """Whom a run waits for to be well again.

    Attributes:
        candidates: Any of these would do.
        due: When the first of them may be called, as far as is known now, in seconds since the epoch.
        latest: When the run waits for them no longer; infinity where it waits for something else as well.
    """

    candidates: tuple[RouteCandidate, ...] = ()
    due: float = inf
    latest: float = inf


NOBODY: Final = Awaited()


class LeftOver:
    """The candidates of one run that were passed by.

    Attributes:
        only_queue: Nobody has another turn but those who wait for local capacity.
        out_of_time: Somebody was not called because too little time was left.
    """

    __slots__ = (
        "_at_limit",
        "_deadline",
        "_health_wait_until",
        "_passed_by",
        "_queue_wait_until",
        "_record",
        "_route",
        "_standing_of",
        "_useful_seconds",
        "only_queue",
        "out_of_time",
    )

    def __init__(
        self,
        route: Route,
        record: RunRecord,
        standing_of: StandingOf,
        deadline: float,
        useful_seconds: Callable[[RouteCandidate], float],
    ) -> None:
        self._useful_seconds = useful_seconds
        self.only_queue = False
        self.out_of_time = False
        self._route = route
        self._record = record
        self._standing_of = standing_of
        self._deadline = deadline
        self._passed_by: list[tuple[RouteCandidate, Availability]] = []
        self._at_limit: list[tuple[RouteCandidate, float]] = []
        self._health_wait_until: float | None = None
        self._queue_wait_until: float | None = None

    def passed_by(self, candidate: RouteCandidate, found: Availability) -> None:
        """It may not be called now."""
        self._passed_by.append((candidate, found))

    def given_up(self, key: str) -> None:
        """The candidate ``key`` has no other turn in this run, with whichever key of its provider."""
        self._passed_by = [pair for pair in self._passed_by if pair[0].key != key]
        self._at_limit = [pair for pair in self._at_limit if pair[0].key != key]

    def at_limit(self, candidate: RouteCandidate, free_at: float) -> None:
        """There was no local capacity for it; there may be some at ``free_at``."""
        self._at_limit.append((candidate, free_at))

    @property
    def latest_admission(self) -> float:
        """After this, capacity is of no use to the run any more."""
        return self._latest(candidate for candidate, _ in self._at_limit)

    def _latest(self, candidates: Iterable[RouteCandidate]) -> float:
        return self._deadline - min(map(self._useful_seconds, candidates))

    def may_wait(self, now: float) -> bool:
        """Whether the run may wait in the queue, for as long as its model allows."""
        return self._queue_wait_until is None or now < self._queue_wait_until

    def admitted(self, candidate: RouteCandidate) -> None:
        """The queue handed over the capacity for it."""
        self._at_limit = [pair for pair in self._at_limit if pair[0] is not candidate]
        self.only_queue = False

    def next(self, now: float) -> list[RouteCandidate] | Wait | Enqueue | GiveUp:
        """Who has a turn after all, or what the run does instead."""
        if again := self._turns_again(now):
            return again
        if self.out_of_time:
            return GiveUp("deadline")
        if self._at_limit:
            return self._queue(now)
        standings = [availability(candidate, self._standing_of, now) for candidate in self._route.candidates]
        ends = [found.until for found in standings if found.until and found.verdict in ("cooling", "disabled")]
        untils, probing = self._waited_for(now)
        retry_after = min([*ends, *untils], default=now) - now if ends or untils else None
        ending: Ending = "exhausted" if self._record.attempts else "unavailable"
        if not untils or any(found.verdict == "usable" for found in standings):
            return GiveUp(ending, retry_after)
        if self._health_wait_until is None:
            latest = self._latest(candidate for candidate, _ in self._passed_by)
            self._health_wait_until = min(latest, now + self._route.queue.max_wait_seconds)
        if now >= self._health_wait_until or (not probing and min(untils) >= self._health_wait_until):
            return GiveUp(ending, retry_after)
        return Wait(min(*untils, self._health_wait_until))

    def awaited(self, now: float) -> Awaited:
        """Whom the run waits for, beside local capacity."""
        if self.only_queue:
            return NOBODY
        latest = inf if self._health_wait_until is None or self._at_limit else self._health_wait_until
        # Somebody may have come back since the step, while others were asked.
        due = now if self.has_turn(now) else min(self._waited_for(now)[0], default=inf)
        return Awaited(tuple(candidate for candidate, _ in self._passed_by), due, latest)

    def has_turn(self, now: float) -> bool:
        """Whether somebody who was passed by may be called now."""
        return not self.only_queue and any(self._may_go(*pair, now) for pair in self._passed_by)

    def _turns_again(self, now: float) -> list[RouteCandidate]:
        """Those who were passed by and may be called now."""
        again = [pair for pair in self._passed_by if not self.only_queue and self._may_go(*pair, now)]
        self._passed_by = [pair for pair in self._passed_by if pair not in again]
        return [candidate for candidate, _ in again]

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

    def _queue(self, now: float) -> Enqueue | GiveUp:
        queue = self._route.queue
        free_at = min(at for _, at in self._at_limit)
        if self._queue_wait_until is None:
            self._queue_wait_until = now + queue.max_wait_seconds
        if queue.max_waiting:
            if not self.may_wait(now):
                return GiveUp("queue_timeout", retry_after_seconds(free_at, now))
            if now >= self.latest_admission:
                return GiveUp("deadline")
        # Whoever was passed by has a turn as soon as it may be called.
        turns = () if self.only_queue else [at for at in self._waited_for(now)[0] if at > now]
        until = min(self.latest_admission, self._queue_wait_until, *turns)
        return Enqueue(tuple(candidate for candidate, _ in self._at_limit), until)


def retry_after_seconds(free_at: float, now: float) -> float:
    """When to come again; a second is as good a guess as any where nobody knows, or what is free is kept for others."""
    return free_at - now if now < free_at < inf else 1.0
