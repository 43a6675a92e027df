"""A caller that goes away at any step of the event loop, whatever its run is doing then.

Each scenario is played once for every step that the loop makes until the run under test ends by itself; just before
that step the run is cancelled, by a scope, or as asyncio's own tasks are. Other runs use the same candidates and limits
beside it, and a state that is a while away makes for more moments. The tests look at all plays.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import EPOCH, Fail, Slow, Streamed
from standby.store import Cool, Failed, MemoryState, Succeeded
from tests.runner.conftest import gateway
from tests.runner.scheduling import Distant, counted_steps, run

DOWN = Fail("server_error", "down", status=500, retryable=True)
CONTENT = Streamed("", 0.25, "Hel", 0.25, "lo", 0.25)
RETRY = {"maxAttempts": 2, "backoff": {"initialSeconds": 1, "jitter": "none"}}
LIMITS = {"concurrency": 1, "requestsPerMinute": 100}
UNEJECTED = {"failoverPolicy": {"ejectAfter": 0}}
TWO_HEDGES = {"hedge": {"afterSeconds": 1, "maxExtra": 2}}
NOTHING = {"calls": 0, "runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}


class Near(MemoryState):
    """A state in this process, that remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def apply(self, effects):
        self.told += effects
        await super().apply(effects)


class Far(Near, Distant):
    """A state that is a while away, and remembers what it was told."""


def half_open(candidate):
    """What lets the next run probe a candidate."""
    now = EPOCH + anyio.current_time()
    return Cool(f"candidate:chat/{candidate}", now - 10, now - 1, 1, "test")


def script(*own):
    """What comes of the calls of the run under test, one after the other; the last is what comes of all others."""
    left, others = iter(own[:-1]), own[-1]
    return lambda request: next(left, others) if request.body.data["user"] == "gone" else others


# -- the scenarios: what the run under test does, and from when on others use which candidates ------------------------


def without_hedge(state):
    """A probe that fails, the queue, a call that is cut, a wait for the second try, a failover, the queue again."""
    scripts = {
        "a": script(Slow(1, DOWN), Slow(1, CONTENT)),
        "b": script(Slow(9), Slow(1, DOWN), Slow(1.5, CONTENT)),
        "c": script(Slow(1, CONTENT), Slow(4.25, CONTENT)),
    }
    clocks = {"timeouts": {"attemptSeconds": 3}, "overrides": {"c": {"timeouts": {"attemptSeconds": 9}}}}
    gate = gateway(scripts, limits=LIMITS, retry=RETRY, policy=UNEJECTED, state=state, **clocks)
    return gate, [(0, ["c"]), (0.25, ["c"]), (0.75, ["b"])]


def settled_probe(state):
    """A probe that is heard."""
    return gateway({"a": script(Slow(1, CONTENT), Slow(1, CONTENT))}, limits=LIMITS, state=state), [(9, ["a"])]


def paid_probe(state):
    """A provider fails, and a candidate of it is probed: that is a retry, and paid for."""
    gate = gateway(
        {"b": script(Slow(1, DOWN), Slow(1, CONTENT)), "a": script(Slow(1, CONTENT), Slow(1, CONTENT))},
        candidates={"a": {"provider": "b"}},
        limits=LIMITS,
        policy={**UNEJECTED, "scopes": {"provider_5xx": "provider"}},
        state=state,
    )
    return gate, [(9, ["b"])]


def heard_hedge(state):
    """A probe that is silent; a hedge that fails, and another that is heard, while somebody waits for its capacity."""
    scripts = {
        "a": script(Slow(9), Slow(1, CONTENT)),
        "b": script(Slow(2, DOWN), Slow(1, CONTENT)),
        "c": script(Slow(2, CONTENT), Slow(1, CONTENT)),
    }
    gate = gateway(scripts, limits=LIMITS, policy=UNEJECTED, model=TWO_HEDGES, state=state)
    return gate, [(3.75, ["c"]), (4.75, ["c"])]


def hedges_in_vain(state):
    """A probe and two hedges that all fail; a wait for a second try; the queue; nobody to be a hedge."""
    scripts = {
        "a": script(Slow(2.25, DOWN), Slow(1, CONTENT)),
        "b": script(Slow(2, DOWN), Slow(0.75, DOWN), Slow(1, CONTENT)),
        "c": script(Slow(1, DOWN), Slow(1, CONTENT)),
        "d": script(Slow(1.5, CONTENT), Slow(9, CONTENT)),
    }
    gate = gateway(scripts, limits=LIMITS, retry=RETRY, policy=UNEJECTED, model=TWO_HEDGES, state=state)
    return gate, [(0, ["d"]), (0.25, ["b"])]


