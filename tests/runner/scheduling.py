"""The event loop under a test's control: its steps are counted, and on trio their order is a seed's.

And a state that makes for more moments at which tasks may go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import sniffio
import trio
from trio._core import _run as trio_scheduler
from trio.testing import MockClock

from standby.runner.testing import VirtualLoop
from standby.store import MemoryState

T = TypeVar("T")


class Steps:
    """Counts the steps of the event loop, and acts once, just before step number ``at``."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.made = 0
        self._at = at
        self._act = act

    def next(self) -> None:
        """A step is about to be made."""
        if self.made == self._at:
            self._act()
        self.made += 1


class _Instrument(trio.abc.Instrument):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps.next()


class SteppedLoop(VirtualLoop):
    """A virtual loop that tells `steps` of each callback that it runs: every step of every task is one."""

    steps: Steps | None = None

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(self._step, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when, self._step, callback, *args, context=context)

    def _step(self, callback: Any, *args: Any) -> None:
        if self.steps is not None:
            self.steps.next()
        callback(*args)


@contextmanager
def counted_steps(at: int, act: Callable[[], object]) -> Iterator[Steps]:
    """Count the steps of the running loop from here on, and ``act`` just before step number ``at``."""
    steps = Steps(at, act)
    if sniffio.current_async_library() == "trio":
        instrument = _Instrument(steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            yield steps
        finally:
            trio.lowlevel.remove_instrument(instrument)
    else:
        loop = asyncio.get_running_loop()
        loop.steps = steps
        try:
            yield steps
        finally:
            loop.steps = None


def run(backend: str, main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run ``main`` in virtual time, step by step the same each time.

    Trio shuffles the tasks that may go on. Where Hypothesis is imported, the order depends on this generator alone.
    """
    if backend == "trio":
        assert trio_scheduler._ALLOW_DETERMINISTIC_SCHEDULING
        trio_scheduler._r.seed(0)
        return anyio.run(main, *args, backend=backend, backend_options={"clock": MockClock(autojump_threshold=0)})
    return anyio.run(main, *args, backend=backend, backend_options={"loop_factory": SteppedLoop})


class Distant(MemoryState):
    """A state that is half a second away: a change is seen here at once, and kept there later."""

    async def apply(self, effects):
        await super().apply(effects)
        await anyio.sleep(0.5)

    async def lease_probe(self, domains, holder, now, until):
        await anyio.sleep(0.25)
        leased = await super().lease_probe(domains, holder, now, until)
        await anyio.sleep(0.25)
        return leased
