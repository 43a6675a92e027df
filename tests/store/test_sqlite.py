"""The SQLite file itself: opening it, its form, and what is said where it cannot be used."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Pool, create_engine, event

import standby.store
from standby.store import Cool
from standby.store._sql_schema import REVISIONS, VERSION_TABLE
from standby.store._sql_tables import metadata
from standby.store.sql import StoreError, open_sql

pytestmark = pytest.mark.anyio

# What the first released version made of an empty file. Never to be edited.
FIRST_SCHEMA = """
CREATE TABLE standby_schema (version_num VARCHAR(32) NOT NULL, CONSTRAINT standby_schema_pkc PRIMARY KEY (version_num));
CREATE TABLE catalog_versions (
    version INTEGER NOT NULL, imported_at DOUBLE NOT NULL, origin TEXT NOT NULL, PRIMARY KEY (version));
CREATE TABLE providers (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE gateway_runner_policies (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE model_runtime_policy_sets (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE models (name TEXT NOT NULL, version INTEGER NOT NULL, document JSON,
    PRIMARY KEY (name, version), FOREIGN KEY(version) REFERENCES catalog_versions (version));
CREATE TABLE standings (
    domain TEXT NOT NULL, seq BIGINT NOT NULL, cooling_until DOUBLE NOT NULL, cooled_at DOUBLE NOT NULL,
    cooldowns_in_row INTEGER NOT NULL, cooled_for TEXT NOT NULL, failures_in_row INTEGER NOT NULL,
    disabled_at DOUBLE NOT NULL, disabled_by TEXT NOT NULL, disabled_why TEXT NOT NULL, demoted INTEGER NOT NULL,
    demoted_at DOUBLE NOT NULL, demoted_for TEXT NOT NULL, demote_step INTEGER NOT NULL,
    restore_seconds DOUBLE NOT NULL, probe_holder TEXT NOT NULL, probe_until DOUBLE NOT NULL, PRIMARY KEY (domain));
CREATE INDEX standings_by_seq ON standings (seq);
CREATE TABLE runs (seq INTEGER NOT NULL, run_id TEXT NOT NULL, model TEXT, started_at DOUBLE, outcome TEXT,
    record JSON NOT NULL, PRIMARY KEY (seq));
CREATE UNIQUE INDEX runs_by_run_id ON runs (run_id);
CREATE TABLE audit (id INTEGER NOT NULL, at DOUBLE NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    target TEXT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO standby_schema VALUES ('0001');
INSERT INTO catalog_versions VALUES (1, 1700000000.0, 'gateway.yaml');
INSERT INTO providers VALUES ('openai', 1, '{"client": "openai", "api_key": "${OPENAI_API_KEY:-none}"}');
INSERT INTO models VALUES ('chat', 1, '{"candidates": [{"id": "primary", "provider": "openai", "model": "gpt-4o"}]}');
INSERT INTO standings VALUES
    ('candidate:chat/primary', 7, 0.0, 0.0, 0, '', 0, 1700000000.0, 'ann', 'maintenance', 0, 0.0, '', 0, 0.0, '', 0.0);
INSERT INTO runs VALUES (1, 'run_1', 'chat', 1700000000.0, 'answered', '{"run_id": "run_1"}');
INSERT INTO audit VALUES (1, 1700000000.0, 'ann', 'disable', 'candidate:chat/primary', 'maintenance');
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "standby.db"


def run_sql(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


async def refusal(url: str, **options) -> str:
    with pytest.raises(StoreError) as caught:
        async with open_sql(url, **options):
            pass
    return str(caught.value)


# -- opening -----------------------------------------------------------------------------------------------------


async def test_a_missing_file_is_made(path):
    """For its owner's eyes only: it may hold keys."""
    async with open_sql(f"sqlite:///{path}") as store:
        assert store.catalog.snapshot().version == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_relative_path_is_in_the_working_folder(tmp_path, monkeypatch):
    """Three slashes are followed by the path."""
    monkeypatch.chdir(tmp_path)
    async with open_sql("sqlite:///standby.db"):
        assert (tmp_path / "standby.db").is_file()


async def test_the_file_is_in_wal_mode(path):
    """So that readers do not wait for the writer."""
    async with open_sql(f"sqlite:///{path}"):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


async def test_two_stores_may_have_one_file(path):
    """The catalog and the state of one process may be opened apart."""
    async with open_sql(f"sqlite:///{path}") as one, open_sql(f"sqlite:///{path}") as other:
        await one.state.apply([Cool("provider:openai", 10.0, 70.0, 1, "x")])
        with anyio.fail_after(20):
            while other.state.standing("provider:openai") is None:
                await other.state.changed(other.state.generation)


async def test_new_files_may_be_opened_at_once(tmp_path):
    """Making the tables of one does not disturb the making of another's."""

    async def open_one(number: int) -> None:
        async with open_sql(f"sqlite:///{tmp_path}/{number % 2}.db") as store:
            assert store.state.trouble is None

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(open_one, number)


# -- what cannot be opened -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x.db?uri=true", "sqlite://host/x.db", "nonsense"]
)
def test_a_url_that_names_no_file_is_refused(url):
    """With the form that is right."""
    with pytest.raises(StoreError, match="write sqlite:///PATH"):
        open_sql(url)


def test_another_database_is_refused():
    """By name: it is not supported."""
    with pytest.raises(StoreError, match="mysql is not supported here"):
        open_sql("mysql://user:secret@host/db")


async def test_a_folder_is_refused(tmp_path):
    """It says that it is one."""
    assert await refusal(f"sqlite:///{tmp_path}") == f"{tmp_path} is a folder: name a file"


async def test_a_missing_folder_is_refused(tmp_path):
    """It says which one to make, and makes nothing."""
    said = await refusal(f"sqlite:///{tmp_path}/missing/standby.db")
    assert said.endswith(f"the folder {tmp_path}/missing does not exist; make it first")
    assert not (tmp_path / "missing").exists()


async def test_a_file_that_is_not_sqlite_is_refused(path):
    """And left as it is."""
    path.write_text("version: 1\n" * 200)
    assert await refusal(f"sqlite:///{path}") == (
        f"{path} is not a SQLite database: name another file, or move this one away"
    )
    assert path.read_text() == "version: 1\n" * 200


async def test_a_database_of_another_program_is_refused(path):
    """And left as it is: not a table is made in it, nor its mode changed."""
    run_sql(path, "CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    assert "a database of another program (it holds the table bookmarks)" in await refusal(f"sqlite:///{path}")
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(path):
    """An older program does not write into what it does not understand."""
    run_sql(path, FIRST_SCHEMA + "UPDATE standby_schema SET version_num = '0999'")
    said = await refusal(f"sqlite:///{path}")
    assert said.startswith(f"{path} has schema 0999, newer than the schema")
    assert "upgrade Standby" in said


async def test_a_locked_file_is_refused(path):
    """After a bounded wait."""
    run_sql(path, FIRST_SCHEMA)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=WAL")
    holder.execute("BEGIN IMMEDIATE")
    said = await refusal(f"sqlite:///{path}", open_wait_seconds=0.1, busy_timeout_seconds=0.02)
    holder.close()
    assert said == f"{path} is locked by another process: end what holds it, or name another file"


async def test_a_file_that_is_locked_for_a_moment_is_waited_for(path):
    """Two processes may start at once."""
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    async with anyio.create_task_group() as tasks:

        async def release() -> None:
            await anyio.sleep(0.1)
            holder.close()

        tasks.start_soon(release)
        async with open_sql(f"sqlite:///{path}", busy_timeout_seconds=0.01) as store:
            assert store.state.trouble is None


@pytest.mark.parametrize("exists", [True, False])
async def test_a_read_only_file_is_refused(path, exists):
    """Even where its tables are as they must be: nothing could be kept."""
    if exists:
        run_sql(path, FIRST_SCHEMA + "PRAGMA journal_mode=WAL")

    def make_read_only(connection, _) -> None:
        connection.execute("PRAGMA query_only=ON").close()

    event.listen(Pool, "connect", make_read_only)
    try:
        said = await refusal(f"sqlite:///{path}")
    finally:
        event.remove(Pool, "connect", make_read_only)
    assert said == f"{path} is read-only: give this user the right to write it and its folder"


# -- its form ------------------------------------------------------------------------------------------------------


async def test_a_database_of_the_first_version_opens(path):
    """With everything in it."""
    run_sql(path, FIRST_SCHEMA)
    async with open_sql(f"sqlite:///{path}") as store:
        assert store.catalog.snapshot().version == 1
        assert store.catalog.snapshot().models["chat"].candidates[0].model == "gpt-4o"
        assert store.state.standing("candidate:chat/primary").disabled_by == "ann"
        assert await store.history.get("run_1") == {"run_id": "run_1"}
        assert [line.what for line in await store.history.audit()] == ["disable"]


async def test_migrations_lead_to_the_tables_in_use(path):
    """What the steps make of an empty file is what the program works with."""
    async with open_sql(f"sqlite:///{path}"):
        pass
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_migration_is_known_by_name():
    """The list that opening goes by is that of the steps that are there."""
    folder = Path(standby.store.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    steps = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(step.revision for step in steps)[::-1] == REVISIONS


# -- without the extra ---------------------------------------------------------------------------------------------


def test_the_store_package_does_not_import_sqlalchemy():
    """Whoever keeps everything in memory need not install it."""
    code = "import sys, standby.store; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_package_is_told_with_the_extra_that_brings_it():
    """Not with the traceback of somebody else's module."""
    code = (
        "import sys; sys.modules['aiosqlite'] = None\n"
        "try: import standby.store.sql\n"
        "except ImportError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told == "an SQL store needs aiosqlite: install standby[sql]\n"
