"""A call that is hedged: while it is silent somebody else is asked beside it, and whoever has content first is heard.

Why not always? Each hedge is work that is paid for twice. It is for the slow few: after a time, or a percentile, that
most answers keep; and the retry budget pays for it, so that a provider that is slow for everybody is not asked twice
by everybody.

Each call is a try of its own, that answers, fails or is abandoned. The first one is made where the run is; only a hedge
is a task, and what most runs pay is a timer that is taken back. A stream may be opened in one task and read, and
closed, in another: no client may hold a cancel scope open over that.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Generic

import anyio

from standby.clients import InvalidBody

from ._drive import CLEAN_UP_SECONDS, Attempt, Discard, Driver, Held, Report, Run, T, cut
from ._limits import Refused
from ._route import RouteCandidate
from ._steps import Call
from ._timer import Cancel, begin_later

HEARD: Final = "another was heard first"
CUT: Final = "the deadline cut it"
STOPPED: Final = "the run was stopped"


async def hedged(
    driver: Driver, run: Run, call: Call, attempt: Attempt[T], report: Report[T], discard: Discard[T] | None
) -> T | None:
    """Make ``call``, which is prepared, and others beside it; the first answer, or `None` where all failed.

    Every call is reported to the plan. What the one that was heard holds is the run's from then on.
    """
    race = _Race(driver, run, attempt, discard)
    try:
        race.arm(call)
        await race.make(call, run.held)
        if race.hedges or race.wrong is not None:
            await race.settle()
    except BaseException:
        await race.abandon()
        raise
    if race.heard is None:
        return None
    heard = race.heard
    run.held = heard.held
    driver.latencies.add(run.plan.latency_key(heard.call.candidate), heard.at - heard.began_at)
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

    __slots__ = (
        "_abandoned",
        "_attempt",
        "_clocks",
        "_discard",
        "_driver",
        "_keeping",
        "_news",
        "_plan",
        "_run",
        "_timer",
        "heard",
        "hedges",
        "wrong",
    )

    def __init__(self, driver: Driver, run: Run, attempt: Attempt[T], discard: Discard[T] | None) -> None:
        self.heard: _Heard[T] | None = None
        self.wrong: BaseException | None = None
        self._driver = driver
        self._run = run
        self._plan = run.plan
        self._attempt = attempt
        self._discard = discard
        self._clocks: list[anyio.CancelScope] = []
        self._keeping: list[anyio.CancelScope] = []
        self._timer: Cancel | None = None
        self.hedges = 0
        self._abandoned = False
        self._news: anyio.Event | None = None

    async def abandon(self) -> None:
        """The caller went away, or something is wrong: end the hedges, and close what was just heard."""
        self._abandoned = True
        self._see_to_the_others()
        with anyio.CancelScope(shield=True):
            await self._until_no_hedge()
        heard, self.heard = self.heard, None
        if heard is not None:
            await self._lose(heard.call, heard.held, heard.answer, heard.began_at, "")

    @property
    def _decided(self) -> bool:
        return self.heard is not None or self.wrong is not None or self._plan.over or self._abandoned

    @property
    def _why(self) -> str:
        """Why a call is of no use any more."""
        return HEARD if self.heard is not None else STOPPED if self._plan.over else ""

    # -- somebody else -----------------------------------------------------------------------------------------

    def arm(self, call: Call) -> None:
        """Ask somebody else when ``call`` has been silent for so long."""
        if call.hedge_at < math.inf:
            seconds = max(0.0, call.hedge_at - self._run.timeline.now())
            self._timer = begin_later(seconds, self._begin_hedge)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer()

    def _begin_hedge(self) -> Coroutine[Any, Any, None]:
        self._timer = None
        return self._hedge()

    async def _hedge(self) -> None:
        # Counted here, not when it is due: a task that is cancelled before its first step never comes to its end.
        self.hedges += 1
        try:
            call = None
            if self._clocks and not self._decided:
                call = self._plan.hedge(self._run.timeline.now(), self._has_capacity)
            if call is not None:
                held = self._held_for(call.candidate)
                if await self._granted(call, held):
                    self.arm(call)
                    await self.make(call, held)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as defect:  # noqa: BLE001 - raised where the run is
            self.wrong = defect
            self._see_to_the_others()
        finally:
            self.hedges -= 1
            if self._news is not None:
                self._news.set()

    async def settle(self) -> None:
        """Wait until every hedge is over, and raise what is wrong with one."""
        await self._until_no_hedge()
        if self.wrong is not None:
            raise self.wrong

    async def _until_no_hedge(self) -> None:
        while self.hedges:
            self._news = anyio.Event()
            await self._news.wait()

    def _has_capacity(self, candidate: RouteCandidate) -> bool:
        lease = self._held_for(candidate).lease
        if lease is not None:
            lease.end(used=False)
        return lease is not None or not candidate.capacities

    def _held_for(self, candidate: RouteCandidate) -> Held:
        held = Held()
        if candidate.capacities:
            now = self._run.timeline.steady()
            taken = self._driver.queue.take(candidate.capacities, self._run.tokens(), now)
            held.lease = None if isinstance(taken, Refused) else taken
        return held

    async def _granted(self, call: Call, held: Held) -> bool:
        """Whether other processes have room for the hedge, and it is still wanted when they have answered."""
        lease = held.lease
        if lease is None or not self._driver.limits.shares:
            return True
        clock, granted = anyio.CancelScope(), False
        self._clocks.append(clock)
        try:
            with clock:
                refused = await self._driver.refused_elsewhere(self._run, lease)
                granted = refused is None and not self._decided
        finally:
            self._clocks.remove(clock)
            if not granted:
                lease.end(used=False)
                self._plan.report_not_made(call)
        return granted

    # -- one call ----------------------------------------------------------------------------------------------

    async def make(self, call: Call, held: Held) -> None:
        """Make a call, and tell what came of it."""
        held.called = True
        timeline = self._run.timeline
        began_at = timeline.now()
        clock = anyio.CancelScope(deadline=timeline.deadline(call.until))
        self._clocks.append(clock)
        error: Exception | None = None
        try:
            with clock:
                answer = await self._attempt(call.candidate)
                if not self._decided:
                    self.heard = _Heard(call, held, answer, began_at, timeline.now())
                    return
                await self._lose(call, held, answer, began_at, self._why)
                return
        except InvalidBody as raised:
            self.wrong = raised
            await self._forget(call, held, began_at, "")
            return
        except Exception as raised:  # noqa: BLE001 - whatever a client raises is a failed try, and is classified
            error = raised
        except BaseException:
            await self._forget(call, held, began_at, "")
            raise
        finally:
            self._clocks.remove(clock)
            self._see_to_the_others()
        # At the run's deadline the caller may be leaving as well: an extra call is then nobody's, whoever comes first.
        over = self._decided or (call.hedge and call.clock == "deadline")
        if over and (error is None or clock.cancel_called):
            cut_off = call.clock == "deadline" and timeline.now() >= call.until
            await self._forget(call, held, began_at, self._why or (CUT if cut_off else ""))
            return
        # What a failure does is true here at once. Whoever is heard, or leaves, need not wait until it is kept too.
        with anyio.CancelScope() as keeping:
            self._keeping.append(keeping)
            self._see_to_the_others()
            try:
                await self._driver.failed(self._run, call, held, error or cut(call, began_at), began_at)
            finally:
                self._keeping.remove(keeping)
        self._see_to_the_others()

    def _see_to_the_others(self) -> None:
        if self.heard is not None or self._abandoned:
            for keeping in self._keeping:
                keeping.cancel()
        if not self._clocks:
            self._disarm()
        elif self._decided:
            self._disarm()
            for clock in self._clocks:
                clock.cancel()

    async def _lose(self, call: Call, held: Held, answer: T, began_at: float, why: str) -> None:
        """There is an answer, and nobody to hear it."""
        if self._discard is not None:
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                with suppress(Exception):
                    await self._discard(answer)
        await self._forget(call, held, began_at, why)

    async def _forget(self, call: Call, held: Held, began_at: float, why: str) -> None:
        now = self._run.timeline.now()
        if why == HEARD and not call.hedge:
            # It would have taken at least as long; without it, only the quick ones would be remembered.
            self._driver.latencies.add(self._plan.latency_key(call.candidate), now - began_at)
        self._plan.report_abandoned(call, began_at, now, why)
        await self._driver.give_back(self._run, held)
