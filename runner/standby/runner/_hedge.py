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
from typing import TYPE_CHECKING, Any, Final, Generic, cast

import anyio

from standby.clients import InvalidBody

from ._limits import Refused
from ._route import RouteCandidate
from ._run import CLEAN_UP_SECONDS, Attempt, Discard, Held, Report, Run, T, cut
from ._scope import Scope, scope_of
from ._steps import Call
from ._timer import Alarm

if TYPE_CHECKING:
    from ._drive import Driver

HEARD: Final = "another was heard first"
CUT: Final = "the deadline cut it"
STOPPED: Final = "the run was stopped"


class Silence(Generic[T]):
    """A call that is under way, and may be silent for too long.

    Attributes:
        race: The calls beside each other; `None` as long as there was never another.
    """

    __slots__ = ("_alarm", "_alarms", "_made_of", "race")

    def __init__(
        self,
        driver: Driver,
        run: Run,
        call: Call,
        attempt: Attempt[T],
        discard: Discard[T] | None,
        clock: Scope,
    ) -> None:
        self.race: Race[T] | None = None
        self._made_of = driver, run, attempt, discard, clock
        self._alarms = driver.alarms
        self._alarm = driver.alarms.set(run.timeline.of(call.hedge_at), self._begin)

    def _begin(self) -> Coroutine[Any, Any, None]:
        self.race = Race(*self._made_of)
        return self.race.hedge()

    def over(self) -> Race[T] | None:
        """The call is over, whatever came of it; returns the race that it is part of."""
        self._alarms.take_back(self._alarm)
        return self.race


class _Heard(Generic[T]):
    """The first answer."""

    __slots__ = ("answer", "at", "began_at", "call", "held")

    def __init__(self, call: Call, held: Held, answer: T, began_at: float, at: float) -> None:
        self.call = call
        self.held = held
        self.answer = answer
        self.began_at = began_at
        self.at = at


class Race(Generic[T]):
    """The calls of one run that are under way beside each other."""

    __slots__ = (
        "_abandoned",
        "_alarm",
        "_attempt",
        "_clocks",
        "_discard",
        "_driver",
        "_keeping",
        "_news",
        "_plan",
        "_run",
        "heard",
        "hedges",
        "wrong",
    )

    def __init__(self, driver: Driver, run: Run, attempt: Attempt[T], discard: Discard[T] | None, first: Scope) -> None:
        self.heard: _Heard[T] | None = None
        self.wrong: BaseException | None = None
        self._driver = driver
        self._run = run
        self._plan = run.plan
        self._attempt = attempt
        self._discard = discard
        self._clocks = [first]
        self._keeping: list[anyio.CancelScope] = []
        self._alarm: Alarm | None = None
        self.hedges = 0
        self._abandoned = False
        self._news: anyio.Event | None = None

    async def first(
        self,
        call: Call,
        answer: T | None,
        error: Exception | None,
        clock: Scope,
        began_at: float,
        report: Report[T],
    ) -> T | None:
        """The first call is over; the first answer of all, or `None` where all failed.

        Every call is reported to the plan. What the one that was heard holds is the run's from then on.
        """
        try:
            await self._over(call, self._run.held, answer, error, clock, began_at)
            await self._until_no_hedge()
        except BaseException:
            await self.abandon()
            raise
        if self.wrong is not None:
            await self.abandon()
            raise self.wrong
        if self.heard is None:
            return None
        heard = self.heard
        self._run.held = heard.held
        self._driver.latencies.add(self._plan.latency_key(heard.call.candidate), heard.at - heard.began_at)
        await self._driver.apply(report(heard.call, heard.answer, heard.began_at, heard.at))
        return heard.answer

    async def left(self, call: Call, clock: Scope, began_at: float) -> None:
        """The first call was cancelled: the caller went away."""
        self._clocks.remove(clock)
        await self._forget(call, self._run.held, began_at, "")
        await self.abandon()

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

    def _arm(self, call: Call) -> None:
        """Ask somebody else when ``call`` has been silent for so long."""
        if call.hedge_at < math.inf:
            self._alarm = self._driver.alarms.set(self._run.timeline.of(call.hedge_at), self.hedge)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._driver.alarms.take_back(self._alarm)

    async def hedge(self) -> None:
        """Ask somebody else beside those who are silent."""
        # Counted here, not when it is due: a task that is cancelled before its first step never comes to its end.
        self.hedges += 1
        try:
            refused: set[RouteCandidate] = set()
            while self._clocks and not self._decided:
                now = self._run.timeline.now()
                call = self._plan.hedge(now, lambda each: each not in refused and self._has_capacity(each))
                if call is None:
                    break
                held = self._held_for(call.candidate)
                if await self._granted(call, held):
                    self._arm(call)
                    await self._make(call, held)
                    break
                refused.add(call.candidate)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as defect:  # noqa: BLE001 - raised where the run is
            self.wrong = defect
            self._see_to_the_others()
        finally:
            self.hedges -= 1
            if self._news is not None:
                self._news.set()

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
        clock, granted = scope_of(math.inf), False
        self._clocks.append(clock)
        try:
            with clock:
                refused = await self._driver.refused_elsewhere(self._run, lease)
                granted = (
                    refused is None and not self._decided and self._plan.may_still_begin(call, self._run.timeline.now())
                )
        finally:
            self._clocks.remove(clock)
            if not granted:
                self._plan.report_not_made(call)
                await self._driver.give_back(self._run, held)
        return granted

    # -- one call ----------------------------------------------------------------------------------------------

    async def _make(self, call: Call, held: Held) -> None:
        """Make a call, and tell what came of it."""
        held.called = True
        timeline = self._run.timeline
        began_at = timeline.now()
        clock = scope_of(call.until - began_at)
        self._clocks.append(clock)
        answer: T | None = None
        error: Exception | None = None
        try:
            with clock:
                answer = await self._attempt(call.candidate)
        except Exception as raised:  # noqa: BLE001 - whatever a client raises is a failed try, and is classified
            error = raised
        except BaseException:
            self._clocks.remove(clock)
            await self._forget(call, held, began_at, "")
            raise
        await self._over(call, held, answer, error, clock, began_at)

    async def _over(
        self,
        call: Call,
        held: Held,
        answer: T | None,
        error: Exception | None,
        clock: Scope,
        began_at: float,
    ) -> None:
        """A call is over: it is heard, or too late, or has failed, or is of no use."""
        self._clocks.remove(clock)
        timeline = self._run.timeline
        if isinstance(error, InvalidBody):
            self.wrong = error
            self._see_to_the_others()
            await self._forget(call, held, began_at, "")
            return
        if error is None and not clock.cancelled_caught:
            heard = cast("T", answer)
            if self._decided:
                await self._lose(call, held, heard, began_at, self._why)
            else:
                self.heard = _Heard(call, held, heard, began_at, timeline.now())
            self._see_to_the_others()
            return
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
