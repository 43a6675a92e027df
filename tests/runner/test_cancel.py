"""A caller that goes away, at any moment of a run: everything is given back, and nobody's health changes."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import Fail, Slow
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)


def held(gate):
    """What is still taken."""
    return {**gate.runner.held, "calls": sum(client.in_flight for client in gate.clients.values())}


NOTHING = {"calls": 0, "runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}


async def test_a_cancelled_run_changes_nobodys_health():
    """Abandoned is neither a success nor a failure."""
    gate = gateway({"a": [Slow(10, DOWN)]}, policy={"failoverPolicy": {"ejectAfter": 1}})
    with anyio.move_on_after(1):
        await gate.ask()
    assert gate.state.standings() == {}


async def test_a_cancelled_run_is_told_in_the_history():
    """Its record says that the caller went away, and during which try."""
    gate = gateway({"a": [Slow(10)]})
    with anyio.move_on_after(1):
        await gate.ask(run_id="gone")
    kept = await gate.runner.history.get("gone")
    assert (kept["ending"], kept["tries"][0]["outcome"]) == ("abandoned", "abandoned")


async def test_who_waits_behind_a_cancelled_run_moves_up():
    """A place in the queue that is given up holds up nobody."""
    gate = gateway({"a": [Slow(5)]}, limits={"concurrency": 1})
    ended = []

    async def ask():
        await gate.ask()
        ended.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        tasks.start_soon(ask)
        await anyio.sleep(1)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(ask)
                await anyio.sleep(1)
                tasks.start_soon(ask)
                await anyio.sleep(1)
                scope.cancel()
    assert [at - began for at in ended] == [5, 10]


async def test_a_failed_run_gives_everything_back_too():
    """Nothing is left behind by a run that ends with an error."""
    gate = gateway({"a": [DOWN]}, limits={"concurrency": 1})
    with pytest.raises(RunFailed):
        await gate.ask()
    assert held(gate) == NOTHING
