"""A task that begins later and costs none until then: what anyio lacks, for asyncio and for trio.

A task that only waits for the moment to hedge would cost every hedged call as much as the rest of its run. Whoever
begins one waits for its end: nothing else does.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

Cancel = Callable[[], object]
"""Takes the task back; nothing happens where it has begun."""

_running: Final[set[asyncio.Task[None]]] = set()  # the loop itself would let a task be collected


def begin_later(seconds: float, begin: Callable[[], Coroutine[Any, Any, None]]) -> Cancel:
    """Run what ``begin`` gives in a task of its own, so many seconds from now on the event loop's clock.

    ``begin`` is called when the time has come, and must not raise; nor must the task, but for being cancelled.
    """
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run():
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
