"""Hedges: a caller that goes away at any moment of a hedged run; everything is given back, nobody's health changes."""

import anyio
import anyio.lowlevel
import pytest

from standby.runner import Request
from standby.runner.testing import EPOCH, Fail, Slow, Streamed
from standby.store import Cool, MemoryState
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
AFTER_4 = {"hedge": {"afterSeconds": 4}}
NOTHING = {"calls": 0, "runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}


async def plain(gate):
    await gate.ask(run_id="gone")


async def streamed(gate):
    async with gate.runner.stream(Request("chat", {"messages": []}), run_id="gone") as stream:
        async for _ in stream:
            pass


def held(gate):
    """What is still taken."""
    return {**gate.runner.held, "calls": sum(client.in_flight for client in gate.clients.values())}


async def left_after(seconds, run, gate):
    """Run, and go away after some seconds, unannounced: the run knew no such deadline."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, gate)
        await anyio.sleep(seconds)
        tasks.cancel_scope.cancel()


async def probing(gate):
    """Let the first candidate be half open: the next run probes it."""
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now - 10, now - 1, 1, "test")])
    return gate


@pytest.mark.parametrize("run", [plain, streamed])
@pytest.mark.parametrize("steps", range(10))
async def test_a_run_that_is_cancelled_while_two_have_content_at_once_gives_everything_back(steps, run):
    """Capacity, probe, budget and calls are free again, whichever step of the event loop the cancellation falls on."""
    scripts = {"a": [Slow(6, Streamed("x", 1, "y"))], "b": [Slow(2, Streamed("x", 1, "y"))]}
    gate = await probing(gateway(scripts, model=AFTER_4, limits={"concurrency": 1}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, gate)
        await anyio.sleep(6)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert held(gate) == NOTHING
    await run(gate)
    assert held(gate) == NOTHING


class SlowState(MemoryState):
    """A state that is a second away."""

    async def apply(self, effects):
        await anyio.sleep(1)
        await super().apply(effects)


@pytest.mark.parametrize(("first", "other"), [(Slow(5, DOWN), Slow(60)), (Slow(60), Slow(1, DOWN))])
async def test_a_run_that_is_cancelled_while_a_failure_is_told_gives_everything_back(first, other):
    """Whichever of the calls had failed."""
    gate = gateway({"a": [first], "b": [other]}, model=AFTER_4, limits={"concurrency": 1}, state=SlowState())
    await left_after(5.5, plain, gate)
    assert held(gate) == NOTHING


class Coming(Slow):
    """An outcome that comes after some seconds; in the very moment in which it comes something is done."""

    def __init__(self, seconds, act, outcome=None):
        self.seconds = seconds
        self._act = act
        self._outcome = outcome

    @property
    def outcome(self):
        self._act()
        return self._outcome


@pytest.mark.parametrize("run", [plain, streamed])
@pytest.mark.parametrize("first", [60, 5])
async def test_a_caller_that_leaves_just_when_somebody_is_heard_gives_everything_back(first, run):
    """The answer is there, and nobody to take it."""
    with anyio.CancelScope() as caller:
        gate = gateway(
            {
                "a": [Coming(first, caller.cancel, Streamed("x", 100))],
                "b": [Coming(1, caller.cancel, Streamed("x", 100))],
            },
            model=AFTER_4,
            limits={"concurrency": 1},
        )
        await run(gate)
        await anyio.lowlevel.checkpoint()
    assert caller.cancelled_caught
    assert held(gate) == NOTHING


@pytest.mark.parametrize("run", [plain, streamed])
async def test_a_cancelled_run_tells_of_both_tries(run):
    """Both are abandoned, and nobody was heard first."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)]}, model=AFTER_4)
    await left_after(5, run, gate)
    kept = await gate.runner.history.get("gone")
    tries = [(tried["candidate"], tried["outcome"], tried.get("why")) for tried in kept["tries"]]
    assert sorted(tries) == [("a", "abandoned", None), ("b", "abandoned", None)]
    assert kept["ending"] == "abandoned"


@pytest.mark.parametrize("run", [plain, streamed])
async def test_a_cancelled_run_changes_nobodys_health(run):
    """Neither of the first candidate nor of the hedge."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)]}, model=AFTER_4, policy={"failoverPolicy": {"ejectAfter": 1}})
    await left_after(5, run, gate)
    assert gate.state.standings() == {}


async def test_a_probe_that_a_hedge_overtook_is_given_back():
    """The candidate stays half open: the next run probes it."""
    gate = await probing(gateway({"a": [Slow(60), None], "b": [Slow(1)]}, model=AFTER_4))
    await plain(gate)
    assert [status.status for status in gate.runner.statuses()] == ["half_open", "usable"]
    assert (await gate.ask()).candidate == "a"


async def test_a_probe_that_is_heard_beside_a_hedge_is_settled():
    """It is well again, and no probe is held."""
    gate = await probing(gateway({"a": [Slow(6)], "b": [Slow(60)]}, model=AFTER_4))
    await plain(gate)
    assert ([status.status for status in gate.runner.statuses()], held(gate)) == (["usable", "usable"], NOTHING)
