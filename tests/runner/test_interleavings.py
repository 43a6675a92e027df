"""Many runs at once, whose tasks go on in any order: what holds in each.

Trio shuffles the tasks that may go on, and Hypothesis draws the seed of that. Clients look at every call as it begins;
what is against the rules is told at the end, since the runner would take it for a failed call.
"""

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from standby.runner import Request, RunFailed, StreamInterrupted
from standby.runner.testing import EPOCH, Fail, ScriptedClient, Slow, Streamed
from standby.store import Cool, MemoryState
from tests.runner.conftest import gateway
from tests.runner.scheduling import Distant

DOWN = Fail("server_error", "down", status=500, retryable=True)
LIMITED = Fail("rate_limit", "slow down", status=429, retryable=True, hint=2.0, scope="credential_model")
CUT = Fail("stream_read_error", "cut", status=200, retryable=True, work="billed")
CONTENT = Streamed("", 0.5, "Hel", 0.5, "lo")
NOTHING = {"calls": 0, "runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}
shuffles = st.random_module()
few = settings(max_examples=50)


def shuffled(main, *args):
    """Run ``main`` on trio, which shuffles its tasks, in virtual time."""
    return anyio.run(main, *args, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def now():
    return EPOCH + anyio.current_time()


# -- clients that look -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Made:
    """A call as its client saw it."""

    run: str
    candidate: str
    domains: tuple[str, ...]
    began_at: float
    ended_at: float | None = None

    def at(self, moment):
        """Whether it was under way."""
        return self.began_at < moment < self.ended_at


@dataclass
class Watch:
    """Every call of a gateway, and what was against the rules."""

    gate: Any = None
    made: list[Made] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @contextmanager
    def call(self, request):
        status = next(each for each in self.gate.runner.statuses() if each.provider_model == request.model)
        made = Made(request.body.data["user"], status.id, status.domains.all(), now())
        self.wrong += self.against_the_rules(made, status)
        self.made.append(made)
        try:
            yield
        finally:
            made.ended_at = now()

    def against_the_rules(self, made, status):
        beside = [each for each in self.made if each.ended_at is None]
        if status.status in ("cooling", "disabled"):
            yield f"{made} begins though its candidate is {status.status}"
        if sum(each.candidate == made.candidate for each in beside) >= status.limits[0].concurrency:
            yield f"{made} is one too many: {beside}"
        for domain in made.domains:
            standing = self.gate.state.standing(domain)
            if standing is not None and standing.half_open(made.began_at):
                if standing.probe_holder != made.run:
                    yield f"{made} is no probe, though {domain} is half open"
                # What began before the cooldown ended was no probe, and may still be under way.
                since = standing.cooling_until
                if others := [each for each in beside if domain in each.domains and each.began_at >= since]:
                    yield f"{made} and {others} probe {domain} at once"


class Watched(ScriptedClient):
    """A scripted client that is watched."""

    def __init__(self, script, watch):
        super().__init__(script)
        self._watch = watch

    async def send(self, request):
        with self._watch.call(request):
            return await super().send(request)

    @asynccontextmanager
    async def stream(self, request):
        with self._watch.call(request):
            async with super().stream(request) as stream:
                yield stream


def watched(scripts, *, candidates, **parts):
    """A gateway whose clients are watched; each candidate's own name is the name of its model."""
    named = {name: {"model": name, **candidates.get(name, {})} for name in scripts}
    gate = gateway({name: [] for name in scripts}, candidates=named, **parts)
    watch = Watch(gate)
    gate.clients = {name: Watched(script, watch) for name, script in scripts.items()}
    gate.runner._clients._factories = {name: (lambda _, made=client: made) for name, client in gate.clients.items()}
    return watch


# -- callers ---------------------------------------------------------------------------------------------------------------


@dataclass
class Caller:
    """One run: when it begins, how, and after how long its caller goes away."""

    begins: float = 0.0
    streamed: bool = False
    leaves_after: float | None = None
    priority: str = "normal"

    async def ask(self, gate, name, begun=None):
        """What came of it, as the caller saw it; its name goes to those that have ``begun``."""
        await anyio.sleep(self.begins)
        if begun is not None:
            begun.append(name)
        ended = "abandoned"
        async with anyio.create_task_group() as tasks:
            if self.leaves_after is not None:
                tasks.start_soon(self.leave, tasks.cancel_scope)
            try:
                await self.use(gate.runner, Request("chat", {"messages": [], "user": name}), name)
                ended = "answered"
            except RunFailed as failed:
                ended = failed.ending
            except StreamInterrupted:
                ended = "interrupted"
            tasks.cancel_scope.cancel()
        return ended

    async def use(self, runner, request, name):
        if self.streamed:
            async with runner.stream(request, run_id=name, priority=self.priority) as stream:
                async for _ in stream:
                    pass
        else:
            await runner.run(request, run_id=name, priority=self.priority)

    async def leave(self, scope):
        """Unannounced: a deadline would be known to the run beforehand."""
        await anyio.sleep(self.leaves_after)
        scope.cancel()


@dataclass
class Seen:
    """What was seen of all runs."""

    watch: Watch
    callers: dict[str, Caller]
    begun: list[str]
    ended: dict[str, str]
    filed: Counter[str]
    records: dict[str, Any]
    held: dict[str, int]


async def play(build, world):
    """Let all callers of a world ask, and look."""
    watch = await build(world)
    gate, begun, ended, filed = watch.gate, [], {}, Counter()
    keep = gate.runner.history.add
    gate.runner.history.add = lambda record: (filed.update([record["run_id"]]), keep(record))

    async def ask(name, caller):
        ended[name] = await caller.ask(gate, name, begun)

    callers = {str(number): caller for number, caller in enumerate(world["callers"])}
    async with anyio.create_task_group() as tasks:
        for name, caller in callers.items():
            tasks.start_soon(ask, name, caller)
    held = {**gate.runner.held, "calls": sum(client.in_flight for client in gate.clients.values())}
    records = {name: record for name in callers if (record := await gate.runner.history.get(name)) is not None}
    return Seen(watch, callers, begun, ended, filed, records, held)


# -- candidates that fail, are slow and recover ------------------------------------------------------------------------------

moments = st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5])
outcomes = st.builds(
    Slow,
    st.sampled_from([1.0, 0.5, 0.0, 2.0, 50.0]),
    st.sampled_from([DOWN, None, CONTENT, LIMITED, Streamed("x", 0.5, CUT), Streamed("", 0.5, DOWN)]),
)
worlds = st.fixed_dictionaries(
    {
        "scripts": st.lists(st.lists(outcomes, min_size=2, max_size=4), min_size=2, max_size=3),
        "callers": st.lists(
            st.builds(Caller, moments, st.booleans(), st.sampled_from([None, None, 0.0, 0.5, 1.0, 2.5])),
            min_size=4,
            max_size=8,
        ),
        "cooling": st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=3, max_size=3),
        "concurrency": st.integers(1, 3),
        "attempts": st.integers(1, 2),
        "cooled": st.sampled_from([["rate_limit"], ["rate_limit", "provider_5xx", "timeout", "stream_error"]]),
        "scope": st.sampled_from(["candidate", "provider"]),
        "same_provider": st.booleans(),
        "hedge": st.sampled_from([{}, {"hedge": {"afterSeconds": 0.5, "maxExtra": 2}}]),
        "waiting": st.sampled_from([100, 100, 1, 0]),
        "state": st.sampled_from([MemoryState, Distant]),
    }
)


