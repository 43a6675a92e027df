"""What every SQL database of a store has: work that is done to its end, one writer, and its troubles in words."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeVar

import anyio
import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ._errors import StoreError

T = TypeVar("T")

POLL: Final = "poll"
"""The part of a store that follows what other processes change."""

log = logging.getLogger("standby.store")


def to_json(value: Any) -> str:
    """How records and documents are written."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``, which must be bounded, and be cancelled only then."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as request:
                cancelled = None if task.cancelled() else request
    task.result()
    if cancelled is not None:
        raise cancelled


class Changes(Protocol):
    """Tells when a database may have changed."""

    async def wait(self) -> None:
        """Return when it may have, at once the first time; or when the store is being closed.

        Raises:
            DBAPIError: The database is in trouble, or
            StoreError: is no longer what was opened.
        """
        ...


class Database(ABC):
    """The connections to one database, shared by the parts of a store that live in it.

    Attributes:
        name: The database as it is shown to people; no password is in it.
        one_writer: Held while this process writes: waiting here is fair and short, waiting in a database is neither.
        engine: Where connections come from.
    """

    engine: AsyncEngine

    def __init__(self, name: str) -> None:
        self.name = name
        self.one_writer = asyncio.Lock()
        self._troubles: dict[str, str] = {}
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

    async def say_that_it_stores(self, connection: AsyncConnection) -> None:  # noqa: B027 - most need not be told
        """Tell the database that what this transaction writes of the catalog has its version."""

    @abstractmethod
    def watch(self, closing: asyncio.Event, poll_seconds: float) -> AbstractAsyncContextManager[Changes]:
        """Something to wait on for what other processes change."""

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work`` to its end, even where the caller is cancelled: no connection is left in the middle of it."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def refuse_if_closed(self) -> None:
        """Raise where the database was closed."""
        if self._closed:
            raise StoreError(f"{self.name} is closed")

    # -- trouble -------------------------------------------------------------------------------------------------

    @abstractmethod
    def is_trouble(self, error: BaseException) -> bool:
        """Whether the database is at fault, so that trying later may do; `False` where the data is."""

    @abstractmethod
    def what_is_wrong(self, error: DBAPIError) -> str:
        """In words that follow the database's name."""

    def trouble(self, *parts: str) -> str | None:
        """What is wrong with the database for one of these parts of the store; `None` where nothing is."""
        return next((self._troubles[part] for part in parts if part in self._troubles), None)

    def enter_trouble(self, part: str, error: BaseException) -> None:
        """Remember that ``part`` cannot use the database. The first part in trouble says so in the log."""
        why = self.words(error)
        if not self._troubles:
            log.warning("%s; runs go on with what is in memory, and it is written once that is possible again", why)
        self._troubles[part] = why

    def leave_trouble(self, part: str) -> None:
        """Remember that ``part`` can use the database. The last part that was in trouble says so in the log."""
        if self._troubles.pop(part, None) is not None and not self._troubles:
            log.info("%s is in use again; everything that waited is written", self.name)

    def words(self, error: BaseException) -> str:
        """What is wrong, with the name of the database."""
        if isinstance(error, StoreError):
            return str(error)
        if isinstance(error, DBAPIError):
            return f"{self.name} {self.what_is_wrong(error)}"
        return f"{self.name} cannot be used: {error}"
