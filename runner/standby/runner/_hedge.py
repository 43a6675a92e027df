"""A call that is hedged: while it is silent somebody else is asked beside it, and whoever has content first is heard.

Why not always? Each hedge is work that is paid for twice. It is for the slow few: after a time, or a percentile, that
most answers keep; and the retry budget pays for it, so that a provider that is slow for everybody is not asked twice
by everybody.

Each call is a try of its own, that answers, fails or is abandoned. A stream is opened in one task, and read and closed
in another: no client may hold a cancel scope open over that.
"""

from __future__ import annotations

import math
from typing import Final, Generic

import anyio
from anyio.abc import TaskGroup

from standby.clients import InvalidBody

from ._drive import CLEAN_UP_SECONDS, Attempt, Discard, Driver, Held, Report, Run, T, cut
from ._limits import Refused
from ._plan import Plan
from ._route import RouteCandidate
from ._steps import Call

HEARD: Final = "another was heard first"
STOPPED: Final = "the run was stopped"


async def hedged(
    driver: Driver, run: Run, call: Call, attempt: Attempt[T], report: Report[T], discard: Discard[T] | None
) -> T | None:
    """Make ``call``, which is prepared, and others beside it; the first answer, or `None` where all failed.

    Every call is reported to the plan. What the one that was heard holds is the run's from then on.
    """
    race = _Race(driver, run, attempt, discard)
    try:
        async with anyio.create_task_group() as tasks:
            race.start(tasks, call, run.held)
            await race.until_decided(tasks, call.hedge_at)
            tasks.cancel_scope.cancel()
    except BaseException:
        await race.abandon()
        raise
    if race.invalid is not None:
        raise race.invalid
    if race.heard is None:
        return None
    heard = race.heard
    run.held = heard.held
    driver.latencies.add(heard.call.candidate.key, heard.at - heard.began_at)
    await driver.apply(report(heard.call, heard.answer, heard.began_at, heard.at))
    return heard.answer


class _Heard(Generic[T]):
    """The first answer."""

    __slots__ = ("answer", "at", "began_at", "call", "held")

    def __init__(self, call: Call, held: Held, answer: T, began_at: float, at: float) -> None:
        self.call = call
        self.held = held
        self.answer = answer
        self.began_at = began_at
        self.at = at


class _Race(Generic[T]):
    """The calls of one run that are under way beside each other."""

    def __init__(self, driver: Driver, run: Run, attempt: Attempt[T], discard: Discard[T] | None) -> None:
        self.heard: _Heard[T] | None = None
        self.invalid: InvalidBody | None = None
        self._driver = driver
        self._run = run
        self._plan: Plan = run.plan
        self._attempt = attempt
        self._discard = discard
        self._under_way = 0
        self._news = anyio.Event()

    def start(self, tasks: TaskGroup, call: Call, held: Held) -> None:
        """Make a call."""
        self._under_way += 1
        tasks.start_soon(self._make, call, held)

    async def until_decided(self, tasks: TaskGroup, hedge_at: float) -> None:
        """Wait until somebody is heard, or nobody can be any more; ask somebody else at ``hedge_at``."""
        timeline = self._run.timeline
        while not self._decided:
            with anyio.CancelScope(deadline=timeline.deadline(hedge_at)):
                await self._news.wait()
            now = timeline.now()
            if self._decided or now < hedge_at:
                continue
            call = self._plan.hedge(now, self._has_capacity)
            if call is None:
                hedge_at = math.inf
            else:
                self.start(tasks, call, self._held_for(call))
                hedge_at = call.hedge_at

    async def abandon(self) -> None:
        """The caller went away just when somebody was heard."""
        if self.heard is not None:
            heard, self.heard = self.heard, None
            await self._lose(heard.call, heard.held, heard.answer, heard.began_at, "")

    @property
    def _decided(self) -> bool:
        return self.heard is not None or self.invalid is not None or self._plan.over or not self._under_way

    def _has_capacity(self, candidate: RouteCandidate) -> bool:
        capacities, now = candidate.capacities, self._run.timeline.now()
        taken = self._driver.queue.take(capacities, self._run.tokens(), now) if capacities else None
        if taken is None or isinstance(taken, Refused):
            return taken is None
        taken.end(used=False)
        return True

    def _held_for(self, call: Call) -> Held:
        held = Held()
        if call.candidate.capacities:
            taken = self._driver.queue.take(call.candidate.capacities, self._run.tokens(), self._run.timeline.now())
            held.lease = None if isinstance(taken, Refused) else taken
        return held

    async def _make(self, call: Call, held: Held) -> None:
        try:
            await self._made(call, held)
        finally:
            self._under_way -= 1
            news, self._news = self._news, anyio.Event()
            news.set()

    async def _made(self, call: Call, held: Held) -> None:
        held.called = True
        timeline = self._run.timeline
        began_at = timeline.now()
        error: Exception | None = None
        clock = anyio.CancelScope(deadline=timeline.deadline(call.until))
        try:
            with clock:
                answer = await self._attempt(call.candidate)
                if self.heard is None and not self._plan.over:
                    self.heard = _Heard(call, held, answer, began_at, timeline.now())
                else:
                    await self._lose(call, held, answer, began_at, HEARD if self.heard else STOPPED)
                return
        except InvalidBody as raised:
            self._plan.report_abandoned(call, began_at, timeline.now())
            self.invalid = raised
            return
        except Exception as raised:  # noqa: BLE001 - whatever a client raises is a failed try, and is classified
            error = raised
        except BaseException:
            await self._forget(call, held, began_at, HEARD if self.heard else STOPPED if self._plan.over else "")
            raise
        await self._driver.failed(self._run, call, held, error or cut(call, began_at), began_at)

    async def _lose(self, call: Call, held: Held, answer: T, began_at: float, why: str) -> None:
        """There is an answer, and nobody to hear it."""
        if self._discard is not None:
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await self._discard(answer)
        await self._forget(call, held, began_at, why)

    async def _forget(self, call: Call, held: Held, began_at: float, why: str) -> None:
        now = self._run.timeline.now()
        if why == HEARD:
            # It would have taken at least as long; without it, only the quick ones would be remembered.
            self._driver.latencies.add(call.candidate.key, now - began_at)
        self._plan.report_abandoned(call, began_at, now, why)
        await self._driver.give_back(self._run, held)