async def troubled(world):
    """Candidates that answer when their scripts have ended; some are cooling for a while, and probed then."""
    watch = watched(
        {name: [*script, None] for name, script in zip("abc", world["scripts"], strict=False)},
        candidates={"b": {"provider": "a"}} if world["same_provider"] else {},
        limits={"concurrency": world["concurrency"]},
        timeouts={"attemptSeconds": 3, "firstTokenSeconds": 2.5, "idleSeconds": 2},
        retry={"maxAttempts": world["attempts"], "backoff": {"initialSeconds": 0.5, "jitter": "none"}},
        policy={
            "failoverPolicy": {"actions": dict.fromkeys(world["cooled"], "cooldown_and_next"), "cooldownSeconds": 2},
            "scopes": {"provider_5xx": world["scope"]},
        },
        model={"queue": {"maxWaiting": world["waiting"], "maxWaitSeconds": 6}, **world["hedge"]},
        chance=lambda: 0.0,
        state=world["state"](),
    )
    for name, seconds in zip("abc", world["cooling"], strict=True):
        if seconds:
            await watch.gate.state.apply([Cool(f"candidate:chat/{name}", now() - 1, now() + seconds, 1, "test")])
    return watch


def test_the_order_of_tasks_depends_on_the_seed():
    """So that a failure can be had again, and every order at some time."""
    orders = {}

    async def main():
        order = []

        async def one(number):
            order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(one, number)
        return order

    @given(shuffles)
    def several(seed):
        order = shuffled(main)
        assert orders.setdefault(str(seed), order) == order

    several()
    assert len({tuple(order) for order in orders.values()}) > 1


