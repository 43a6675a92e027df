"""What a user holds: `Runner` knows the catalog and the stores, and begins each run; `_drive.py` drives it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import anyio

from standby.clients import Body, Request, Response
from standby.store import (
    Catalog,
    Effect,
    History,
    MemoryHistory,
    MemoryState,
    PriorityClass,
    SharedLimits,
    Snapshot,
    State,
)

from ._clients import ClientFactory, Clients
from ._clock import Clock, SystemClock, Timeline
from ._drive import Driver
from ._errors import UnknownCandidate, UnknownModel
from ._limits import Lease, Limits, Refused
from ._plan import Plan
from ._rank import Ranking
from ._record import RunRecord
from ._route import Route, RouteCandidate, compile_route
from ._run import Run, estimated_tokens
from ._shared import Shared
from ._status import CandidateStatus, Known, statuses_of
from ._steps import Call
from ._stream import RunStream
from ._troubles import Trouble, troubles_of

if TYPE_CHECKING:
    from standby.clients import Host, HttpPool
    from standby.store import RateLimitPolicy


class Options(NamedTuple):
    """How one run differs from what its model's configuration says; see `Runner.run`."""

    timeout_seconds: float | None
    only: Collection[str] | None
    may_fail_over: bool
    run_id: str | None
    caller: str
    priority: PriorityClass


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
        limits: Who counts what many processes may do together; each counts for itself where left out.
        clients: Makers of provider clients by the name that a provider's ``client`` has, beside the built-in ones.
        http: The pool of connections, or the host's own `httpx.AsyncClient`, for the built-in clients; it stays open.
            One of the runner's own where left out.
        clock: Where time comes from.
        chance: Returns a number in [0, 1): weighted draws, backoff and jitter.
        processes: How many processes serve together, this one included: where nobody counts for all, each has its share
            of every limit.
    """

    def __init__(
        self,
        catalog: Catalog,
        state: State | None = None,
        *,
        history: History | None = None,
        limits: SharedLimits | None = None,
        clients: Mapping[str, ClientFactory] | None = None,
        http: HttpPool | Host | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        processes: int = 1,
    ) -> None:
        self.catalog = catalog
        self.history: History = history if history is not None else MemoryHistory()
        self.state: State = state if state is not None else MemoryState(self.history.note)
        self.processes = processes
        self._clients = Clients(clients or {}, http)
        self._clock: Clock = clock or SystemClock()
        self._chance = chance
        self._driver = Driver(self.state, self.history, self._clock, limits, processes)
        self._shared = Shared(self.state.standing, self._driver.budgets, self._driver.latencies.slow_after, chance)
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
        priority: PriorityClass = "normal",
    ) -> RunResult:
        """Send ``request`` to the first candidate that answers.

        Args:
            request: What to send; its ``model`` names a model of the catalog.
            timeout_seconds: A shorter deadline over the whole run than the model's own.
            only: Ids of the candidates that may be called; all of the model's where left out.
            may_fail_over: Whether another candidate may be called after one failed.
            run_id: The run's id; one is made where left out.
            caller: Who asks, for the record.
            priority: Who goes first where runs wait for local capacity.

        Raises:
            UnknownModel: The catalog has no such model.
            UnknownCandidate: ``only`` names a candidate that the model does not have.
            InvalidBody: The body is not a JSON object.
            RunFailed: Nobody answered; it tells why, try by try.
        """
        run = self._begin(request, Options(timeout_seconds, only, may_fail_over, run_id, caller, priority))

        async def send(candidate: RouteCandidate) -> Response:
            return await candidate.client.send(run.request_for(candidate))

        def answered(call: Call, response: Response, began_at: float, now: float) -> tuple[Effect, ...]:
            run.record.usage, run.record.dropped = response.usage, response.dropped
            return run.plan.report_answer(call, began_at, now)

        try:
            response = await self._driver.drive(run, send, answered)
            run.record.ending = "answered"
        finally:
            await self._driver.end(run)
        return RunResult(response, run.record)

    def stream(
        self,
        request: Request,
        *,
        timeout_seconds: float | None = None,
        only: Collection[str] | None = None,
        may_fail_over: bool = True,
        run_id: str | None = None,
        caller: str = "",
        priority: PriorityClass = "normal",
    ) -> RunStream:
        """Stream from the first candidate that has content.

        ::

            async with runner.stream(request) as stream:
                async for chunk in stream:
                    print(chunk.data)

        The arguments are those of `run`, and so is what entering the block raises. Until the run commits to a stream
        (see `Commit`) its failures are failed over; after that a failure is raised as `StreamInterrupted`.

        Raises:
            UnknownModel: The catalog has no such model.
            UnknownCandidate: ``only`` names a candidate that the model does not have.
            InvalidBody: The body is not a JSON object.
        """
        options = Options(timeout_seconds, only, may_fail_over, run_id, caller, priority)
        return RunStream(self._driver, self._begin(request, options, streamed=True))

    async def answer_here(
        self, request: Request, *, dropped: tuple[str, ...] = (), run_id: str | None = None, caller: str = ""
    ) -> RunRecord:
        """Record a run that its host answers itself, without a call: it concerns nobody's health.

        Args:
            request: What is asked; its ``model`` names a model of the catalog.
            dropped: What the answer leaves out.
            run_id: The run's id; one is made where left out.
            caller: Who asks.

        Raises:
            UnknownModel: The catalog has no such model.
        """
        run = self._begin(request, Options(None, None, True, run_id, caller, "normal"))
        run.record.dropped, run.record.ending = dropped, "answered"
        await self._driver.end(run)
        return run.record

    async def lease(self, key: str, policy: RateLimitPolicy, body: Body) -> Lease | Refused | None:
        """Room for one run within a limit of the host's own, as that of a caller's key: the host ends it.

        Args:
            key: Whose limit it is: ``caller:app``.
            policy: The limit.
            body: What is asked for, for an estimate of its tokens.

        Returns:
            A lease; or when there may be room, in seconds since the epoch; `None` where the policy limits nothing.
        """
        capacity = self._driver.limits.capacity(key, policy)
        if capacity is None:
            return None
        now = self._clock.steady()
        taken = Limits.take((capacity,), estimated_tokens(body) if capacity.counts_tokens else 0, now)
        if isinstance(taken, Lease):
            refused = await self._driver.limits.confirm(taken, now, now, in_line=False)
            if refused is None:
                return taken
            taken = refused
        return Refused(self._clock.epoch() + taken.free_at - self._clock.steady())

    def on_end(self, listener: Callable[[RunRecord], None]) -> None:
        """Have ``listener`` told of every run that is over from now on, however it ended, by its complete record.

        It is called before the run's caller has the answer: it must be quick, and must not raise.
        """
        self._driver.listeners.append(listener)

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
        known = Known(self.state.standing, self._driver.budgets, self._driver.queue, self._clock.steady())
        routes = [self.route(model) for model in self.catalog.snapshot().models]
        return [status for route in routes for status in statuses_of(route, known, now)]

    def troubles(self) -> list[Trouble]:
        """What is wrong with the stores now; empty where all is well. Runs go on all the same."""
        return list(troubles_of(self.catalog, self.state, self.history))

    @property
    def held(self) -> Mapping[str, int]:
        """What its runs hold now, and give back: nothing of all that when no run is under way.

        Runs, retries and hedges under way, leases of local capacity, runs that wait for it, and probes.
        """
        capacities = {
            capacity
            for model in self.catalog.snapshot().models
            for candidate in self.route(model).candidates
            for capacity in candidate.capacities
        }
        return {
            "runs": self._driver.budgets.runs,
            "extras": self._driver.budgets.extras,
            "leases": sum(capacity.in_use for capacity in capacities),
            "waiting": sum(self._driver.queue.length(model) for model in self.catalog.snapshot().models),
            "probes": sum(1 for standing in self.state.standings().values() if standing.probe_holder),
        }

    def now(self) -> float:
        """Seconds since the epoch, by this runner's clock."""
        return self._clock.epoch()

    # -- beginning and end -------------------------------------------------------------------------------------

    def _begin(self, request: Request, options: Options, *, streamed: bool = False) -> Run:
        timeline = Timeline(self._clock)
        now = timeline.now()
        route = self.route(request.model)
        order = self._ranking(route, now).order(self._chance)
        if (only := options.only) is not None:
            ids = list(dict.fromkeys(candidate.id for candidate in route.candidates))
            if unknown := [name for name in only if name not in ids]:
                raise UnknownCandidate(unknown, route.model, ids)
            order = (candidate for candidate in order if candidate.id in only)
            route = replace(route, candidates=tuple(each for each in route.candidates if each.id in only))
        record = RunRecord(options.run_id or new_run_id(now), route.model, route.version, now, options.caller)
        plan = Plan(
            route,
            order,
            record,
            self._shared,
            _deadline(route, options, timeline, now),
            may_fail_over=options.may_fail_over,
            streamed=streamed,
        )
        return Run(plan, timeline, request, options.priority)

    def _ranking(self, route: Route, now: float) -> Ranking:
        ranking = self._routes[route.model][1]
        if not ranking.valid(self.state.generation, now):
            ranking = Ranking(route, self.state.standing, self.state.generation, now)
            self._routes[route.model] = (route, ranking)
        return ranking

    def _compile(self, snapshot: Snapshot, model: str) -> tuple[Route, Ranking]:
        if model not in snapshot.models:
            raise UnknownModel(model, list(snapshot.models))
        route = compile_route(snapshot, model, self._clients.of(snapshot), self._driver.limits)
        compiled = route, Ranking(route, self.state.standing, self.state.generation, self._clock.epoch())
        self._routes[model] = compiled
        return compiled


def new_run_id(now: float) -> str:
    """A new id; ids sort by the time at which they were made."""
    return "run_" + (int(now * 1000) << 64 | random.getrandbits(64)).to_bytes(14).hex()


def _deadline(route: Route, options: Options, timeline: Timeline, now: float) -> float:
    """When a run must be over: the model's total, the caller's shorter one, or a scope around the run."""
    seconds = route.total_seconds
    if options.timeout_seconds is not None:
        seconds = min(seconds, options.timeout_seconds)
    outer = anyio.current_effective_deadline()
    # A scope that is cancelled already has a deadline of minus infinity: the run's first await raises it.
    return now + seconds if outer == -math.inf else min(now + seconds, timeline.of_deadline(outer))
