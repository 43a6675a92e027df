"""A start while the stores are away: from a copy of the catalog that was served last, until they are back."""

import sqlite3

import anyio
import pytest

from standby.runner import open_gateway
from standby.store import Cool, Disable, Failed, InvalidConfig, StoreError, read
from standby.store._last_good import LastGood
from standby.store.sql import open_sql
from standby.store.valkey import ValkeyState
from tests.store.test_sql_catalog import called_in, document

pytestmark = pytest.mark.anyio

HERE = "candidate:chat/primary"
PATIENCE_SECONDS = 60
TEXT = """
version: 1
store: {{url: "{url}"}}
"""
MODELS = """
providers: {{a: {{client: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${{SOME_KEY}}"}}}}
models: {{{model}: {{candidates: [{{id: primary, provider: a, model: m}}]}}}}
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def some_key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sesame")


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "copy.yaml"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gateway.yaml"


def write(path, url, model=""):
    """A document with a model, or without any."""
    path.write_text(TEXT.format(url=url) + (MODELS.format(model=model) if model else ""))
    return path


async def stored(url, path, model):
    """Somebody imports."""
    async with open_sql(url) as store:
        return (
            await store.catalog.replace(read(write(path.with_name("other.yaml"), url, model)), "other.yaml")
        ).version


def served(gateway):
    snapshot = gateway.runner.catalog.snapshot()
    return snapshot.version, list(snapshot.models)


def parts_in_trouble(gateway):
    return [trouble.part for trouble in gateway.runner.troubles()]


# -- the copy


def test_a_copy_is_a_document_and_knows_its_version(copy):
    """It is read by others as any document is; nobody else may read it."""
    LastGood(copy).keep(7, document(), "standby.db")
    assert read(copy) == document()
    assert copy.read_text().startswith("# Version 7 of the catalog in standby.db, as it was last served.\n")
    assert LastGood(copy).read() == (7, document())
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]


def test_a_copy_that_was_edited(copy):
    """Its version is no version of the database's then."""
    LastGood(copy).keep(7, document(), "standby.db")
    copy.write_text(copy.read_text().partition("\n")[2])
    assert LastGood(copy).read() == (0, document())


def test_no_copy(copy):
    """There need not be one."""
    assert LastGood(copy).read() is None


def test_no_secret_gets_into_a_copy(copy, caplog):
    """There is none then, and not an older one either; the log says what to do, without the secret."""
    LastGood(copy).keep(1, document(), "standby.db")
    LastGood(copy).keep(2, document(key="sk-verysecret"), "standby.db")
    assert not copy.exists()
    assert "better name what is secret, as ${NAME}, in providers.openai.api_key" in caplog.text
    assert "verysecret" not in caplog.text


def test_a_copy_that_cannot_be_written(tmp_path, caplog):
    """The log says so; nobody is disturbed."""
    LastGood(tmp_path / "none" / "copy.yaml").keep(1, document(), "standby.db")
    assert "cannot be written: No such file or directory" in caplog.text


async def test_every_version_that_is_served_is_copied(path, copy, tmp_path):
    """Whoever made it, with its variables and not with what they stand for."""
    url = f"sqlite:///{tmp_path}/standby.db"
    async with open_gateway(write(path, url, "first"), last_good=copy):
        with anyio.fail_after(PATIENCE_SECONDS):
            while not copy.exists():  # noqa: ASYNC110 - another task writes it
                await anyio.sleep(0.01)
            assert LastGood(copy).read()[0] == 1
            await stored(url, path, "second")
            while LastGood(copy).read()[0] == 1:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
    version, copied = LastGood(copy).read()
    assert (version, list(copied["models"])) == (2, ["second"])
    assert copied["providers"]["a"]["api_key"] == "${SOME_KEY}"


# -- the database of the catalog


