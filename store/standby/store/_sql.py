"""Catalog, run-time state and history in one database; or in two, by opening two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack

from sqlalchemy.exc import DBAPIError

from ._audit import Audit
from ._clients import CLIENTS
from ._config import parse
from ._database import Database
from ._engine import POLL, log, to_its_end
from ._errors import StoreError, Unreachable
from ._findings import InvalidConfig
from ._last_good import LastGood
from ._shared_state import PART as STATE
from ._sql_catalog import SqlCatalog
from ._sql_history import PART as HISTORY
from ._sql_history import SqlHistory
from ._sql_state import SqlState
from ._sqlite import SqliteFile

_RECONNECT_SECONDS: Final = 0.5
_IMPATIENT_SECONDS: Final = 1.0
"""How long a database that need not be there is waited for."""


class SqlOptions(TypedDict, total=False):
    """What `SqlStore` may be told besides its URL, and says the meaning of."""

    environ: Mapping[str, str] | None
    clients: Collection[str]
    poll_seconds: float
    commit_wait_seconds: float
    busy_timeout_seconds: float
    open_wait_seconds: float
    max_pending: int
    keep_runs: int
    audit: Audit | None
    required: bool
    last_good: str | os.PathLike[str] | None


class SqlStore:
    """A store in a SQLite file or a PostgreSQL database, which any number of processes may use at once.

    It is open inside ``async with``, and on asyncio. What is wrong with the database when it is opened is a
    `StoreError`; what becomes wrong with it later is told by the parts' ``trouble``, and runs go on with what is in
    memory.

    Attributes:
        catalog: The configuration, by version.
        state: Cooldowns, disablements, demotions and probes.
        history: The records of past runs, and the audit.
    """

    def __init__(
        self,
        url: str,
        *,
        environ: Mapping[str, str] | None = None,
        clients: Collection[str] = CLIENTS,
        poll_seconds: float = 0.25,
        commit_wait_seconds: float = 0.25,
        busy_timeout_seconds: float = 1.0,
        open_wait_seconds: float = 5.0,
        max_pending: int = 10_000,
        keep_runs: int = 100_000,
        audit: Audit | None = None,
        required: bool = True,
        last_good: str | os.PathLike[str] | None = None,
    ) -> None:
        """A store that is not open yet.

        Args:
            url: ``sqlite:///PATH``, relative to the working folder, or absolute with a fourth slash; or
                ``postgresql://USER:PASSWORD@HOST/DATABASE``.
            environ: What ``${NAME}`` in the catalog stands for; by default what the process's environment says.
            clients: The clients that a provider in the catalog may name.
            poll_seconds: How soon what other processes change is seen here; PostgreSQL says so at once, and is asked
                this often all the same.
            commit_wait_seconds: How long a run waits at most for a change of the state to be written.
            busy_timeout_seconds: After this long behind another process's lock, a file is said to be in trouble.
            open_wait_seconds: How long opening waits for a file that is locked, or a server that is starting.
            max_pending: How much of the state and of the history, each, waits at most to be written.
            keep_runs: How many records of runs are kept.
            audit: Is told what is audited here as well, where the history that people ask is another one.
            required: Whether a database that cannot be reached is an error at the start; where not, it is gone over to
                when it can be, and what is to be written waits until then.
            last_good: A file, ``.yaml``, that has a copy of the catalog that was served last: what is served until
                then.

        Raises:
            StoreError: The URL names no database.
        """
        self._database = _database(url, busy_timeout_seconds)
        self._poll_seconds = poll_seconds
        self._open_wait_seconds = open_wait_seconds
        self._required = required
        self._last_good = None if last_good is None else LastGood(last_good)
        self._copied: int | None = None
        self._opened = False
        self._closing = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self.catalog = SqlCatalog(self._database, partial(parse, environ=environ, clients=clients))
        self.state = SqlState(
            self._database, commit_wait_seconds=commit_wait_seconds, max_pending=max_pending, audit=audit
        )
        self.history = SqlHistory(self._database, max_pending=max_pending, keep_runs=keep_runs)

    @classmethod
    def open(cls, url: str, **options: Unpack[SqlOptions]) -> Self:
        """A store to be entered with ``async with``; the options are those of `SqlStore`."""
        return cls(url, **options)

    async def __aenter__(self) -> Self:
        """Open the database and read it.

        Raises:
            StoreError: It cannot be used. The message names it and says what to do.
            InvalidConfig: It cannot be reached, and the copy of its catalog is not valid.
        """
        try:
            await self._start()
        except BaseException:
            await to_its_end(self._database.close())
            raise
        self._poller = asyncio.create_task(self._poll(), name=f"standby.store poll of {self._database.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is pending, with one last try where the file is in trouble, and close it."""
        await to_its_end(self._close())

    @property
    def reached(self) -> bool:
        """Whether the database was there at the start, or came back since."""
        return self._opened

    async def _start(self) -> None:
        wait_seconds = self._open_wait_seconds if self._required else min(self._open_wait_seconds, _IMPATIENT_SECONDS)
        try:
            await self._database.finish(self._open(wait_seconds))
        except Unreachable as error:
            if self._required:
                raise
            await self._start_without(error)

    async def _open(self, wait_seconds: float) -> None:
        await self._database.open(wait_seconds)
        try:
            await self.catalog.catch_up()  # first: nobody is to be served in between what it takes the place of
            await self._refresh()
        except DBAPIError as error:
            raise StoreError(f"{self._database.words(error)}: name another file, or move this one away") from error
        # Only now: what waits cannot be written into a database without tables, and would be given up.
        self.state.writer.start()
        self.history.writer.start()
        self._opened = True

    async def _start_without(self, error: Unreachable) -> None:
        for part in (POLL, STATE, HISTORY):
            self._database.enter_trouble(part, error)
        if self._last_good is None:
            return
        copied = await asyncio.to_thread(self._last_good.read)
        if copied is not None:
            try:
                self.catalog.serve_copy(*copied)
            except InvalidConfig as wrong:
                raise InvalidConfig(wrong.findings, str(self._last_good)) from None
            log.error(
                "%s: version %d of its catalog is served from %s", self._database.name, copied[0], self._last_good
            )

    async def _close(self) -> None:
        self._closing.set()
        if self._poller is not None:
            await self._poller
        if not self._opened:
            with suppress(StoreError, DBAPIError):
                await self._open(0.0)
        await self._copy()
        await self.state.writer.close()
        await self.history.writer.close()
        await self._database.close()

    async def _poll(self) -> None:
        """Follow what other processes write, until the store is closed."""
        while not self._closing.is_set():
            try:
                if not self._opened:
                    await self._database.finish(self._open(0.0))
                await self._follow()
            except (DBAPIError, StoreError) as error:
                self._database.enter_trouble(POLL, error)
            except Exception as error:  # noqa: BLE001 - said with its trace
                # Whatever it is, a process that no longer hears of the others' cooldowns must say so and try again.
                log.exception("following the changes in %s failed", self._database.name)
                self._database.enter_trouble(POLL, error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), min(self._poll_seconds, _RECONNECT_SECONDS))

    async def _follow(self) -> None:
        async with self._database.watch(self._closing, self._poll_seconds) as changes:
            while True:
                await changes.wait()
                if self._closing.is_set():
                    return
                await self._refresh()
                self._database.leave_trouble(POLL)
                await self._copy()

    async def _copy(self) -> None:
        """Copy the version that is served, where it is not the one that was copied last."""
        stored = self.catalog.stored
        if self._last_good is not None and stored is not None and stored[0] != self._copied:
            await asyncio.to_thread(self._last_good.keep, *stored, self._database.name)
            self._copied = stored[0]

    async def _refresh(self) -> None:
        async with self._database.read() as connection:
            await self.state.refresh(connection)
            await self.catalog.refresh(connection)


def _database(url: str, busy_timeout_seconds: float) -> Database:
    if url.startswith("postgres"):
        from ._postgres import PostgresDatabase  # noqa: PLC0415 - another driver, and only here

        return PostgresDatabase(url)
    return SqliteFile(url, busy_timeout_seconds=busy_timeout_seconds)


def open_sql(url: str, **options: Unpack[SqlOptions]) -> SqlStore:
    """A store to be entered with ``async with``; the options are those of `SqlStore`."""
    return SqlStore.open(url, **options)
