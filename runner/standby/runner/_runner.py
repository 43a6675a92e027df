"""The shell of a run: it does what the plan says, tells the plan what came of it, and gives everything back.

What is held for a run (local capacity, a probe's lease) is held in one place, `_Run`, and is given back before the next
step after a failure and at the end of the run, however it ends.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import anyio

from standby.clients import Body, ClientError, InvalidBody, Request, Response
from standby.store import Catalog, History, MemoryHistory, MemoryState, Snapshot, State

from ._clients import ClientFactory, Clients
from ._clock import Clock, SystemClock, Timeline
from ._errors import NotTried, RunFailed, UnknownCandidate, UnknownModel
from ._limits import Lease, Limits, Refused, Ticket, Waiting
from ._log import log_effects
from ._plan import Call, Deliver, Enqueue, GiveUp, Plan, Wait
from ._rank import Ranking
from ._record import LazyRecord, RunRecord
from ._route import Route, RouteCandidate, compile_route
from ._status import CandidateStatus, status_of

if TYPE_CHECKING:
    from standby.clients import Host, HttpPool

PROBE_LEASE_MARGIN_SECONDS: Final = 5.0
CLEAN_UP_SECONDS: Final = 1.0
BYTES_PER_TOKEN: Final = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunResult:
    """An answer, and how it came about.

    Attributes:
        response: The provider's answer.
        record: Every try, decision and effect of the run.
    """

    response: Response
    record: RunRecord

    @property
    def data(self) -> Mapping[str, Any]:
        """The answer, decoded."""
        return self.response.data

    @property
    def candidate(self) -> str:
        """The id of the candidate that answered."""
        return self.record.candidate or ""


class Runner:
    """Runs requests against the candidates of a catalog, and fails over between them by policy.

    Use it as an async context manager::

        async with Runner(catalog) as runner:
            result = await runner.run(Request(model="chat", body={"messages": [...]}))

    One runner serves any number of runs at once, on asyncio or trio.

    Args:
        catalog: Which models there are, and their candidates and policies.
        state: Cooldowns, ranks and disablements; this process's memory where left out.
        history: Where the records of finished runs are kept; the last 1,000 in memory where left out.
        clients: Makers of provider clients by the name that a provider's ``client`` has, beside the built-in ones.
        http: The pool of connections, or the host's own `httpx.AsyncClient`, for the built-in clients; it stays open.
            One of the runner's own where left out.
        clock: Where time comes from.
        chance: Returns a number in [0, 1): weighted draws, backoff and jitter.
    """

    def __init__(
        self,
        catalog: Catalog,
        state: State | None = None,
        *,
        history: History | None = None,
        clients: Mapping[str, ClientFactory] | None = None,
        http: HttpPool | Host | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.catalog = catalog
        self.state: State = state if state is not None else MemoryState()
        self.history: History = history if history is not None else MemoryHistory()
        self._clients = Clients(clients or {}, http)
        self._clock: Clock = clock or SystemClock()
        self._chance = chance
        self._limits = Limits()
        self._queues: dict[str, Waiting] = {}
        self._snapshot: Snapshot | None = None
        self._routes: dict[str, tuple[Route, Ranking]] = {}

    async def __aenter__(self) -> Self:
        # What can be made now need not be made by the first run: routes, and the clients that import an HTTP library.
        for model in self.catalog.snapshot().models:
            self.route(model)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the provider clients; runs that are still under way fail."""
        await self._clients.aclose()

    async def run(
        self,
        request: Request,
        *,
        timeout_seconds: float | None = None,
        only: Collection[str] | None = None,
        may_fail_over: bool = True,
        run_id: str | None = None,
        caller: str = "",
    ) -> RunResult:
        """Send ``request`` to the first candidate that answers.

        Args:
            request: What to send; its ``model`` names a model of the catalog.
            timeout_seconds: A shorter deadline over the whole run than the model's own.
            only: Ids of the candidates that may be called; all of the model's where left out.
            may_fail_over: Whether another candidate may be called after one failed.
            run_id: The run's id; one is made where left out.
            caller: Who asks, for the record.

        Raises:
            UnknownModel: The catalog has no such model.
            UnknownCandidate: ``only`` names a candidate that the model does not have.
            InvalidBody: The body is not a JSON object.
            RunFailed: Nobody answered; it tells why, try by try.
        """
        run = self._begin(request, timeout_seconds, only, may_fail_over, run_id, caller)
        return RunResult(await self._drive(run, run.send), run.record)

    def route(self, model: str) -> Route:
        """The candidates of ``model`` with their compiled policies, at the newest version of the catalog.

        Raises:
            UnknownModel: The catalog has no such model.
        """
        snapshot = self.catalog.snapshot()
        if snapshot is not self._snapshot:
            self._routes = {}
            self._snapshot = snapshot
        known = self._routes.get(model)
        return known[0] if known is not None else self._compile(snapshot, model)[0]

    def statuses(self) -> list[CandidateStatus]:
        """How every candidate of every model stands now, in the order of the catalog."""
        now = self.now()
        routes = [self.route(model) for model in self.catalog.snapshot().models]
        return [
            status_of(candidate, route, self.state.standing, now) for route in routes for candidate in route.candidates
        ]

    @property
    def trouble(self) -> str | None:
        """Why what this runner learns is at present kept in this process only; `None` where all is well."""
        stores = self.state, self.history, self.catalog
        return next((trouble for store in stores if (trouble := getattr(store, "trouble", None))), None)

    def now(self) -> float:
        """Seconds since the epoch, by this runner's clock."""
        return self._clock.epoch()

    # -- beginning and end -------------------------------------------------------------------------------------

    def _begin(
        self,
        request: Request,
        timeout_seconds: float | None,
        only: Collection[str] | None,
        may_fail_over: bool,
        run_id: str | None,
        caller: str,
    ) -> _Run:
        timeline = Timeline(self._clock)
        now = timeline.now()
        route = self.route(request.model)
        order = self._ranking(route, now).order(self._chance)
        if only is not None:
            ids = [candidate.id for candidate in route.candidates]
            if unknown := [name for name in only if name not in ids]:
                raise UnknownCandidate(unknown, route.model, ids)
            order = (candidate for candidate in order if candidate.id in only)
        seconds = route.total_seconds if timeout_seconds is None else min(timeout_seconds, route.total_seconds)
        outer = anyio.current_effective_deadline()
        # A scope that is cancelled already has a deadline of minus infinity: the run's first await raises it.
        deadline = now + seconds if outer == -math.inf else min(now + seconds, timeline.at(outer))
        record = RunRecord(run_id or new_run_id(now), route.model, route.version, now, caller)
        plan = Plan(route, order, record, self.state.standing, self._chance, deadline, may_fail_over=may_fail_over)
        return _Run(self, plan, timeline, request, Body(request.body))

    def _ranking(self, route: Route, now: float) -> Ranking:
        ranking = self._routes[route.model][1]
        if not ranking.valid(self.state.generation, now):
            ranking = Ranking(route, self.state.standing, self.state.generation, now)
            self._routes[route.model] = (route, ranking)
        return ranking

    def _compile(self, snapshot: Snapshot, model: str) -> tuple[Route, Ranking]:
        if model not in snapshot.models:
            raise UnknownModel(model, list(snapshot.models))
        route = compile_route(snapshot, model, self._clients.of(snapshot), self._limits)
        compiled = route, Ranking(route, self.state.standing, self.state.generation, self._clock.epoch())
        self._routes[model] = compiled
        return compiled

    async def _drive(self, run: _Run, attempt: Callable[[RouteCandidate], Awaitable[T]]) -> T:
        """Do what the plan says until somebody answers; the one loop behind plain and streamed runs."""
        answer: T | None = None
        try:
            while True:
                match step := run.plan.step(run.timeline.now()):
                    case Call():
                        answer = await self._call(run, step, attempt)
                    case Wait():
                        await self._wait(run, step)
                    case Enqueue():
                        await self._enqueue(run, step)
                    case Deliver():
                        run.record.ending = "answered"
                        return cast("T", answer)
                    case GiveUp():
                        run.record.ending = step.ending
                        raise _failed(run, step)
        finally:
            run.record.ending = run.record.ending or "abandoned"
            await run.give_back()
            run.record.ended_at = run.timeline.now()
            self.history.add(LazyRecord(run.record))

    # -- the steps ---------------------------------------------------------------------------------------------

    async def _call(self, run: _Run, call: Call, attempt: Callable[[RouteCandidate], Awaitable[T]]) -> T | None:
        if not await self._prepare(run, call):
            return None
        began_at = run.timeline.now()
        answer: T | None = None
        error: Exception | None = None
        clock = anyio.CancelScope(deadline=run.timeline.steady(call.until))
        try:
            with clock:
                answer = await attempt(call.candidate)
        except InvalidBody:
            run.plan.report_abandoned(call, began_at, run.timeline.now())
            raise
        except Exception as raised:  # noqa: BLE001 - whatever a client raises is a failed try, and is classified
            error = raised
        except BaseException:
            run.plan.report_abandoned(call, began_at, run.timeline.now())
            raise
        if clock.cancelled_caught:
            error = _cut(call, began_at)
        now = run.timeline.now()
        if error is None:
            effects = run.plan.report_answer(call, began_at, now)
        else:
            effects = run.plan.report_failure(call, error, began_at, now)
        if effects:
            log_effects(effects)
            await self.state.apply(effects)
        if error is not None:
            await run.give_back()
        return answer

    async def _prepare(self, run: _Run, call: Call) -> bool:
        """Take the local capacity and the probe that the call needs; tell the plan where they are not to be had."""
        capacity = call.candidate.capacity
        if not call.admitted:
            await run.give_back()
            if capacity is not None:
                now = run.timeline.now()
                taken = self._limits.take(capacity, run.tokens(), now)
                if isinstance(taken, Refused):
                    run.plan.report_refused(call, taken.free_at, now)
                    return False
                run.hold(taken)
        if call.probe:
            until = call.until + PROBE_LEASE_MARGIN_SECONDS
            run.probe = call.probe
            if not await self.state.lease_probe(call.probe, run.record.run_id, run.timeline.now(), until):
                run.probe = ()
                run.plan.report_probed_elsewhere(call, until, run.timeline.now())
                await run.give_back()
                return False
        return True

    async def _wait(self, run: _Run, wait: Wait) -> None:
        await run.give_back()
        generation = self.state.generation
        with anyio.CancelScope(deadline=run.timeline.steady(wait.until)):
            if wait.for_health:
                await self.state.changed(generation)
            else:
                await anyio.sleep_forever()

    async def _enqueue(self, run: _Run, enqueue: Enqueue) -> None:
        await run.give_back()
        queue = self._queue(run.record.model)
        began_at = run.timeline.now()
        woken = anyio.Event()
        wants = [(candidate.key, candidate.capacity) for candidate in enqueue.candidates if candidate.capacity]
        ticket = Ticket(wants, run.tokens(), woken.set)
        if len(queue) >= run.plan.route.queue.max_waiting:
            run.plan.report_not_admitted(0.0, full=True, free_at=ticket.free_at(began_at), now=began_at)
            return
        queue.join(ticket)
        try:
            await self._until_served(run, queue, ticket, woken, enqueue.until)
        finally:
            now = run.timeline.now()
            queue.leave(ticket)
            queue.serve(now)
            if ticket.lease is not None:
                run.hold(ticket.lease)
        if ticket.lease is None:
            free_at = ticket.free_at(now)
            run.plan.report_not_admitted(now - began_at, full=False, free_at=free_at, now=now)
        else:
            candidate = next(candidate for candidate in enqueue.candidates if candidate.key == ticket.key)
            run.plan.report_admitted(candidate, now - began_at)

    async def _until_served(self, run: _Run, queue: Waiting, ticket: Ticket, woken: anyio.Event, until: float) -> None:
        while ticket.lease is None and (now := run.timeline.now()) < until:
            queue.serve(now)
            # Capacity that comes with time is nobody's to hand over: whoever waits for it looks when it is due. What is
            # free already is kept for somebody who waits longer, and is handed over by them.
            free_at = ticket.free_at(now)
            due = free_at if now < free_at < until else until
            with anyio.CancelScope(deadline=run.timeline.steady(due)):
                await woken.wait()

    def _queue(self, model: str) -> Waiting:
        return self._queues.setdefault(model, Waiting())

    def serve_queue(self, model: str, now: float) -> None:
        """Hand capacity that was given back to whoever waits for it."""
        if waiting := self._queues.get(model):
            waiting.serve(now)