async def test_a_start_from_the_copy(path, copy, postgres_door, caplog):
    """It serves; what happens meanwhile is written when the database is there, whose newest version is then served."""
    door, url = postgres_door
    await door.open()
    await stored(url, path, "first")
    async with open_gateway(write(path, url), last_good=copy):
        pass
    await stored(url, path, "second")
    await door.shut()
    async with open_gateway(path, last_good=copy) as gateway:
        assert served(gateway) == (1, ["first"])
        assert parts_in_trouble(gateway) == ["catalog", "state", "history"]
        assert f"version 1 of its catalog is served from {copy}" in caplog.text
        assert "secret-password" not in caplog.text
        await gateway.runner.state.apply([Disable(HERE, 10.0, "ann", "closed"), Failed("provider:a", 10.0)])
        gateway.runner.history.add({"run_id": "run_1"})
        assert gateway.runner.state.standing(HERE).disabled
        await door.open()
        with anyio.fail_after(PATIENCE_SECONDS):
            await gateway.runner.catalog.changed(1)
            while parts_in_trouble(gateway):  # noqa: ASYNC110 - other tasks leave it
                await anyio.sleep(0.01)
        assert served(gateway) == (2, ["second"])
    async with open_sql(url) as store:
        assert store.state.standing(HERE).disabled_by == "ann"
        assert await store.history.get("run_1") == {"run_id": "run_1"}
        assert "ann" in [line.who for line in await store.history.audit()]


async def test_a_start_on_memory_from_a_database_that_was_never_there(path, copy, postgres_door, eventually):
    """Its tables are made before anything is written into them: nothing that waited is given up."""
    door, url = postgres_door
    async with open_gateway(write(path, url, "mine"), last_good=copy) as gateway:
        assert served(gateway) == (0, ["mine"])
        gateway.runner.history.add({"run_id": "run_1"})
        await door.open()
        await eventually(lambda: not parts_in_trouble(gateway))
        assert served(gateway) == (1, ["mine"])
        assert [line.who for line in await gateway.runner.history.audit()] == ["file"]
        assert await gateway.runner.history.get("run_1") == {"run_id": "run_1"}
        assert gateway.runner.history.dropped == 0


async def test_a_document_that_says_what_the_copy_says(path, copy, postgres_door, eventually):
    """Its version is known, and stays."""
    door, url = postgres_door
    await door.open()
    async with open_gateway(write(path, url, "mine"), last_good=copy):
        pass
    await door.shut()
    async with open_gateway(path, last_good=copy) as gateway:
        assert served(gateway) == (1, ["mine"])
        await door.open()
        await eventually(lambda: not parts_in_trouble(gateway))
        assert served(gateway) == (1, ["mine"])


async def test_nothing_to_start_from(path, copy, postgres_door):
    """Neither models nor a copy: it is said, without the password."""
    _, url = postgres_door
    with pytest.raises(StoreError) as caught:
        async with open_gateway(write(path, url), last_good=copy):
            pass
    assert "cannot be reached: start it, or correct the address; there is no copy of its catalog" in str(caught.value)
    assert "secret-password" not in str(caught.value)


async def test_a_copy_that_is_wrong(path, copy, postgres_door):
    """All that is wrong with it is said, by its name."""
    copy.write_text("version: 1\nmodels: {chat: {candidates: 5}}\n")
    with pytest.raises(InvalidConfig, match=r"copy\.yaml: 1 error\n  models\.chat\.candidates: must be a list"):
        async with open_gateway(write(path, postgres_door[1]), last_good=copy):
            pass


async def test_what_only_an_operator_can_mend_is_an_error_all_the_same(path, copy, postgres_url):
    """A database that does not exist will not come back by itself."""
    LastGood(copy).keep(1, read(write(path, "memory:", "first")), "standby.db")
    with pytest.raises(StoreError, match="does not exist: make the database, or correct its name"):
        async with open_gateway(write(path, postgres_url.replace("/standby_", "/nothing_")), last_good=copy):
            pass


async def test_without_a_copy_to_be_kept_a_start_fails(path, copy, postgres_door):
    """As it did: whoever did not ask for it, does not serve what may be old."""
    LastGood(copy).keep(1, read(write(path, "memory:", "first")), "standby.db")
    with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(StoreError, match="start it, or correct the address"):
        async with open_gateway(write(path, postgres_door[1], "mine")):
            pass


