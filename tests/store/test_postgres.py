"""What is PostgreSQL's own: notifications, rows that somebody edits, a server that goes away and comes back."""

import time
from urllib.parse import urlsplit

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from standby.store import Cool, Disable, Failed, StoreError
from standby.store.sql import open_sql
from tests.store.test_catalog_contract import document

pytestmark = pytest.mark.anyio

HERE = "candidate:chat/primary"
AT_ONCE_SECONDS = 60
"""Far below what asking now and then would take."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def stores(postgres_url):
    """Two processes' worth of stores in one database, which never ask by themselves."""
    async with open_sql(postgres_url, poll_seconds=3600) as one, open_sql(postgres_url, poll_seconds=3600) as other:
        yield one, other


async def refusal(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        async with open_sql(url, open_wait_seconds=0.1):
            pass
    return str(caught.value)


async def test_a_version_that_one_stores_the_others_serve(stores):
    """They are told, and need not ask."""
    one, other = stores
    await one.catalog.replace(document(chat="gpt-4o"), "test")
    with anyio.fail_after(AT_ONCE_SECONDS):
        assert (await other.catalog.changed(0)).models.keys() == {"chat"}


async def test_a_row_that_somebody_edits_becomes_a_version(stores):
    """Every process serves it, under a number of its own, and the audit says who edited."""
    one, other = stores
    await one.catalog.replace(document(chat="gpt-4o"), "test")
    await other.catalog.changed(0)
    edit = """UPDATE models SET document = jsonb_set(document::jsonb, '{candidates,0,model}', '"edited"')::json"""
    async with one._database.engine.begin() as connection:
        await connection.execute(text(edit))
    with anyio.fail_after(AT_ONCE_SECONDS):
        for store in stores:
            snapshot = await store.catalog.changed(1)
            assert (snapshot.version, snapshot.models["chat"].candidates[0].model) == (2, "edited")
    last, _ = await other.history.audit()
    assert (last.who, last.what, last.target) == ("postgres", "reload", "catalog:2")
    assert last.why == "edited in the database: models"


async def test_a_row_that_is_edited_into_nonsense_is_refused(stores):
    """The version before it keeps serving, and the trouble is told."""
    one, other = stores
    await one.catalog.replace(document(chat="gpt-4o"), "test")
    await other.catalog.changed(0)
    async with one._database.engine.begin() as connection:
        await connection.execute(text("UPDATE models SET document = '{\"candidates\": []}'"))
    with anyio.fail_after(AT_ONCE_SECONDS):
        while other.catalog.trouble is None:  # noqa: ASYNC110 - it is set by another task
            await anyio.sleep(0.005)
    assert other.catalog.snapshot().version == 1
    assert "version 2 of the catalog is refused" in other.catalog.trouble


async def test_a_cooldown_that_one_sets_the_others_honour(stores):
    """They are told at once."""
    one, other = stores
    generation = other.state.generation
    await one.state.apply([Cool(HERE, 10.0, 70.0, 1, "test")])
    with anyio.fail_after(AT_ONCE_SECONDS):
        await other.state.changed(generation)
    assert other.state.standing(HERE).cooling_until == 70.0


async def test_one_probe_over_all_processes(stores):
    """The lease is taken in the database."""
    await stores[0].state.apply([Cool(HERE, 10.0, 20.0, 1, "test")])
    granted = []

    async def lease(store, holder):
        granted.append(await store.state.lease_probe([HERE], holder, 30.0, 90.0))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(lease, stores[number % 2], f"run_{number}")
    assert granted.count(True) == 1


async def test_a_server_that_restarts_is_used_again(postgres, stores, eventually):
    """What happened meanwhile is known here at once, written when it is back, and learned by the others."""
    one, other = stores
    await one.state.apply([Cool(HERE, 10.0, 70.0, 1, "test")])
    postgres._stop()
    try:
        began = time.monotonic()
        await one.state.apply([Disable(HERE, 11.0, "ann", "while it was down"), Failed(HERE, 11.0)])
        one.history.add({"run_id": "run_1", "model": "chat"})
        assert one.state.standing(HERE).disabled
        await eventually(lambda: one.state.trouble is not None)
        assert time.monotonic() - began < AT_ONCE_SECONDS
    finally:
        postgres.ensure_postgres_running()
    await eventually(lambda: (other.state.standing(HERE) or one.state.standing("none")) is not None)
    await eventually(lambda: other.state.standing(HERE).disabled and one.state.trouble is None)
    await eventually(lambda: not list(one.history.writer))
    assert (await other.history.get("run_1"))["model"] == "chat"
    assert other.state.standing(HERE).cooling_until == 70.0


async def test_a_server_that_is_not_there():
    """It says so, without the password."""
    said = await refusal("postgresql://standby:secret-password@127.0.0.1:1/standby")
    assert said == ("postgresql://standby:***@127.0.0.1:1/standby cannot be reached: start it, or correct the address")


async def test_a_database_that_is_not_there(postgres_url):
    """It says what to make."""
    said = await refusal(postgres_url.replace("/standby_", "/nothing_"))
    assert said.endswith("does not exist: make the database, or correct its name")


async def test_another_programs_database_is_refused(postgres, postgres_url):
    """And left as it is."""
    postgres.psql("CREATE DATABASE of_another_program")
    url = urlsplit(postgres_url)._replace(path="/of_another_program").geturl()
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE invoices (id integer)"))
    await engine.dispose()
    assert "is a database of another program (it holds the table invoices)" in await refusal(url)


@pytest.mark.parametrize("url", ["postgresql://host", "postgresql://"])
async def test_an_address_that_names_no_database(url):
    """The message says what one looks like, and repeats nothing of it."""
    assert (await refusal(url)).endswith("write postgresql://USER:PASSWORD@HOST/DATABASE")
