"""What is PostgreSQL's own: notifications, rows that somebody edits, a server that goes away and comes back."""

import time
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from standby.store import Cool, Disable, Failed, StoreError
from standby.store._sql_schema import VERSION_TABLE
from standby.store._sql_tables import metadata
from standby.store.sql import open_sql
from tests.conftest import start_again
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
        start_again(postgres)
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


# -- its form


# What the first step makes of an empty database, with something in it. Never to be edited.
FIRST_SCHEMA = """
CREATE TABLE standby_schema (version_num VARCHAR(32) NOT NULL, CONSTRAINT standby_schema_pkc PRIMARY KEY (version_num));
CREATE TABLE catalog_versions (
    version INTEGER NOT NULL, imported_at DOUBLE PRECISION NOT NULL, origin TEXT NOT NULL, PRIMARY KEY (version));
CREATE TABLE providers (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE gateway_runner_policies (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE model_runtime_policy_sets (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE models (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE standings (
    domain TEXT NOT NULL, seq BIGINT NOT NULL, cooling_until DOUBLE PRECISION NOT NULL,
    cooled_at DOUBLE PRECISION NOT NULL, cooldowns_in_row INTEGER NOT NULL, cooled_for TEXT NOT NULL,
    failures_in_row INTEGER NOT NULL, disabled_at DOUBLE PRECISION NOT NULL, disabled_by TEXT NOT NULL,
    disabled_why TEXT NOT NULL, demoted INTEGER NOT NULL, demoted_at DOUBLE PRECISION NOT NULL,
    demoted_for TEXT NOT NULL, demote_step INTEGER NOT NULL, restore_seconds DOUBLE PRECISION NOT NULL,
    probe_holder TEXT NOT NULL, probe_until DOUBLE PRECISION NOT NULL, PRIMARY KEY (domain));
CREATE INDEX standings_by_seq ON standings (seq);
CREATE TABLE runs (seq BIGSERIAL NOT NULL, run_id TEXT NOT NULL, model TEXT, started_at DOUBLE PRECISION,
    outcome TEXT, record JSON NOT NULL, PRIMARY KEY (seq));
CREATE UNIQUE INDEX runs_by_run_id ON runs (run_id);
CREATE TABLE audit (id BIGSERIAL NOT NULL, at DOUBLE PRECISION NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    target TEXT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO standby_schema VALUES ('0001');
INSERT INTO catalog_versions VALUES (1, 1700000000.0, 'gateway.yaml');
INSERT INTO providers VALUES ('openai', 1, '{"client": "openai", "api_key": "${OPENAI_API_KEY:-none}"}');
INSERT INTO models VALUES ('chat', 1, '{"candidates": [{"id": "primary", "provider": "openai", "model": "gpt-4o"}]}');
INSERT INTO standings VALUES
    ('candidate:chat/primary', 7, 0.0, 0.0, 0, '', 0, 1700000000.0, 'ann', 'maintenance', 0, 0.0, '', 0, 0.0, '', 0.0);
INSERT INTO runs (run_id, model, started_at, outcome, record)
    VALUES ('run_1', 'chat', 1700000000.0, 'answered', '{"run_id": "run_1"}');
INSERT INTO audit (at, who, what, target, why)
    VALUES (1700000000.0, 'ann', 'disable', 'candidate:chat/primary', 'maintenance');
"""


@pytest.fixture
async def first_url(postgres, postgres_url):
    """A database as it was at first."""
    postgres.psql("DROP DATABASE IF EXISTS standby_first")
    postgres.psql("CREATE DATABASE standby_first")
    url = urlsplit(postgres_url)._replace(path="/standby_first").geturl()
    connection = await asyncpg.connect(url)
    await connection.execute(FIRST_SCHEMA)
    await connection.close()
    return url


async def test_a_database_of_the_first_form_opens(first_url):
    """With everything in it; and it notifies, and makes versions of rows that are edited, as a new one does."""
    async with open_sql(first_url, poll_seconds=3600) as store, open_sql(first_url, poll_seconds=3600) as other:
        assert store.catalog.snapshot().version == 1
        assert store.state.standing(HERE).disabled_by == "ann"
        assert await store.history.get("run_1") == {"run_id": "run_1"}
        assert [line.what for line in await store.history.audit()] == ["disable"]
        async with store._database.engine.begin() as connection:
            await connection.execute(text("UPDATE models SET document = document"))
        with anyio.fail_after(AT_ONCE_SECONDS):
            assert (await other.catalog.changed(1)).version == 2


async def test_migrations_lead_to_the_tables_in_use(first_url):
    """What the steps make of the first form is what the program works with."""
    async with open_sql(first_url) as store, store._database.engine.connect() as connection:

        def differences(synchronous):
            options = {"version_table": VERSION_TABLE, "compare_type": True}
            return compare_metadata(MigrationContext.configure(synchronous, opts=options), metadata)

        assert await connection.run_sync(differences) == []


async def test_a_newer_schema_is_refused(first_url):
    """An older program does not write into what it does not understand."""
    connection = await asyncpg.connect(first_url)
    await connection.execute("UPDATE standby_schema SET version_num = '0999'")
    await connection.close()
    said = await refusal(first_url)
    assert "has schema 0999, newer than the schema" in said
    assert "upgrade Standby" in said
