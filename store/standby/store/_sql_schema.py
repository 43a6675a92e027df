"""The form of the tables: which one a database has, and bringing it to the newest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import Final

from sqlalchemy import Connection, inspect, text

from ._errors import StoreError

VERSION_TABLE: Final = "standby_schema"
"""Ours alone, so that a database may be shared with another program that uses alembic."""

REVISIONS: Final = ("0001", "0002", "0003")
"""The steps in `migrations`, oldest first; written here so that opening an up-to-date store need not import alembic."""

NEWEST: Final = REVISIONS[-1]


def revision_of(connection: Connection, name: str) -> str | None:
    """The form of the database ``name``; `None` where it is empty.

    Raises:
        StoreError: It is newer than this program, or another program's.
    """
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        revision = str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one())  # noqa: S608
        if revision not in REVISIONS:
            raise StoreError(
                f"{name} has schema {revision}, newer than the schema {NEWEST} that this version of Standby knows: "
                "upgrade Standby, or name another database"
            )
        return revision
    if tables:
        raise StoreError(
            f"{name} is a database of another program (it holds the table {min(tables)}): name another one"
        )
    return None


def upgrade(connection: Connection) -> None:
    """Bring the database to the newest form, inside the transaction that ``connection`` is in."""
    from alembic import command  # noqa: PLC0415 - slow to import, and needed once in a store's life
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    # A percent sign would be read as the start of an interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


_migrating = Lock()


@asynccontextmanager
async def one_migration() -> AsyncGenerator[None, None]:
    """Wait for the right to call `upgrade`, which keeps its context in module globals of alembic."""
    # A lock of threads, since event loops of other threads migrate too; and polled, since this thread must not block.
    while not _migrating.acquire(blocking=False):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _migrating.release()
