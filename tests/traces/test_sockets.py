"""The same golden traces, read by a runner with the built-in client, against providers on real sockets.

Time goes at its own pace, and is moved on by what the trace says: by the times of its runs, and by what calls take. So
nothing is waited for; and what is compared is how long a cooldown is, never when it ends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import orjson
import pytest

from standby.clients import HttpPool
from standby.demo.faults import Behaviour, FaultServer, error_answer, refused_port
from standby.runner import Request, RunFailed, Runner, RunRecord
from standby.runner.testing import EPOCH
from standby.store import Enable, MemoryCatalog, MemoryState
from tests.traces.reading import Between, Run, Step, Trace, behaviour_of, told, told_skips, traces

pytestmark = pytest.mark.anyio

TRACES = {name: trace for name, trace in traces().items() if not trace.no_sockets}
REAL_SECONDS = 2.0
"""By how much a time to come back may differ for the real time that a trace takes."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("name", TRACES)
async def test_a_trace(name):
    """The runner calls, decides and spends what the trace says."""
    trace = TRACES[name]
    async with Sockets(trace).open() as sockets:
        for each in trace.happens:
            if isinstance(each, Run):
                await sockets.run(each)
            else:
                await sockets.between(each)


class MovedClock:
    """The machine's steady clock, moved on as a trace says; it begins at `EPOCH`."""

    def __init__(self) -> None:
        self._ahead = -time.monotonic()

    def steady(self) -> float:
        return time.monotonic() + self._ahead

    def epoch(self) -> float:
        return EPOCH + self.steady()

    def move_to(self, at: float) -> None:
        assert at >= self.steady() or at == 0, "the run before took longer than the trace has"
        self._ahead = at - time.monotonic()

    def move_on(self, seconds: float) -> None:
        self._ahead += seconds


class Sockets:
    """A runner, and a server for each provider of a trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.clock = MovedClock()
        self.state = MemoryState()
        self.runner: Runner
        self.steps: tuple[Step, ...] = ()
        self.next = 0
        self.heard: list[tuple[str, str]] = []
        self.budgets: list[tuple[Step, dict[str, int]]] = []

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self, None]:
        deaf = {
            self.provider_of(step)[0] for run in self.trace.runs for step in run.steps if step.call and not step.heard
        }
        async with AsyncExitStack() as opened:
            addresses: dict[str, str] = {}
            for name in self.trace.names_of_providers:
                if name in deaf:
                    addresses[name] = f"http://127.0.0.1:{opened.enter_context(refused_port())}"
                else:
                    addresses[name] = (await opened.enter_async_context(FaultServer(self.script(name)))).url
            self.runner = Runner(
                MemoryCatalog(self.trace.snapshot(addresses)),
                self.state,
                clock=self.clock,
                chance=lambda: 0.0,
                http=await opened.enter_async_context(HttpPool(trust_env=False)),
            )
            await opened.enter_async_context(self.runner)
            yield self

    def script(self, provider: str):
        def behaviour(number: int, method: str, path: str, headers: Any, body: bytes) -> Behaviour:
            self.heard.append((provider, orjson.loads(body)["model"]))
            index = next((n for n, step in enumerate(self.steps) if n >= self.next and step.heard), None)
            if index is None:
                return error_answer(418, "nobody expected this call")
            self.remember_budgets(self.steps[:index])
            self.next = index + 1
            self.clock.move_on(self.steps[index].takes)
            return behaviour_of(self.steps[index]) or error_answer(418, "nobody should listen here")

        return behaviour

    def provider_of(self, step: Step) -> tuple[str, str]:
        candidates = {candidate["id"]: candidate for candidate in self.trace.models["chat"]["candidates"]}
        return candidates[step.call]["provider"], candidates[step.call]["model"]

    def remember_budgets(self, done: tuple[Step, ...]) -> None:
        """What is left now is what the last step that is done has left."""
        left = {domain: tokens for status in self.runner.statuses() for domain, tokens in status.retry_budget.items()}
        self.budgets += [(step, left) for step in done[-1:]]

    async def run(self, run: Run) -> None:
        self.clock.move_to(run.at)
        self.steps, self.next, self.heard, self.budgets = run.steps, 0, [], []
        record, retry_after = await self.ask(run)
        self.remember_budgets(run.steps)
        assert [tried.candidate for tried in record.tries] == [step.call or step.refuse for step in run.steps]
        for tried, step in zip(record.tries, run.steps, strict=True):
            assert told(tried, step) == step.expected
        assert self.heard == [self.provider_of(step) for step in run.steps if step.heard]
        for step, left in self.budgets:
            assert left == dict(step.budgets)
        assert told_skips(record) == list(run.skips)
        assert record.ending == run.ending
        expected = None if run.retry_after is None else pytest.approx(run.retry_after, abs=REAL_SECONDS)
        assert retry_after == expected
        assert (self.runner.held["runs"], self.runner.held["extras"], self.runner.held["leases"]) == (0, 0, 0)

    async def ask(self, run: Run) -> tuple[RunRecord, float | None]:
        try:
            return (await self.runner.run(Request("chat", run.body), **run.options)).record, None
        except RunFailed as failed:
            return failed.record, failed.retry_after_seconds

    async def between(self, between: Between) -> None:
        self.clock.move_to(between.at)
        now = self.clock.epoch()
        if between.enable:
            await self.state.apply([Enable(between.enable, now, "operator")])
        else:
            until = now + between.seconds
            assert await self.state.lease_probe([between.probed_elsewhere], "another run", now, until)
