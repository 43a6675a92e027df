"""The catalog in a database: versions, secrets, and what other processes store."""

from __future__ import annotations

import logging
import sqlite3

import anyio
import pytest

from standby.store import InvalidConfig, StoreError
from standby.store.sql import open_sql

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "standby.db"


@pytest.fixture
async def store(anyio_backend, path):
    async with open_sql(f"sqlite:///{path}", poll_seconds=0.02, environ={"KEY": "sesame", "OTHER": "x"}) as store:
        yield store


@pytest.fixture
async def other(anyio_backend, store, path):
    """Another process's store on the same file, with another environment."""
    async with open_sql(f"sqlite:///{path}", poll_seconds=0.02, environ={"KEY": "other-sesame"}) as other:
        yield other


def document(called: str = "gpt-4o", key: str = "${KEY}", **sections):
    return {
        "version": 1,
        "providers": {"openai": {"client": "openai", "api_key": key}},
        "models": {"chat": {"candidates": [{"id": "primary", "provider": "openai", "model": called}]}},
        **sections,
    }


def called_in(snapshot) -> str:
    return snapshot.models["chat"].candidates[0].model


def in_file(path, query: str):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_what_is_stored_already_makes_no_version(store):
    """Reading the same file again, as every start does, is no change."""
    first = await store.catalog.replace(document(), "gateway.yaml")
    assert await store.catalog.replace(document(), "gateway.yaml") is first
    assert first.version == 1


async def test_a_restart_serves_what_was_stored(store, path):
    """With the version it had."""
    await store.catalog.replace(document("gpt-4.1"), "gateway.yaml")
    async with open_sql(f"sqlite:///{path}", environ={"KEY": "sesame"}) as later:
        assert later.catalog.snapshot().version == 1
        assert called_in(later.catalog.snapshot()) == "gpt-4.1"


async def test_a_version_of_another_process_is_served(store, other):
    """Soon, and to whoever waits for it."""
    await store.catalog.replace(document("gpt-4.1"), "gateway.yaml")
    with anyio.fail_after(20):
        assert called_in(await other.catalog.changed(0)) == "gpt-4.1"


async def test_a_secret_of_the_environment_never_enters_the_file(store, other, path):
    """The file holds the name; every process fills in what it stands for."""
    await store.catalog.replace(document(), "gateway.yaml")
    with anyio.fail_after(20):
        seen = await other.catalog.changed(0)
    assert store.catalog.snapshot().providers["openai"].api_key.get_secret_value() == "sesame"
    assert seen.providers["openai"].api_key.get_secret_value() == "other-sesame"
    files = [file.read_bytes() for file in path.parent.iterdir()]
    assert any(b"${KEY}" in content for content in files)
    assert not any(b"sesame" in content for content in files)


async def test_a_secret_that_is_written_out_is_warned_of(store, caplog):
    """By its place, without its value."""
    await store.catalog.replace(document(key="sk-verysecret"), "gateway.yaml")
    assert "providers.openai.api_key is kept in" in caplog.text
    assert "verysecret" not in caplog.text


async def test_the_sections_of_each_process_are_not_stored(store):
    """Where it listens and who may call it is not the catalog's."""
    await store.catalog.replace(document(server={"port": 8080}, store={"url": "memory:"}), "gateway.yaml")
    assert set(await store.catalog.document()) == {"version", "providers", "models"}


async def test_the_document_comes_out_as_it_went_in(store):
    """With its variables, so that it can be exported and stored again."""
    written = document(runner_policies={"default": {"status": "active", "scopes": {"rate_limit": "provider"}}})
    await store.catalog.replace(written, "gateway.yaml")
    assert await store.catalog.document() == written


async def test_an_old_version_can_be_looked_up(store):
    """The rule that a record names leads to the row it was written in."""
    await store.catalog.replace(document("gpt-4o", runner_policies={"mine": {}}), "gateway.yaml")
    await store.catalog.replace(document("gpt-4.1"), "gateway.yaml")
    assert await store.catalog.document(1) == document("gpt-4o", runner_policies={"mine": {}})
    assert await store.catalog.document(2) == document("gpt-4.1")


async def test_only_what_changed_gets_a_row(store, path):
    """In the table that decisions name as their source."""
    await store.catalog.replace(document(runner_policies={"a": {}, "b": {}}), "gateway.yaml")
    await store.catalog.replace(document(runner_policies={"a": {"status": "off"}}), "gateway.yaml")
    rows = in_file(path, "SELECT name, version, document FROM gateway_runner_policies ORDER BY version, name")
    assert rows == [("a", 1, "{}"), ("b", 1, "{}"), ("a", 2, '{"status":"off"}'), ("b", 2, None)]


async def test_an_invalid_document_is_refused(store):
    """With everything that is wrong with it; the old version keeps serving."""
    await store.catalog.replace(document(), "gateway.yaml")
    broken = document()
    broken["models"]["chat"]["candidates"][0] |= {"provider": "nobody", "weight": -1}
    with pytest.raises(ValueError, match=r"candidates\[0\].provider") as caught:
        await store.catalog.replace(broken, "gateway.yaml")
    assert "weight" in str(caught.value)
    assert store.catalog.snapshot().version == 1
    assert (await store.catalog.document()) == document()


