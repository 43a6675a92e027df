"""Tasks that begin later and cost next to nothing until then: what anyio lacks, for asyncio and for trio.

A task that only waits for the moment to hedge would cost every hedged call as much as the rest of its run, and a timer
of the event loop half of that; nearly all of them are taken back. So the moments are kept in a heap, and one timer
waits for the earliest. Whoever begins a task waits for its end: nothing else does.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
from collections.abc import Awaitable, Callable, Coroutine
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final

Begin = Callable[[], Coroutine[Any, Any, None]]
Cancel = Callable[[], object]
"""Takes the task back; nothing happens where it has begun."""

FEW: Final = 100

_running: Final[set[asyncio.Task[None]]] = set()  # the loop itself would let a task be collected


class Alarms:
    """Moments at which tasks begin, by a steady clock that keeps pace with the event loop's."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._set: list[tuple[float, int, Alarm]] = []
        self._numbers = count()
        self._taken_back = 0
        self._rings_at = math.inf
        self._cancel: Cancel = _nothing
        self._loop: object = None

    def set(self, at: float, begin: Begin) -> Alarm:
        """Run what ``begin`` gives in a task of its own at ``at``, unless the alarm is taken back.

        ``begin`` must not raise when it is called; nor must the task, but for being cancelled.
        """
        if self._loop is not (loop := _loop()):  # the one before is over, with all that waited in it
            self._loop, self._set, self._taken_back, self._rings_at = loop, [], 0, math.inf
        # In the context of who sets it: the timer is of whoever set the first.
        context = contextvars.copy_context()
        alarm = Alarm(lambda: context.run(begin_later, 0.0, begin))
        heappush(self._set, (at, next(self._numbers), alarm))
        if at < self._rings_at:
            self._wait_until(at)
        return alarm

    def take_back(self, alarm: Alarm) -> None:
        """Let ``alarm`` not ring; nothing happens where it has."""
        if alarm.begin is None:
            return
        alarm.begin = None  # with all that hangs on it
        self._taken_back += 1
        if self._taken_back > FEW and self._taken_back > len(self._set) // 2:
            self._set = [each for each in self._set if each[2].begin is not None]
            heapify(self._set)
            self._taken_back = 0

    def _wait_until(self, at: float) -> None:
        self._cancel()
        self._rings_at = at
        self._cancel = begin_later(max(0.0, at - self._steady()), self._ring)

    async def _ring(self) -> None:
        self._rings_at, self._cancel = math.inf, _nothing
        now = self._steady()
        while self._set and (self._set[0][0] <= now or self._set[0][2].begin is None):
            alarm = heappop(self._set)[2]
            begin, alarm.begin = alarm.begin, None
            if begin is None:
                self._taken_back -= 1
            else:
                begin()
        if self._set:
            self._wait_until(self._set[0][0])


class Alarm:
    """One moment at which a task begins.

    Attributes:
        begin: Begins the task; `None` where it has begun, or is not to begin any more.
    """

    __slots__ = ("begin",)

    def __init__(self, begin: Callable[[], object]) -> None:
        self.begin: Callable[[], object] | None = begin


def begin_later(seconds: float, begin: Begin) -> Cancel:
    """Run what ``begin`` gives in a task of its own, so many seconds from now on the event loop's clock."""
    if on_trio():
        return _begin_later_on_trio(seconds, begin)
    loop = asyncio.get_running_loop()

    def run() -> None:
        task = loop.create_task(begin())
        _running.add(task)
        task.add_done_callback(_running.discard)

    return loop.call_later(seconds, run).cancel


def _begin_later_on_trio(seconds: float, begin: Callable[[], Awaitable[None]]) -> Cancel:
    import trio  # noqa: PLC0415 - not a dependency; where it runs, it is there

    waiting = trio.CancelScope()

    async def run() -> None:
        with waiting:
            await trio.sleep(seconds)
        if not waiting.cancel_called:
            await begin()

    trio.lowlevel.spawn_system_task(run, context=contextvars.copy_context())
    return waiting.cancel


def on_trio() -> bool:
    """Whether trio runs here, and not asyncio."""
    return "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run()


def _loop() -> object:
    if on_trio():
        return sys.modules["trio"].lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def _nothing() -> None:
    pass