@few
@given(shuffles, worlds)
def test_no_call_begins_that_may_not(seed, world):
    """One probe at a time of each half-open domain, none of what is cooling, no more than the limit of concurrency."""
    assert shuffled(play, troubled, world).watch.wrong == []


@few
@given(shuffles, worlds)
def test_nothing_is_held_at_the_end(seed, world):
    """However the runs ended."""
    assert shuffled(play, troubled, world).held == NOTHING


@few
@given(shuffles, worlds)
def test_each_record_tells_the_one_end_that_the_caller_saw(seed, world):
    """It is filed once; only who left cannot know what the stream had come to."""
    seen = shuffled(play, troubled, world)
    assert seen.filed == dict.fromkeys(seen.callers, 1)
    for name, ended in seen.ended.items():
        unseen = ["answered", "interrupted"] if ended == "abandoned" and seen.callers[name].streamed else []
        assert seen.records[name]["ending"] in [ended, *unseen]


@few
@given(shuffles, worlds)
def test_each_call_is_a_try_of_its_run(seed, world):
    """Of the same candidate, at the same moment; and each try is a call, but for what our own limit refused."""
    seen = shuffled(play, troubled, world)
    tries = Counter(
        (name, tried["candidate"], record["began_at"] + tried["after_ms"] / 1000)
        for name, record in seen.records.items()
        for tried in record["tries"]
        if tried["n"]
    )
    assert tries == Counter((made.run, made.candidate, made.began_at) for made in seen.watch.made)


@few
@given(shuffles, worlds)
def test_at_last_somebody_answers_again(seed, world):
    """No cooldown, probe or limit outlasts what it was for."""

    async def afterwards():
        watch = (await play(troubled, world)).watch
        for number in range(len(watch.gate.clients) * 5):
            # A run meets what is left of a script; each probe that fails leaves its candidate out for longer.
            await anyio.sleep(100)
            ended = await Caller().ask(watch.gate, f"later {number}")
        return ended

    assert shuffled(afterwards) == "answered"


# -- the queue ---------------------------------------------------------------------------------------------------------------

HEAD_START = {"high": 10.0, "normal": 0.0, "low": -10.0}