class _Run:
    """What one run holds, and must give back."""

    __slots__ = ("_body", "_lease", "_request", "_runner", "_tokens", "plan", "probe", "record", "timeline")

    def __init__(self, runner: Runner, plan: Plan, timeline: Timeline, request: Request, body: Body) -> None:
        self._runner = runner
        self._request = request
        self._body = body
        self._lease: Lease | None = None
        self._tokens: int | None = None
        self.plan = plan
        self.record = plan.record
        self.timeline = timeline
        self.probe: tuple[str, ...] = ()

    async def send(self, candidate: RouteCandidate) -> Response:
        """One plain call."""
        request = self._request
        response = await candidate.client.send(Request(candidate.model, self._body, request.endpoint, request.headers))
        self.record.usage = response.usage
        return response

    def tokens(self) -> int:
        """An estimate of the tokens that the run will use; it is settled when the provider has counted."""
        if self._tokens is None:
            self._tokens = estimated_tokens(self._body)
        return self._tokens

    def hold(self, lease: Lease) -> None:
        self._lease = lease

    async def give_back(self) -> None:
        """End the lease of local capacity and return the probe, as far as they are still held."""
        lease, self._lease = self._lease, None
        if lease is not None:
            if self.record.usage is not None:
                lease.settle(self.record.usage.total_tokens)
            lease.end()
            self._runner.serve_queue(self.record.model, self.timeline.now())
        probe, self.probe = self.probe, ()
        if probe:
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await self._runner.state.return_probe(probe, self.record.run_id)


def new_run_id(now: float) -> str:
    """A new id; ids sort by the time at which they were made."""
    return f"run_{int(now * 1000):012x}{secrets.token_hex(8)}"


def estimated_tokens(body: Body) -> int:
    """A rough count of a call's tokens: its bytes, and what the caller allows the answer to have."""
    allowed = next(
        (
            value
            for key in ("max_completion_tokens", "max_tokens", "max_output_tokens")
            if isinstance(value := body.data.get(key), int) and value > 0
        ),
        0,
    )
    return body.size // BYTES_PER_TOKEN + allowed


def _cut(call: Call, began_at: float) -> ClientError:
    seconds = call.until - began_at
    if call.cut_by_deadline:
        # The caller's time was over; that says nothing about the provider.
        return ClientError(
            "timeout", f"the run's deadline cut the call after {seconds:.3g} s", retryable=True, scope="caller"
        )
    return ClientError("timeout", f"no answer within {seconds:.3g} s (attemptSeconds)", retryable=True)


def _failed(run: _Run, end: GiveUp) -> RunFailed:
    record = run.record
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
