"""How contestants are measured: in blocks that alternate, by the processor's time where it is ours alone."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

IN_FLIGHT = 32


async def alternate(contestants: Mapping[str, Callable[[], Awaitable[T]]], rounds: int) -> dict[str, list[T]]:
    """What one block of each in turn measures, so often; the first round opens connections and imports, and is no part.

    Every second round goes through them backwards: what one leaves behind in caches is not always the same one's gain.
    """
    values: dict[str, list[T]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        order = list(contestants.items())
        for name, block in order if number % 2 else reversed(order):
            gc.collect()
            value = await block()
            if number:
                values[name].append(value)
    return values


async def as_many(call: Callable[[], Awaitable[Any]], calls: int) -> None:
    """So many calls, `IN_FLIGHT` at once."""
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await call()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(worker())


def allow_connections() -> None:
    """As many open files as this process may have: a connection is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cpu_each(call: Callable[[], Awaitable[Any]], calls: int) -> Callable[[], Awaitable[float]]:
    """A block: milliseconds of this process's processor time for one of so many calls, `IN_FLIGHT` at once."""

    async def block() -> float:
        began = time.process_time()
        await as_many(call, calls)
        return (time.process_time() - began) / calls * 1000

    return block
