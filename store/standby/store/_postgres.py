"""One PostgreSQL database: opening it, its transactions, its notifications, and what is wrong with it in words.

Any number of processes on any number of machines may use it at once. What must be decided one after the other, a new
version of the catalog say, is decided under one advisory lock; everything else needs none. Whoever changes something
notifies, so the others need not ask; they look now and then all the same, since a notification can be lost with its
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import orjson
from sqlalchemy import URL, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random

from ._database import Changes, Database, to_json
from ._errors import StoreError, Unreachable
from ._sql_schema import NEWEST, one_migration, revision_of, upgrade

CHANNEL: Final = "standby_changed"
_LOCK: Final = 0x5374616E646279  # "Standby", for `pg_advisory_xact_lock`
_CONNECTIONS: Final = 5
_CONNECT_SECONDS: Final = 5.0
_COMMAND_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 5.0

# By PostgreSQL's class of errors: it, and not what it was sent, is at fault.
_TROUBLE: Final = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX"})
_WORDS: Final = {
    "28P01": ("refuses the password", "correct the password in the address"),
    "28000": ("refuses this user", "correct the user in the address, or let it in"),
    "3D000": ("does not exist", "make the database, or correct its name"),
    "42501": ("does not let this user do that", "give this user the right to make and write tables"),
    "53300": ("has too many connections", "let it have more, or use fewer processes"),
    "57P03": ("is starting up or shutting down", "try again in a moment"),
}
_UNREACHABLE: Final = ("cannot be reached", "start it, or correct the address")


class PostgresDatabase(Database):
    """The connections to one database, shared by the parts of a store that live in it."""

    def __init__(self, url: str) -> None:
        self._url = _url_in(url)
        super().__init__(self._url.set(drivername="postgresql").render_as_string(hide_password=True))
        self.engine = create_async_engine(
            self._url,
            connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": _COMMAND_SECONDS},
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,  # a server that was restarted has closed what is pooled
            hide_parameters=True,
            json_serializer=to_json,
            json_deserializer=orjson.loads,
        )
        self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    async def open(self, wait_seconds: float) -> None:
        """Bring the tables to the newest form.

        Raises:
            StoreError: It cannot be used. The message names it and says what to do.
        """
        patient = AsyncRetrying(
            retry=retry_if_exception(self.is_trouble),
            stop=stop_after_delay(wait_seconds),
            wait=wait_random(0.05, 0.2),
            reraise=True,
        )
        try:
            await patient(self._prepare)
        except DBAPIError as error:
            what, advice = _told(error)
            kind = Unreachable if self.is_trouble(error) else StoreError
            raise kind(f"{self.name} {what}: {advice}") from error

    async def _prepare(self) -> None:
        async with self.read() as connection:
            if await connection.run_sync(revision_of, self.name) == NEWEST:
                return
        async with one_migration(), self.write(exclusive=True) as connection:
            # Asked again: another process may have been faster.
            if await connection.run_sync(revision_of, self.name) != NEWEST:
                await connection.run_sync(upgrade)

    # -- transactions --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def write(self, *, exclusive: bool = False) -> AsyncGenerator[AsyncConnection, None]:
        """One transaction that writes; ``exclusive`` where it must be the only such one of all processes."""
        self.refuse_if_closed()
        with _as_database_errors():
            async with self.one_writer, self.engine.begin() as connection:
                if exclusive:
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        """One transaction that reads: what it sees is of one moment."""
        self.refuse_if_closed()
        with _as_database_errors():
            async with self._reading.begin() as connection:
                yield connection

    async def say_that_it_stores(self, connection: AsyncConnection) -> None:
        """Tell the triggers of the catalog's tables, which make a version of what else is written there."""
        await connection.execute(text("SET LOCAL standby.storing = 'on'"))

    @asynccontextmanager
    async def watch(self, closing: asyncio.Event, poll_seconds: float) -> AsyncGenerator[Changes, None]:
        """Something to wait on for changes that any process makes."""
        with _as_database_errors():
            async with self.engine.connect() as connection:
                listening: Any = (await connection.get_raw_connection()).driver_connection
                changes = _Notified(closing, max(poll_seconds, _POLL_SECONDS))
                listening.add_termination_listener(changes.lost)
                try:
                    await listening.add_listener(CHANNEL, changes.heard)
                    yield changes
                finally:
                    changes.close()
                    await connection.invalidate()  # no other part of the store is to listen by chance

    # -- trouble -------------------------------------------------------------------------------------------------

    def is_trouble(self, error: BaseException) -> bool:
        """Whether the database is at fault, so that trying later may do; `False` where the data is."""
        if not isinstance(error, DBAPIError):
            return False
        code = _code(error)
        return error.connection_invalidated or (code[:2] in _TROUBLE if code else isinstance(error, OperationalError))

    def what_is_wrong(self, error: BaseException) -> str:
        """By PostgreSQL's own code."""
        return _told(error)[0] if isinstance(error, DBAPIError) else f"cannot be used: {error}"


class _Notified:
    """Waits for a notification; now and then looks all the same."""

    def __init__(self, closing: asyncio.Event, poll_seconds: float) -> None:
        self._closing = closing
        self._poll_seconds = poll_seconds
        self._changed = asyncio.Event()
        self._changed.set()
        self._lost = False
        self._ending = asyncio.create_task(self._end())

    def heard(self, *_: object) -> None:
        """Somebody changed something."""
        self._changed.set()

    def lost(self, *_: object) -> None:
        """The connection is gone."""
        self._lost = True
        self._changed.set()

    def close(self) -> None:
        """Nobody waits any more."""
        self._ending.cancel()

    async def wait(self) -> None:
        """Return when something may have changed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), self._poll_seconds)
        self._changed.clear()
        if self._lost and not self._closing.is_set():
            raise OperationalError(None, None, ConnectionResetError("the connection that listens was lost"))

    async def _end(self) -> None:
        await self._closing.wait()
        self._changed.set()


def _url_in(url: str) -> URL:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(
            "the address of a store cannot be read: write postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if parts.drivername not in {"postgresql", "postgres", "postgresql+asyncpg"} or not parts.database:
        raise StoreError("the address names no database: write postgresql://USER:PASSWORD@HOST/DATABASE")
    return parts.set(drivername="postgresql+asyncpg")


@contextmanager
def _as_database_errors() -> Generator[None, None, None]:
    """What the driver raises outside of SQLAlchemy, as SQLAlchemy would: an address where nobody listens, say."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OperationalError(None, None, error) from error


def _code(error: DBAPIError) -> str:
    orig = error.orig
    code = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)
    return code if isinstance(code, str) else ""


def _told(error: DBAPIError) -> tuple[str, str]:
    """What is wrong, and what to do where it keeps a store from being opened."""
    code = _code(error)
    if code in _WORDS:
        return _WORDS[code]
    if isinstance(error.orig, OSError | TimeoutError) or code[:2] in {"08", "57"} or error.connection_invalidated:
        return _UNREACHABLE
    return f"cannot be used: {str(error.orig).rpartition('>: ')[2]}", "look at its log"