async def test_a_database_that_comes_back_with_another_catalog(path, copy, tmp_path, eventually):
    """Its own counts, though the copy's version is a higher one."""
    url = f"sqlite:///{tmp_path}/standby.db"
    await stored(url, path, "restored")
    LastGood(copy).keep(9, read(write(path, url, "first")), url)
    holder = sqlite3.connect(tmp_path / "standby.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    async with open_sql(url, required=False, last_good=copy, open_wait_seconds=0.0, busy_timeout_seconds=0.02) as store:
        assert (store.catalog.snapshot().version, list(store.catalog.snapshot().models)) == (9, ["first"])
        assert store.catalog.trouble.endswith("is locked by another process: end what holds it, or name another file")
        holder.close()
        await eventually(lambda: store.catalog.snapshot().version == 1)
        assert list(store.catalog.snapshot().models) == ["restored"]
        await eventually(lambda: store.catalog.trouble is None)


async def test_a_database_that_comes_back_empty(copy, tmp_path, eventually):
    """The copy goes on, and the trouble is told."""
    url = f"sqlite:///{tmp_path}/standby.db"
    LastGood(copy).keep(9, document(key="${SOME_KEY}"), url)
    holder = sqlite3.connect(tmp_path / "standby.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    async with open_sql(url, required=False, last_good=copy, open_wait_seconds=0.0, busy_timeout_seconds=0.02) as store:
        holder.close()
        await eventually(lambda: (store.catalog.trouble or "").endswith("goes on being served"))
        assert called_in(store.catalog.snapshot()) == "gpt-4o"
    assert LastGood(copy).read()[0] == 9


async def test_a_start_that_ends_before_the_database_is_there(copy, tmp_path, caplog):
    """What could not be written is told."""
    url = f"sqlite:///{tmp_path}/standby.db"
    holder = sqlite3.connect(tmp_path / "standby.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    async with open_sql(url, required=False, last_good=copy, open_wait_seconds=0.0, busy_timeout_seconds=0.02) as store:
        store.history.add({"run_id": "run_1"})
    holder.close()
    assert "closed with 1 changes of its history unwritten" in caplog.text


async def test_nothing_that_could_be_away(path, copy):
    """In memory the option would mean nothing: it is refused."""
    with pytest.raises(InvalidConfig, match="all is kept in memory, so no store can be away at the start"):
        async with open_gateway(write(path, "memory:", "mine"), last_good=copy):
            pass


# -- the server of the state


async def test_a_state_that_is_away_at_the_start(path, copy, valkey_door, valkey_url, eventually, caplog):
    """It starts on memory; what others told the server holds when it is there, and it is told what was learned here."""
    door, url = valkey_door
    async with ValkeyState(valkey_url) as other:
        await other.apply([Cool(HERE, 10.0, 90.0, 1, "longer"), Disable("provider:b", 10.0, "bob", "closed")])
        write(path, "memory:", "chat")
        path.write_text(path.read_text().replace('"memory:"}', f'"memory:", state_url: "{url}"}}'))
        async with open_gateway(path, last_good=copy) as gateway:
            state = gateway.runner.state
            assert parts_in_trouble(gateway) == ["state"]
            await state.apply([Cool(HERE, 20.0, 70.0, 1, "shorter"), Disable("provider:a", 20.0, "ann", "closed")])
            assert state.standing(HERE).cooling_until == 70.0
            await door.open()
            await eventually(lambda: not parts_in_trouble(gateway))
            await eventually(lambda: other.standing("provider:a") is not None)
            assert other.standing(HERE).cooling_until == state.standing(HERE).cooling_until == 90.0
            assert (state.standing("provider:b").disabled_by, other.standing("provider:a").disabled_by) == (
                "bob",
                "ann",
            )


async def test_a_state_whose_clock_is_another(valkey_door, valkey_url, eventually):
    """What was learned before the server was there is put into its time like all the rest."""
    door, url = valkey_door
    async with ValkeyState(valkey_url) as other:
        async with ValkeyState(url, required=False, clock=lambda: other._clock() + 3600) as ahead:
            now = other._clock()
            await ahead.apply([Cool(HERE, now + 3600, now + 3660, 1, "test")])
            await door.open()
            await eventually(lambda: other.standing(HERE) is not None)
        assert other.standing(HERE).cooling_until == pytest.approx(now + 60, abs=30)


async def test_a_state_that_is_required(path, valkey_door):
    """Without the option its absence is an error, with what to do."""
    write(path, "memory:", "chat")
    path.write_text(path.read_text().replace('"memory:"}', f'"memory:", state_url: "{valkey_door[1]}"}}'))
    with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(StoreError, match=r"start it, or correct store\.state_url"):
        async with open_gateway(path):
            pass
