"""One SQLite file: opening it, its transactions, and what is wrong with it in words.

Any number of processes may use the file at once. It is in WAL mode, so readers and the one writer do not wait for each
other; every transaction that writes begins with BEGIN IMMEDIATE, so what it reads is still true when it writes. With
synchronous=NORMAL a commit survives the death of the process, though not that of the machine's power supply: run-time
state is not worth a disk flush for each failed call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import URL, Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random

from ._database import Changes, Database, to_json
from ._engine import POLL
from ._errors import StoreError, Unreachable
from ._sql_schema import NEWEST, one_migration, revision_of, upgrade
from ._texts import StoreUrl

BUSY: Final = 5
NOT_A_DATABASE: Final = 26

# By SQLite's primary result code: what is wrong, and what to do where it keeps a store from being opened.
_WORDS: Final[dict[int, tuple[str, str]]] = {
    3: ("may not be used by this user", "give this user the right to write it and its folder"),
    BUSY: ("is locked by another process", "end what holds it, or name another file"),
    6: ("is locked by another process", "end what holds it, or name another file"),
    8: ("is read-only", "give this user the right to write it and its folder"),
    10: ("cannot be read or written (input/output error)", "look at the disk it is on"),
    11: ("is damaged", "move it away, or restore it from a copy"),
    13: ("cannot grow: the disk is full", "make room on the disk it is on"),
    14: ("cannot be opened", "give this user the right to write it and its folder"),
    NOT_A_DATABASE: ("is not a SQLite database", "name another file, or move this one away"),
}

_MAX_READERS: Final = 3


def _code(error: BaseException) -> int | None:
    orig = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(orig, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_busy(error: BaseException) -> bool:
    """Whether another process holds the file, so that trying again soon may do."""
    return _code(error) in {BUSY, 6}


class SqliteFile(Database):
    """The connections to one file, shared by the parts of a store that live in it."""

    def __init__(self, url: str, *, busy_timeout_seconds: float) -> None:
        super().__init__(_path_in(url))
        self._readers = asyncio.Semaphore(_MAX_READERS)
        self._inode: int | None = None
        self.engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=self.name),
            connect_args={"timeout": busy_timeout_seconds},
            # The poller's, the writer's and the readers' connection: nobody ever waits for the pool.
            pool_size=2 + _MAX_READERS,
            max_overflow=0,
            # Every transaction below is ended where it began: the pool need not make sure, a round trip each time.
            pool_reset_on_return=None,
            hide_parameters=True,
            json_serializer=to_json,
            json_deserializer=orjson.loads,
        )
        event.listen(self.engine.sync_engine, "connect", _prepare_connection)
        event.listen(self.engine.sync_engine, "begin", _begin)
        self._writing = self.engine.execution_options(standby_begin="IMMEDIATE")
        self._outside = self.engine.execution_options(standby_begin="")

    # -- opening and closing -------------------------------------------------------------------------------------

    async def open(self, wait_seconds: float) -> None:
        """Make the file where it is missing, and bring its tables to the newest form.

        Raises:
            StoreError: It cannot be used. The message names it and says what to do.
        """
        _make(self.name)
        patient = AsyncRetrying(
            retry=retry_if_exception(is_busy),
            stop=stop_after_delay(wait_seconds),
            wait=wait_random(0.01, 0.05),
            reraise=True,
        )
        try:
            await patient(self._prepare)
            self._inode = os.stat(self.name).st_ino  # noqa: PTH116 - no handle of ours: see `_make`
        except DBAPIError as error:
            what, advice = _WORDS.get(_code(error) or 0, (f"cannot be used: {error.orig}", "name another file"))
            kind = Unreachable if self.is_trouble(error) and _code(error) != NOT_A_DATABASE else StoreError
            raise kind(f"{self.name} {what}: {advice}") from error
        except OSError as error:
            raise StoreError(f"{self.name} cannot be used: {error.strerror}") from error

    async def _prepare(self) -> None:
        async with self.read() as connection:
            # Before anything is written, for it may be another program's.
            revision = await connection.run_sync(revision_of, self.name)
        async with self._outside.connect() as connection:
            await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        if revision == NEWEST:
            async with self.write():
                return  # It can be written, which reading did not tell.
        async with one_migration(), self.write() as connection:
            # Asked again: another process may have been faster.
            if await connection.run_sync(revision_of, self.name) != NEWEST:
                await connection.run_sync(upgrade)

    # -- transactions --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def write(self, *, exclusive: bool = False) -> AsyncGenerator[AsyncConnection, None]:  # noqa: ARG002
        """One transaction that writes: all of it is kept, or nothing; every one of them is exclusive."""
        self.refuse_if_closed()
        async with self.one_writer, self._writing.connect() as connection:
            try:
                async with connection.begin():
                    yield connection
            except DBAPIError as error:
                # A connection that was opened while the file was read-only stays so: the next try gets a new one.
                if not is_busy(error):
                    await connection.invalidate()
                raise

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        """One transaction that reads: what it sees is of one moment."""
        self.refuse_if_closed()
        if self._inode is not None:
            self._refuse_if_replaced()
        async with self._readers, self.engine.connect() as connection:
            try:
                yield connection
            except DBAPIError:
                await connection.invalidate()
                raise

    @asynccontextmanager
    async def watch(self, closing: asyncio.Event, poll_seconds: float) -> AsyncGenerator[Changes, None]:
        """Something to wait on for what other connections change."""
        async with self._outside.connect() as connection:
            try:
                yield _Polled(self, connection, closing, poll_seconds)
            except DBAPIError:
                await connection.invalidate()
                raise

    async def data_version(self, connection: AsyncConnection) -> int:
        """A number that is another one after another connection has changed the file.

        Raises:
            StoreError: The file that is open is no longer the one that has its name.
        """
        self._refuse_if_replaced()
        version = (await connection.exec_driver_sql("PRAGMA data_version")).scalar_one()
        await connection.rollback()
        return int(version)

    def _refuse_if_replaced(self) -> None:
        with suppress(OSError):
            if os.stat(self.name).st_ino == self._inode:  # noqa: PTH116
                return
        raise StoreError(f"{self.name} was removed or replaced: restart to use what is there now")

    # -- trouble -------------------------------------------------------------------------------------------------

    def is_trouble(self, error: BaseException) -> bool:
        """Whether the file is at fault, so that trying later may do; `False` where the data is, and nothing helps."""
        at_fault = (IntegrityError, DataError, InterfaceError, NotSupportedError, ProgrammingError)
        return isinstance(error, DBAPIError) and not isinstance(error, at_fault)

    def what_is_wrong(self, error: BaseException) -> str:
        """By SQLite's own code."""
        code = _code(error)
        orig = error.orig if isinstance(error, DBAPIError) else error
        return _WORDS[code][0] if code in _WORDS else f"cannot be used: {orig}"