UNDISTURBED = {
    without_hedge: [
        "a 1 provider_5xx",
        "b 0 rate_limit",
        "c 0 rate_limit",
        "b 1 timeout",
        "b 2 provider_5xx",
        "c 1 ok",
    ],
    settled_probe: ["a 1 ok"],
    paid_probe: ["b 1 provider_5xx", "a 1 ok"],
    heard_hedge: ["b 1 provider_5xx", "a 1 abandoned", "c 1 ok"],
    hedges_in_vain: [
        "c 1 provider_5xx",
        "a 1 provider_5xx",
        "b 1 provider_5xx",
        "b 2 provider_5xx",
        "d 0 rate_limit",
        "d 1 ok",
    ],
}


async def plain(gate, name, **options):
    await gate.runner.run(Request("chat", {"messages": [], "user": name}), run_id=name, **options)


async def streamed(gate, name, **options):
    async with gate.runner.stream(Request("chat", {"messages": [], "user": name}), run_id=name, **options) as stream:
        async for _ in stream:
            pass


# -- one play, and all of them -------------------------------------------------------------------------------------------


@dataclass
class Play:
    """A scenario in which the run under test, ``gone``, is cancelled just before one step; and what came of it."""

    scenario: Any
    state: Any
    use: Any
    native: bool
    step: int
    cancelled: bool = False
    late_seconds: float = 0.0
    ended: dict[str, str] = field(default_factory=dict)
    filed: Counter[str] = field(default_factory=Counter)
    records: dict[str, Any] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)
    standings: dict[str, Any] = field(default_factory=dict)
    as_told: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    providers: dict[str, str] = field(default_factory=dict)

    def __str__(self):
        return f"{self.state.__name__}, {self.use.__name__}, step {self.step}"

    async def play(self):
        gate, beside = self.scenario(self.state())
        await gate.state.apply([half_open("a")])
        keep = gate.runner.history.add
        gate.runner.history.add = lambda record: (self.filed.update([record["run_id"]]), keep(record))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.under_test, gate)
            for number, (after_seconds, only) in enumerate(beside):
                tasks.start_soon(self.run, gate, f"other {number}", after_seconds, only)
        self.held = {**gate.runner.held, "calls": sum(client.in_flight for client in gate.clients.values())}
        as_told = MemoryState()
        as_told.apply_now(gate.state.told)
        self.standings, self.as_told = gate.state.standings(), as_told.standings()
        await self.run(gate, "later", 0, None)
        self.records = {name: await gate.runner.history.get(name) for name in self.filed}
        self.told = gate.state.told[1:]
        self.calls = gate.calls()
        for status in gate.runner.statuses():
            self.requests[status.provider] += status.limits[0].requests
            self.providers[status.id] = status.provider
        return self

    async def under_test(self, gate):
        cancelled_at = 0.0

        def go_away():
            nonlocal cancelled_at
            self.cancelled, cancelled_at = True, anyio.current_time()
            cancel()

        with anyio.CancelScope() as scope:
            cancel = asyncio.current_task().cancel if self.native else scope.cancel
            try:
                with counted_steps(self.step, go_away):
                    await anyio.lowlevel.cancel_shielded_checkpoint()  # step 0: the run has not begun
                    await self.run(gate, "gone", 0, None)
            except anyio.get_cancelled_exc_class():
                self.late_seconds = anyio.current_time() - cancelled_at
                if not self.native:
                    raise

    async def run(self, gate, name, after_seconds, only):
        if after_seconds:
            await anyio.sleep(after_seconds)
        self.ended[name] = "cancelled"
        try:
            await self.use(gate, name, only=only)
            self.ended[name] = "answered"
        except RunFailed as failed:
            self.ended[name] = failed.ending

    @property
    def tries(self):
        """Those of all runs."""
        return [tried for record in self.records.values() for tried in record["tries"]]


STATES = {"asyncio scope": [Near, Far], "asyncio task": [Far], "trio scope": [Near, Far]}


@cache
def sweep(scenario, way):
    """All plays of a scenario: the run is cancelled at every step, but in those in which it ended by itself."""
    backend, _, kind = way.partition(" ")
    return [
        play
        for state in STATES[way]
        for use in (plain, streamed)
        for play in until_it_ends_by_itself(backend, scenario, state, use, native=kind == "task")
    ]


def until_it_ends_by_itself(backend, scenario, state, use, *, native):
    for step in count():
        play = Play(scenario, state, use, native, step)
        try:
            yield run(backend, play.play)
        except BaseException as error:
            error.add_note(f"cancelled at: {play}")
            raise
        if not play.cancelled:
            return


@pytest.fixture(params=STATES)
def way(request):
    """Who cancels: a scope around the run, on both backends, or asyncio's own way."""
    return request.param


each_scenario = pytest.mark.parametrize("scenario", UNDISTURBED)


@each_scenario
def test_the_run_that_is_not_cancelled_does_all_that_a_run_can_do(scenario, way):
    """Its tries are those of the scenario, whatever the state and the kind of run."""
    whole = [play.records["gone"] for play in sweep(scenario, way) if not play.cancelled]
    tries = [[f"{tried['candidate']} {tried['n']} {tried['outcome']}" for tried in record["tries"]] for record in whole]
    assert tries == [UNDISTURBED[scenario]] * len(whole)
    assert [record["ending"] for record in whole] == ["answered"] * len(whole)