async def test_what_is_invalid_here_is_refused_here(store, other, eventually, caplog):
    """A variable that this process has not: it says so, serves the old version, and takes the next that it can use."""
    await store.catalog.replace(document("one"), "gateway.yaml")
    with anyio.fail_after(20):
        await other.catalog.changed(0)
    await store.catalog.replace(document("two", key="${OTHER}"), "gateway.yaml")
    await eventually(lambda: other.catalog.trouble)
    assert "version 2 of the catalog is refused" in other.catalog.trouble
    assert "OTHER" in other.catalog.trouble
    assert called_in(other.catalog.snapshot()) == "one"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    await store.catalog.replace(document("three"), "gateway.yaml")
    with anyio.fail_after(20):
        assert called_in(await other.catalog.changed(1)) == "three"
    assert other.catalog.trouble is None


async def test_a_start_goes_back_to_a_version_that_is_valid(store, path):
    """As the processes do that were there before."""
    await store.catalog.replace(document("one"), "gateway.yaml")
    await store.catalog.replace(document("two", key="${OTHER}"), "gateway.yaml")
    async with open_sql(f"sqlite:///{path}", environ={"KEY": "sesame"}) as later:
        assert called_in(later.catalog.snapshot()) == "one"
        assert "version 2 of the catalog is refused" in later.catalog.trouble


async def test_a_row_that_somebody_broke_is_refused(store, path, eventually):
    """The file may be edited by hand; the old version keeps serving."""
    await store.catalog.replace(document("one"), "gateway.yaml")
    connection = sqlite3.connect(path)
    connection.executescript(
        "BEGIN IMMEDIATE; INSERT INTO catalog_versions VALUES (2, 0, 'hand');"
        "INSERT INTO models VALUES ('chat', 2, '[1, 2]'); COMMIT"
    )
    connection.close()
    await eventually(lambda: store.catalog.trouble)
    assert called_in(store.catalog.snapshot()) == "one"
    await store.catalog.replace(document("three"), "gateway.yaml")
    assert (store.catalog.snapshot().version, called_in(store.catalog.snapshot())) == (3, "three")
    assert store.catalog.trouble is None


async def test_a_reload_is_audited(store):
    """Who wanted it, the version, why, and where it came from."""
    await store.catalog.replace(document(), "gateway.yaml", by="ann", why="cheaper")
    (line,) = await store.history.audit()
    assert (line.who, line.what, line.target, line.why) == ("ann", "reload", "catalog:1", "cheaper (gateway.yaml)")


async def test_what_is_stored_already_is_not_audited(store):
    """Nothing was done."""
    await store.catalog.replace(document(), "gateway.yaml")
    await store.catalog.replace(document(), "gateway.yaml", by="ann")
    assert len(await store.history.audit()) == 1


async def test_a_version_that_takes_the_place_of_anothers_is_told(store, caplog):
    """By both names: two files that are imported in turn undo each other."""
    await store.catalog.replace(document("one"), "gateway.yaml")
    await store.catalog.replace(document("two"), "gateway.yaml")
    assert not caplog.messages
    await store.catalog.replace(document("three"), "other.yaml")
    (told,) = caplog.messages
    assert told.endswith(
        "version 3 of the catalog, from other.yaml, takes the place of version 2, which came from gateway.yaml"
    )


async def test_a_document_without_models_is_not_stored(store):
    """Else it would remove all that there is."""
    await store.catalog.replace(document(), "gateway.yaml")
    with pytest.raises(InvalidConfig, match="models: is required: there is nothing to store"):
        await store.catalog.replace({"version": 1, "store": {"url": "sqlite:///standby.db"}}, "empty.yaml")
    assert await store.catalog.document() == document()


async def test_an_empty_catalog_is_not_served(store):
    """It is told, with what to do."""
    with pytest.raises(StoreError, match=r"has no catalog yet: import a document that has models"):
        store.catalog.served()
    with pytest.raises(StoreError, match=r"has no catalog yet: import a document that has models"):
        await store.catalog.document()


async def test_a_version_that_was_never_there(store):
    """It is told, with those that are."""
    await store.catalog.replace(document(), "gateway.yaml")
    with pytest.raises(StoreError, match="holds no version 2 of the catalog: it has 1 to 1"):
        await store.catalog.document(2)


async def test_looking_now(store, path):
    """Who asks need not wait until it is looked at again."""
    async with open_sql(f"sqlite:///{path}", poll_seconds=3600, environ={"KEY": "sesame"}) as later:
        await store.catalog.replace(document("two"), "gateway.yaml")
        assert called_in(await later.catalog.look()) == "two"
        await store.catalog.replace(document("three", key="${OTHER}"), "gateway.yaml")
        with pytest.raises(StoreError, match="version 2 of the catalog is refused"):
            await later.catalog.look()
