"""The shell of a run: it does what the plan says, tells the plan what came of it, and gives everything back.

What is held for a call (local capacity, a probe's lease) is held in one place, `Held`, and is given back before the
next step after a failure and at the end of the run, however it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final, cast

import anyio

from standby.clients import InvalidBody
from standby.store import Effect, History, SharedLimits, State

from ._budget import Budgets
from ._clock import Clock, Timeline
from ._errors import NotTried, RunFailed
from ._hedge import Silence
from ._latency import Latencies
from ._left_over import Awaited
from ._limits import Lease, Limits, Refused
from ._log import log_effects
from ._queue import HEAD_START, Queue, Ticket
from ._record import LazyRecord, RunRecord
from ._recovery import Recovery, Waiter
from ._route import RouteCandidate
from ._run import CLEAN_UP_SECONDS, Attempt, Discard, Held, Report, Run, T, cut
from ._scope import scope_of
from ._steps import Call, Deliver, Enqueue, GiveUp, Wait
from ._timer import Alarms

PROBE_LEASE_MARGIN_SECONDS: Final = 5.0


class Driver:
    """Drives any number of runs at once; what they share is their state, their limits and their queues."""

    def __init__(
        self, state: State, history: History, clock: Clock, limits: SharedLimits | None, processes: int
    ) -> None:
        self.queue = Queue()
        self.limits = Limits(limits, processes, lambda found: self.queue.serve(found, clock.steady()))
        self.budgets = Budgets()
        self.latencies = Latencies()
        self.alarms = Alarms(clock.steady)
        self.listeners: list[Callable[[RunRecord], None]] = []
        self._recovery = Recovery(state.standing)
        self._state = state
        self._history = history

    async def drive(self, run: Run, attempt: Attempt[T], report: Report[T], discard: Discard[T] | None = None) -> T:
        """Do what the plan says until somebody answers; the one loop behind plain and streamed runs.

        Args:
            run: The run.
            attempt: Makes one call.
            report: Takes the answer, and tells the plan.
            discard: Closes an answer that nobody needs; nothing need be done where left out.

        Raises:
            RunFailed: Nobody answered.
        """
        self.budgets.runs += 1
        run.counted = True
        answer: T | None = None
        while True:
            match step := run.plan.step(run.timeline.now()):
                case Call():
                    answer = await self._call(run, step, attempt, report, discard)
                case Deliver():
                    if run.turn is not None:
                        run.end_turn(answered=True)
                    return cast("T", answer)
                case Wait():
                    await self._wait(run, step)
                case Enqueue():
                    await self._enqueue(run, step)
                case GiveUp():
                    run.record.ending = step.ending
                    raise _failed(run.record, step)

    async def apply(self, effects: tuple[Effect, ...]) -> None:
        """Make true, and tell in the log, what an outcome does to health."""
        if effects:
            log_effects(effects)
            await self._state.apply(effects)

    async def end(self, run: Run) -> None:
        """The run is over, however it ended: give everything back, and file the record."""
        run.record.ending = run.record.ending or "abandoned"
        if run.counted:
            run.counted = False
            self.budgets.runs -= 1
        run.plan.close()
        run.end_turn()
        try:
            if run.held.anything:
                await self.give_back(run, run.held)
        finally:
            run.record.ended_at = run.timeline.now()
            self._history.add(LazyRecord(run.record))
            for listener in self.listeners:
                listener(run.record)

    async def give_back(self, run: Run, held: Held) -> None:
        """End the lease of local capacity and return the probe, as far as they are still held."""
        lease, held.lease = held.lease, None
        if lease is not None:
            usage = run.record.usage
            lease.end(used=held.called, tokens=None if usage is None else usage.total_tokens)
            if self.queue.anybody:
                self.queue.serve([part.capacity for part in lease.parts], run.timeline.steady())
        if held.probe:
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await self._state.return_probe(held.probe, run.record.run_id)
            held.probe = ()

    # -- the steps ---------------------------------------------------------------------------------------------

    async def _call(
        self, run: Run, call: Call, attempt: Attempt[T], report: Report[T], discard: Discard[T] | None
    ) -> T | None:
        if not await self._prepare(run, call):
            return None
        run.held.called = True
        began_at = run.timeline.now()
        answer: T | None = None
        error: Exception | None = None
        clock = scope_of(call.until - began_at)
        silence: Silence[T] | None = None
        if call.hedge_at < math.inf:
            silence = Silence(self, run, call, attempt, discard, clock)
        try:
            with clock:
                answer = await attempt(call.candidate)
        except Exception as raised:  # noqa: BLE001 - whatever a client raises is a failed try, and is classified
            error = raised
        except BaseException:
            if silence is not None and (race := silence.over()) is not None:
                await race.left(call, clock, began_at)
            else:
                run.plan.report_abandoned(call, began_at, run.timeline.now())
            raise
        if silence is not None and (race := silence.over()) is not None:
            return await race.first(call, answer, error, clock, began_at, report)
        now = run.timeline.now()
        if isinstance(error, InvalidBody):
            run.plan.report_abandoned(call, began_at, now)
            raise error
        if clock.cancelled_caught:
            error = cut(call, began_at)
        if error is None:
            if run.plan.route.hedge is not None:
                self.latencies.add(run.plan.latency_key(call.candidate), now - began_at)
            await self.apply(report(call, cast("T", answer), began_at, now))
        else:
            await self.failed(run, call, run.held, error, began_at)
        return answer

    async def failed(self, run: Run, call: Call, held: Held, error: Exception, began_at: float) -> None:
        """A call failed: what follows from it is made true, and what was held for it is free."""
        try:
            await self.apply(run.plan.report_failure(call, error, began_at, run.timeline.now()))
        finally:
            run.end_turn(answered=False)
            await self.give_back(run, held)

    async def _prepare(self, run: Run, call: Call) -> bool:
        """Take the local capacity and the probe that the call needs; tell the plan where they are not to be had."""
        capacities, held, asked = call.candidate.capacities, run.held, bool(call.probe)
        if not call.admitted:
            if held.anything:
                await self.give_back(run, held)
            if capacities:
                taken = self.queue.take(capacities, run.tokens(), run.timeline.steady())
                if isinstance(taken, Refused):
                    run.plan.report_refused(call, run.timeline.at(taken.free_at), run.timeline.now())
                    return False
                held.lease, held.called = taken, False
                if self.limits.shares and any(part.to_be_asked for part in taken.parts):
                    asked = True
                    if (refused := await self.refused_elsewhere(run, taken)) is not None:
                        held.lease = None
                        run.plan.report_refused(call, run.timeline.at(refused.free_at), run.timeline.now())
                        return False
        if call.probe:
            until = call.until + PROBE_LEASE_MARGIN_SECONDS
            held.probe = call.probe
            if not await self._state.lease_probe(call.probe, run.record.run_id, run.timeline.now(), until):
                held.probe = ()
                run.plan.report_probed_elsewhere(call, run.timeline.now())
                await self.give_back(run, held)
                return False
        if asked and not run.plan.may_still_begin(call, run.timeline.now()):
            run.plan.report_not_made(call)
            await self.give_back(run, held)
            return False
        return True

    async def refused_elsewhere(self, run: Run, lease: Lease, *, in_line: bool = False) -> Refused | None:
        """Ask the other processes for what ``lease`` holds of what they share; unless they grant it, it is ended."""
        if not self.limits.shares:
            return None
        now = run.timeline.steady()
        since = min(run.came_up_at, now) - HEAD_START[run.priority]
        try:
            return await self.limits.confirm(lease, now, since, in_line=in_line)
        finally:
            # While one asks the others wait for what it hears; who is in line is in the queue again before they go on.
            if self.queue.anybody and not in_line:
                self.queue.serve([part.capacity for part in lease.parts], run.timeline.steady())

    async def _wait(self, run: Run, wait: Wait) -> None:
        await self.give_back(run, run.held)
        timeline = run.timeline
        if (awaited := run.plan.awaited(timeline.now())).candidates:
            with self._in_line(run, awaited) as waiter:
                await self._until_woken(waiter, timeline, awaited.latest)
            return
        generation = self._state.generation
        with anyio.CancelScope(deadline=timeline.deadline(wait.until)):
            await self._state.changed(generation)

    @contextmanager
    def _in_line(self, run: Run, awaited: Awaited) -> Generator[Waiter]:
        """A place among those who wait for the same candidates; a turn that comes of it is the run's."""
        waiter = self._recovery.join(awaited, run.timeline.now(), again=run.turn is not None)
        run.end_turn()
        try:
            yield waiter
        finally:
            waiter.leave()
            if waiter.turn:
                run.turn = waiter

    async def _until_woken(self, waiter: Waiter, timeline: Timeline, until: float) -> None:
        while (now := timeline.now()) < until:
            generation = self._state.generation
            look_at = waiter.look(now)
            if waiter.woken:
                return
            with anyio.CancelScope(deadline=timeline.deadline(min(look_at, until))) as scope:
                waiter.wake = scope.cancel
                await (self._state.changed(generation) if waiter.looks else anyio.sleep_forever())

    async def _enqueue(self, run: Run, enqueue: Enqueue) -> None:
        await self.give_back(run, run.held)
        model, timeline = run.record.model, run.timeline
        began_at = timeline.steady()
        full = self.queue.length(model) >= run.plan.route.queue.max_waiting
        if full:
            found: RouteCandidate | Refused | None = await self._no_wait(run, enqueue)
        else:
            run.came_up_at = min(run.came_up_at, began_at)
            found = await self._until_admitted(run, enqueue)
        ended_at = timeline.steady()
        if isinstance(found, RouteCandidate):
            run.plan.report_admitted(found, ended_at - began_at)
        else:
            at = math.inf if found is None else found.free_at
            run.plan.report_not_admitted(
                ended_at - began_at, full=full, free_at=timeline.at(at), now=timeline.at(ended_at)
            )

    async def _no_wait(self, run: Run, enqueue: Enqueue) -> RouteCandidate | Refused:
        """Nobody may wait; but whose capacity came back while others were tried has a turn after all."""
        at = math.inf
        for candidate in enqueue.candidates:
            taken = self.queue.take(candidate.capacities, run.tokens(), run.timeline.steady())
            refused: Refused | None = None
            if isinstance(taken, Refused):
                refused = taken
            else:
                run.held.lease, run.held.called = taken, False
                if (refused := await self.refused_elsewhere(run, taken)) is None:
                    return candidate
                run.held.lease = None
            at = min(at, refused.free_at)
        return Refused(at)

    async def _until_admitted(self, run: Run, enqueue: Enqueue) -> RouteCandidate | None:
        """Wait until one of the candidates has room, here and among all processes; or until somebody is well again."""
        wants = {candidate.ticket: candidate for candidate in enqueue.candidates if candidate.capacities}
        capacities = {each for candidate in wants.values() for each in candidate.capacities}
        with self.limits.in_line(capacities):
            try:
                while True:
                    ticket, woken = await self._until_handed_over(run, wants, enqueue.until)
                    if ticket.lease is None or ticket.key is None:
                        return None
                    if await self.refused_elsewhere(run, ticket.lease, in_line=True) is None:
                        return wants[ticket.key]
                    run.held.lease = None
                    if woken:
                        return None
            finally:
                if self.limits.shares:
                    self.queue.serve(capacities, run.timeline.steady())

    async def _until_handed_over(
        self, run: Run, wants: Mapping[str, RouteCandidate], until: float
    ) -> tuple[Ticket, bool]:
        """A place in the queue until there is room here; and whether somebody is well again."""
        ticket = Ticket([(key, each.capacities) for key, each in wants.items()], run.tokens(), lambda: None)
        self.queue.join(ticket, run.record.model, run.priority, run.came_up_at)
        try:
            with self._in_line(run, run.plan.awaited(run.timeline.now())) as waiter:
                await self._until_served(run, ticket, waiter, until)
        finally:
            self.queue.leave(ticket)
            self.queue.serve(ticket.capacities(), run.timeline.steady())
            if ticket.lease is not None:
                run.held.lease, run.held.called = ticket.lease, False
        return ticket, waiter.woken

    async def _until_served(self, run: Run, ticket: Ticket, waiter: Waiter, until: float) -> None:
        timeline = run.timeline
        scope = anyio.CancelScope()
        look_at = math.inf

        def due_changed() -> None:
            # By way of the epoch, whose numbers are coarse, it could come out earlier than it is due.
            due = anyio.current_time() + (ticket.due - timeline.steady())
            scope.deadline = min(due, timeline.deadline(min(look_at, until)))

        # Capacity that comes with time is nobody's to hand over: whoever waits for it looks when it is due.
        ticket.due_changed = due_changed
        while ticket.key is None and timeline.now() < until:
            scope, woken = anyio.CancelScope(), anyio.Event()
            generation = self._state.generation
            look_at = waiter.look(timeline.now())
            self.queue.serve(ticket.capacities(), timeline.steady())
            if ticket.lease is not None or waiter.woken:
                return
            due_changed()
            looks = waiter.looks
            ticket.wake = waiter.wake = scope.cancel if looks else woken.set
            with scope:
                await (self._state.changed(generation) if looks else woken.wait())


def _failed(record: RunRecord, end: GiveUp) -> RunFailed:
    errors: list[Exception] = [tried.failure.error for tried in record.tries if tried.n and tried.failure is not None]
    if not errors:
        errors = [NotTried(f"{skip.candidate}: {skip.reason} ({skip.cause})") for skip in record.skips]
        errors += [
            NotTried(f"{tried.candidate}: {tried.failure.info.message}") for tried in record.tries if tried.failure
        ]
    message = f"no candidate of {record.model!r} answered ({end.ending}, run {record.run_id})"
    return RunFailed(
        message, errors or [NotTried("the deadline left no time for a try")], record, end.retry_after_seconds
    )