@each_scenario
def test_everything_is_given_back(scenario, way):
    """Capacity, probe, place in the queue, what was paid for a retry or a hedge, and the calls."""
    assert {str(play): play.held for play in sweep(scenario, way) if play.held != NOTHING} == {}


@each_scenario
def test_a_cancelled_run_ends_at_once(scenario, way):
    """Not even a state that is just told what a hedge came to is waited for."""
    assert {str(play): play.late_seconds for play in sweep(scenario, way) if play.late_seconds} == {}


@each_scenario
def test_each_record_is_filed_once(scenario, way):
    """The cancelled run's too, unless the cancellation came before it had begun."""
    for play in sweep(scenario, way):
        assert play.filed == dict.fromkeys(play.ended, 1), str(play)


@each_scenario
def test_a_cancelled_run_is_told_as_abandoned(scenario, way):
    """Or, where a stream was complete and only its end was not kept yet, as what it was."""
    for play in sweep(scenario, way):
        if play.ended.get("gone") == "cancelled":
            endings = ["abandoned"] if play.use is plain else ["abandoned", "answered"]
            assert play.records["gone"]["ending"] in endings, str(play)


@each_scenario
def test_a_cancellation_changes_nobodys_health(scenario, way):
    """The state hears of each call that really failed, and of no other."""
    for play in sweep(scenario, way):
        failed = Counter(
            f"candidate:chat/{tried['candidate']}"
            for tried in play.tries
            if tried["outcome"] in ("provider_5xx", "timeout")
        )
        assert Counter(told.domain for told in play.told if isinstance(told, Failed)) == failed, str(play)
        assert {told.domain for told in play.told if not isinstance(told, Succeeded)} <= set(failed), str(play)
        assert play.standings == play.as_told, str(play)


@each_scenario
def test_a_cancelled_call_is_told_as_abandoned(scenario, way):
    """Not as a failure of another kind: what is told as cut had all its time."""
    for play in sweep(scenario, way):
        outcomes = {tried["outcome"] for tried in play.tries}
        assert outcomes <= {"ok", "abandoned", "provider_5xx", "rate_limit", "timeout"}, str(play)
        assert {tried["took_ms"] for tried in play.tries if tried["outcome"] == "timeout"} <= {3000}, str(play)


@each_scenario
def test_a_stream_that_is_left_is_told_as_abandoned(scenario, way):
    """Though it had content: whether it would have come to its end is not known."""
    for play in sweep(scenario, way):
        if play.use is streamed and "gone" in play.records and play.records["gone"]["ending"] == "abandoned":
            assert "ok" not in [tried["outcome"] for tried in play.records["gone"]["tries"]], str(play)


@each_scenario
def test_each_call_is_told_and_counted(scenario, way):
    """In a record as a try, and in the limit of requests; what was held for a call that was not made counts nothing."""
    for play in sweep(scenario, way):
        tried = Counter(play.providers[tried["candidate"]] for tried in play.tries if tried["n"])
        assert tried == Counter(play.calls) == play.requests, str(play)


@each_scenario
def test_the_other_runs_are_answered(scenario, way):
    """Those beside the cancelled run, and one afterwards."""
    for play in sweep(scenario, way):
        others = {name: ended for name, ended in play.ended.items() if name != "gone"}
        assert set(others.values()) == {"answered"}, str(play)


async def shut_down(scenario, use, step):
    """Cancel every task but this one just before a step; what is left then, if the runs got that far."""
    gate, beside = scenario(Far())
    await gate.state.apply([half_open("a")])
    this = asyncio.current_task()
    play = Play(scenario, Far, use, True, step)
    tasks = [asyncio.create_task(play.run(gate, "gone", 0, None))]
    tasks += [asyncio.create_task(play.run(gate, str(number), *each)) for number, each in enumerate(beside)]
    with counted_steps(step, lambda: [task.cancel() for task in asyncio.all_tasks() - {this}]) as steps:
        _, left = await asyncio.wait(tasks, timeout=100)
    for task in left:
        task.cancel()
    calls = sum(client.in_flight for client in gate.clients.values())
    return steps.made > step, {"tasks": len(left), "calls": calls, **gate.runner.held}


@pytest.mark.parametrize("use", [plain, streamed])
@pytest.mark.parametrize("scenario", UNDISTURBED)
def test_a_loop_that_shuts_down_is_held_up_by_no_run(scenario, use):
    """All tasks are cancelled at once, as `asyncio.run` does at its end: all end, and give everything back."""
    for step in count():
        stopped, left = run("asyncio", shut_down, scenario, use, step)
        assert left == {"tasks": 0, **NOTHING}, f"step {step}"
        if not stopped:
            break
