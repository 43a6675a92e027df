"""What every SQL database of a store has: transactions, and work that is done to its end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ._engine import Engine
from ._errors import StoreError

T = TypeVar("T")


def to_json(value: Any) -> str:
    """How records and documents are written."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Changes(Protocol):
    """Tells when a database may have changed."""

    async def wait(self) -> None:
        """Return when it may have, at once the first time; or when the store is being closed.

        Raises:
            DBAPIError: The database is in trouble, or
            StoreError: is no longer what was opened.
        """
        ...


class Database(Engine):
    """The connections to one database, shared by the parts of a store that live in it.

    Attributes:
        engine: Where connections come from.
    """

    engine: AsyncEngine

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    # -- opening and closing -------------------------------------------------------------------------------------

    @abstractmethod
    async def open(self, wait_seconds: float) -> None:
        """Make what is missing, and bring the tables to the newest form.

        Raises:
            StoreError: It cannot be used. The message names it and says what to do.
        """

    async def close(self) -> None:
        """Wait for what is under way, and give all connections back."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._closed = True
        await self.engine.dispose()

    # -- transactions --------------------------------------------------------------------------------------------

    @abstractmethod
    def write(self, *, exclusive: bool = False) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction that writes: all of it is kept, or nothing.

        ``exclusive`` where what it reads must still be true when it writes.
        """

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction that reads: what it sees is of one moment."""

    async def say_that_it_stores(self, connection: AsyncConnection) -> None:
        """Tell the database that what this transaction writes of the catalog has its version."""

    @abstractmethod
    def watch(self, closing: asyncio.Event, poll_seconds: float) -> AbstractAsyncContextManager[Changes]:
        """Something to wait on for what other processes change."""

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work`` to its end, even where the caller is cancelled: no connection is left in the middle of it."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever was cancelled does not want to know any more

    def refuse_if_closed(self) -> None:
        """Raise where the database was closed."""
        if self._closed:
            raise StoreError(f"{self.name} is closed")
