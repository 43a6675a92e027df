"""Runs that wait for a recovery, whatever happens meanwhile: nobody is forgotten, and nobody goes whose turn it is not."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.runner import RunFailed
from standby.runner.testing import EPOCH, Fail, Slow
from standby.store import Cool, Failed, Restore
from tests.runner.conftest import gateway
from tests.runner.scheduling import Distant, run

REFUSED = Fail("overloaded", "overloaded", status=529, retryable=True, scope="provider")
DOWN = Fail("server_error", "down", status=500, retryable=True)
POLICY = {
    "failoverPolicy": {
        "allowCategories": ["provider_overloaded"],
        "actions": {"provider_overloaded": "cooldown_and_next"},
        "cooldownSeconds": 5,
        "ejectAfter": 3,
    }
}
MAX_WAIT_SECONDS = 12

moments = st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.0])
outcomes = st.builds(Slow, st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([None, None, None, DOWN, REFUSED]))


class Hour:
    """Runs that come and go while their one candidate is left out, fails, and comes back."""

    def __init__(self, script, runs, words, state):
        left = iter(script)
        self.gate = gateway(
            {"a": lambda _: self.probed(next(left, Slow(1.0)))},
            policy=POLICY,
            model={"queue": {"maxWaitSeconds": MAX_WAIT_SECONDS}},
            **({"state": state()} if state else {}),
        )
        self.runs, self.words = runs, words
        self.live = 0
        self.waits = []
        self.probes = []

    def status(self):
        return self.gate.runner.statuses()[0].status

    def probed(self, outcome):
        """A call that finds its candidate half open is the only one there is."""
        if self.status() == "probing":
            self.probes.append(self.gate.clients["a"].in_flight)
        return outcome

    async def play(self):
        now = EPOCH + anyio.current_time()
        await self.gate.state.apply([Cool("candidate:chat/a", now - 1, now + 5, 1, "test")])
        async with anyio.create_task_group() as tasks:
            for after_seconds, stays_seconds in self.runs:
                tasks.start_soon(self.one, after_seconds, stays_seconds)
            for after_seconds in self.words:
                tasks.start_soon(self.restored, after_seconds)
            tasks.start_soon(self.nobody_is_forgotten)

    async def one(self, after_seconds, stays_seconds):
        await anyio.sleep(after_seconds)
        began_at = anyio.current_time()
        self.live += 1
        with anyio.move_on_after(stays_seconds):
            with suppress(RunFailed):
                await self.gate.ask()
        self.live -= 1
        self.waits.append(anyio.current_time() - began_at)

    async def restored(self, after_seconds):
        """An operator speaks, and something happens that concerns nobody."""
        await anyio.sleep(after_seconds)
        now = EPOCH + anyio.current_time()
        await self.gate.state.apply([Restore("candidate:chat/a", now, "ada"), Failed("candidate:other/z", now)])

    async def nobody_is_forgotten(self):
        """Where the candidate may be called somebody calls it, as soon as a state that is a while away has said so."""
        idle = 0
        for _ in range(120):
            await anyio.sleep(0.26)
            free = self.status() in ("usable", "half_open") and not self.gate.clients["a"].in_flight
            idle = idle + 1 if free and self.live else 0
            assert idle < 5, self.status()


@pytest.mark.parametrize("state", [None, Distant])
@given(
    script=st.lists(outcomes, max_size=12),
    runs=st.lists(st.tuples(moments, st.sampled_from([1.0, 5.5, 100.0, 100.0])), min_size=1, max_size=24),
    words=st.lists(moments, max_size=2),
)
@settings(max_examples=15)
def test_nobody_is_forgotten_and_everybody_ends_in_time(state, script, runs, words):
    """A probe at a time, no wait beyond the longest and the call that follows, and nothing is kept when all is over."""
    hour = Hour(script, runs, words, state)
    run("asyncio", hour.play)
    assert len(hour.waits) == len(runs)
    assert max(hour.waits) <= MAX_WAIT_SECONDS + 4.0 + 2.0
    assert set(hour.probes) <= {0, 1}
    assert hour.gate.runner._driver._recovery._lines == {}
    assert not any(hour.gate.runner.held.values())