class _Polled:
    """Asks a file for its version, outside any transaction."""

    def __init__(
        self, file: SqliteFile, connection: AsyncConnection, closing: asyncio.Event, poll_seconds: float
    ) -> None:
        self._file = file
        self._connection = connection
        self._closing = closing
        self._poll_seconds = poll_seconds
        self._seen: int | None = None

    async def wait(self) -> None:
        """Return when another connection has changed the file."""
        while not self._closing.is_set():
            version = await self._file.data_version(self._connection)
            if version != self._seen:
                self._seen = version
                return
            self._file.leave_trouble(POLL)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._poll_seconds)


def _path_in(url: str) -> str:
    try:
        parts = make_url(url)
    except ArgumentError:
        hidden = StoreUrl(url).hidden
        message = (
            f"{hidden!r} is not the address of a store: write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DB"
        )
        raise StoreError(message) from None
    if parts.drivername not in {"sqlite", "sqlite+aiosqlite"}:
        message = "write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
        raise StoreError(f"{parts.drivername} is not supported here: {message}")
    path = parts.database
    if parts.host or parts.query or not path or path == ":memory:" or path.startswith("file:"):
        raise StoreError(f"{url!r} names no file: write sqlite:///PATH, or memory: for a store that keeps nothing")
    return path


def _make(name: str) -> None:
    """Make the file, for its owner's eyes only: configuration may hold keys, and records of runs their causes.

    A file that exists is not opened here. Closing it would take away every lock that this process has on it through
    SQLite, as POSIX has it.
    """
    path = Path(name)
    if path.is_dir():
        raise StoreError(f"{name} is a folder: name a file")
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except FileNotFoundError:
        raise StoreError(f"{name} cannot be made: the folder {path.parent} does not exist; make it first") from None
    except OSError as error:
        raise StoreError(
            f"{name} cannot be made: {error.strerror}; give this user the right to write {path.parent}, "
            "or name another file"
        ) from error


def _prepare_connection(connection: Any, _: object) -> None:
    connection.isolation_level = None  # The driver begins no transaction by itself: `_begin` does.
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    how = connection.get_execution_options().get("standby_begin", "DEFERRED")
    if how:
        connection.exec_driver_sql(f"BEGIN {how}")
