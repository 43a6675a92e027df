"""Work that goes on only while whoever asked for it is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """What ``work`` comes to; it is cancelled where the caller's connection is closed first.

    On asyncio the watch is a bare task: a task group would cost every request five times as much.

    Raises:
        ClientDisconnect: There is nobody to answer.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await _in_task_group(receive, work)
    with anyio.CancelScope() as scope:
        watch = loop.create_task(_until_gone(receive, scope))
        try:
            return await work()
        finally:
            watch.cancel()
    raise ClientDisconnect


async def _in_task_group(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    came_to: list[T] = []
    failed: Exception = ClientDisconnect()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
        try:
            came_to.append(await work())
        except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
            failed = error
        tasks.cancel_scope.cancel()
    if came_to:
        return came_to[0]
    raise failed


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