crowds = st.fixed_dictionaries(
    {
        "scripts": st.lists(
            st.lists(
                st.builds(Slow, st.sampled_from([1.0, 2.0, 0.5, 3.0, 50.0]), st.sampled_from([DOWN, None, CONTENT])),
                min_size=2,
                max_size=6,
            ),
            min_size=1,
            max_size=2,
        ),
        "callers": st.lists(
            st.builds(
                Caller,
                st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 11.0]),
                st.booleans(),
                st.sampled_from([None, None, None, 1.0, 2.25]),
                st.sampled_from(["normal", "normal", "normal", "high", "low"]),
            ),
            min_size=4,
            max_size=9,
        ),
        "concurrency": st.integers(1, 2),
    }
)


async def crowded(world):
    """Candidates that are slow and fail, are never left out, and have little capacity."""
    return watched(
        {name: [*script, Slow(1)] for name, script in zip("ab", world["scripts"], strict=False)},
        candidates={},
        limits={"concurrency": world["concurrency"]},
        timeouts={"attemptSeconds": 5},
        retry={"maxAttempts": 2, "backoff": {"initialSeconds": 0.5, "jitter": "none"}},
        policy={"failoverPolicy": {"ejectAfter": 0}, "retryBudget": {"enabled": False}},
        model={"queue": {"maxWaiting": 100, "maxWaitSeconds": 8}},
    )


@dataclass(frozen=True)
class Place:
    """One wait in the queue: for whom, from when to when, who served then; and what it ranks by.

    A run keeps its place: what counts is when it first came up. Of two that came up as they began, at the same moment,
    the one that began first goes first.
    """

    run: str
    wants: frozenset[str]
    since: float
    until: float
    served: str | None
    rank: float
    number: int | None

    def goes_before(self, other):
        if self.rank == other.rank and None not in (self.number, other.number):
            return self.number <= other.number
        return self.rank <= other.rank


def places(seen):
    """All waits in the queue, as the records tell them."""
    return [place for name, record in seen.records.items() for place in places_of(name, record, seen)]


def places_of(name, record, seen):
    wants, came_up_at, since, retrying = set(), None, 0.0, False

    def place(until, served):
        rank = came_up_at - HEAD_START[seen.callers[name].priority]
        number = seen.begun.index(name) if since == record["began_at"] else None
        return Place(name, frozenset(wants), since, until, served, rank, number)

    for tried in record["tries"]:
        began_at = record["began_at"] + tried["after_ms"] / 1000
        if not tried["n"]:
            wants.add(tried["candidate"])
        elif tried["candidate"] in wants and not retrying:
            came_up_at = since if came_up_at is None else came_up_at
            yield place(began_at, tried["candidate"])
            wants.discard(tried["candidate"])
        since, retrying = began_at + tried["took_ms"] / 1000, tried.get("did") == "retry"
    if wants and not retrying:
        came_up_at = since if came_up_at is None else came_up_at
        yield place(record["ended_at"], None)


@few
@given(shuffles, crowds)
def test_nobody_is_overtaken(seed, world):
    """What somebody waits for goes to nobody who came up later, in the queue or past it, but for a class of priority."""
    seen = shuffled(play, crowded, world)
    waited = places(seen)
    served = {(place.run, place.served, place.until): place for place in waited}
    for place in waited:
        for made in seen.watch.made:
            if made.candidate in place.wants and place.since < made.began_at < place.until:
                assert served[made.run, made.candidate, made.began_at].goes_before(place)


@few
@given(shuffles, crowds)
def test_no_capacity_is_idle_while_somebody_waits_for_it(seed, world):
    """All calls that a candidate may have are under way at each moment of the wait."""
    seen = shuffled(play, crowded, world)
    changes = {at for made in seen.watch.made for at in (made.began_at, made.ended_at)}
    for place in places(seen):
        moments = sorted({place.since, place.until, *(at for at in changes if place.since < at < place.until)})
        for moment in ((before + after) / 2 for before, after in pairwise(moments)):
            for candidate in place.wants:
                busy = sum(made.candidate == candidate and made.at(moment) for made in seen.watch.made)
                assert busy == world["concurrency"]
