"""A configuration file that is edited becomes the next version, and nobody need tell the server."""

import logging
import sqlite3

import anyio
import pytest

from standby.proxy import _follow
from standby.proxy._follow import _identity as identity
from standby.proxy._follow import follow
from standby.runner import open_gateway
from standby.store import read

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30
TEXT = """
version: 1
providers: {{a: {{client: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{{model}: {{candidates: [{{id: primary, provider: a, model: m}}]}}}}
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT.format(model="first"))
    return path


@pytest.fixture
async def gateway(path):
    """A gateway whose file is followed."""
    async with open_gateway(path) as opened, anyio.create_task_group() as tasks:

        async def reload() -> int:
            return await opened.reload(read(path))

        with anyio.fail_after(PATIENCE_SECONDS):
            tasks.start_soon(follow, path, reload, read(path))
            yield opened
        tasks.cancel_scope.cancel()


def put_in_place(path, text):
    other = path.with_suffix(".new")
    other.write_text(text)
    other.rename(path)


def models(gateway):
    return list(gateway.runner.catalog.snapshot().models)


async def test_an_edited_file_is_the_next_version(gateway, path):
    """It is served as soon as it is written."""
    path.write_text(TEXT.format(model="second"))
    await gateway.runner.catalog.changed(1)
    assert models(gateway) == ["second"]


async def test_a_file_that_is_put_in_its_place_is_the_next_version(gateway, path):
    """Editors write another file and rename it."""
    put_in_place(path, TEXT.format(model="second"))
    await gateway.runner.catalog.changed(1)
    assert models(gateway) == ["second"]


async def test_what_is_read_at_the_start_only_is_said_to_wait(gateway, path, caplog):
    """Whoever takes a caller's key away is told that it is not gone yet."""
    with caplog.at_level(logging.WARNING, "standby.proxy"):
        path.write_text(TEXT.format(model="first") + "server: {maxBodyBytes: 1000}\n")
        while not caplog.messages:  # noqa: ASYNC110 - the log tells
            await anyio.sleep(0.01)
    assert caplog.messages == [f"{path}: what was changed of server holds from the next start on"]


async def test_an_invalid_file_is_refused_and_the_old_version_goes_on(gateway, path, caplog):
    """All that is wrong with it is in the log; when it is right again it is taken."""
    path.write_text(TEXT.format(model="second").replace("provider: a", "provider: b"))
    with caplog.at_level(logging.ERROR, "standby.proxy"):
        while not caplog.messages:  # noqa: ASYNC110 - the log tells
            await anyio.sleep(0.01)
    assert "is not taken: the old version goes on" in caplog.text
    assert "models.second.candidates[0].provider" in caplog.text
    assert models(gateway) == ["first"]
    path.write_text(TEXT.format(model="third"))
    await gateway.runner.catalog.changed(1)
    assert models(gateway) == ["third"]


async def test_what_says_the_same_makes_no_version(gateway, path):
    """Another file in the folder, a comment, a file that is gone for a moment."""
    path.with_name("notes.txt").write_text("x")
    path.write_text(TEXT.format(model="first") + "# a comment\n")
    path.unlink()
    path.write_text(TEXT.format(model="first"))
    path.write_text(TEXT.format(model="last"))
    snapshot = await gateway.runner.catalog.changed(1)
    assert (snapshot.version, models(gateway)) == (2, ["last"])


async def test_what_was_edited_before_it_was_followed_is_taken(path):
    """Between the start, when it was read, and now it may have become another one."""
    async with open_gateway(path) as opened, anyio.create_task_group() as tasks:

        async def reload() -> int:
            return await opened.reload(read(path))

        taken = read(path)
        path.write_text(TEXT.format(model="second"))
        tasks.start_soon(follow, path, reload, taken)
        with anyio.fail_after(PATIENCE_SECONDS):
            await opened.runner.catalog.changed(1)
        assert models(opened) == ["second"]
        tasks.cancel_scope.cancel()


async def test_what_happens_in_the_folder_is_no_reason_to_read_the_file(gateway, path, monkeypatch):
    """A store's file may be there, and be written all the time."""
    looked, reads = [], []
    monkeypatch.setattr(_follow, "_identity", lambda path: looked.append(1) or identity(path))
    monkeypatch.setattr(_follow, "read", lambda path: reads.append(1) or read(path))
    while len(looked) < 5:
        path.with_name("standby.db").write_text(str(len(looked)))
        await anyio.sleep(0.01)
    assert len(reads) <= 1
    assert models(gateway) == ["first"]


async def test_a_store_that_is_away_takes_the_file_when_it_is_back(path, tmp_path, caplog):
    """Nobody need write the file again; that it is not taken yet is said once."""
    store = f'store: {{{{url: "sqlite:///{tmp_path}/standby.db"}}}}'
    path.write_text((TEXT + store).format(model="first"))
    async with open_gateway(path) as gateway, anyio.create_task_group() as tasks:

        async def reload() -> int:
            return await gateway.reload(read(path))

        with anyio.fail_after(PATIENCE_SECONDS):
            tasks.start_soon(follow, path, reload)
            await anyio.sleep(0.3)  # until the folder is watched, which nothing tells
            holder = sqlite3.connect(tmp_path / "standby.db", isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            path.write_text((TEXT + store).format(model="second"))
            while "is not taken yet: the old version goes on" not in caplog.text:  # noqa: ASYNC110 - the log tells
                await anyio.sleep(0.01)
            assert models(gateway) == ["first"]
            holder.close()
            await gateway.runner.catalog.changed(1)
            assert models(gateway) == ["second"]
        tasks.cancel_scope.cancel()
    assert caplog.text.count("is not taken yet") == 1
