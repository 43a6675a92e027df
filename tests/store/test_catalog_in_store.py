"""A document without models: the catalog is the store's, whoever changes it there, and nothing here makes a version."""

import anyio
import pytest

from standby.runner import open_gateway
from standby.store import InvalidConfig, StoreError, read
from standby.store.sql import open_sql

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30
WITHOUT = """
version: 1
store: {{url: "{url}"}}
"""
WITH = (
    WITHOUT
    + """
providers: {{a: {{client: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{{model}: {{candidates: [{{id: primary, provider: a, model: m}}]}}}}
"""
)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/standby.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def path(tmp_path, url):
    """A document without models."""
    path = tmp_path / "gateway.yaml"
    path.write_text(WITHOUT.format(url=url))
    return path


def write(path, text, **words):
    path.write_text(text.format(**words))
    return read(path)


@pytest.fixture
async def imported(path, url):
    """Somebody has imported the model `first`; what is given imports another."""

    async def of(model):
        other = write(path.with_name("other.yaml"), WITH, url=url, model=model)
        async with open_sql(url) as store:
            return (await store.catalog.replace(other, "other.yaml", by="import")).version

    assert await of("first") == 1
    return of


def served(gateway):
    snapshot = gateway.runner.catalog.snapshot()
    return snapshot.version, list(snapshot.models)


async def test_the_newest_version_is_served(path, imported):
    """Nothing is written: neither a version nor a line of the audit."""
    await imported("second")
    async with open_gateway(path) as gateway:
        assert served(gateway) == (2, ["second"])
        assert [line.who for line in await gateway.runner.history.audit()] == ["import", "import"]


async def test_what_others_import_is_served(path, imported):
    """As soon as it is stored."""
    async with open_gateway(path) as gateway:
        await imported("second")
        with anyio.fail_after(PATIENCE_SECONDS):
            await gateway.runner.catalog.changed(1)
        assert served(gateway) == (2, ["second"])


async def test_a_store_without_a_catalog(path):
    """Nobody could be answered: it is said what to do."""
    with pytest.raises(StoreError, match="has no catalog yet: import a document that has models"):
        async with open_gateway(path):
            pass


async def test_a_reload_looks_into_the_store(path, imported):
    """And makes no version, whatever else was edited in the file."""
    async with open_gateway(path) as gateway:
        await imported("second")
        edited = {**read(path), "server": {"port": 0}}
        assert await gateway.reload(edited, by="ann") == 2
        assert served(gateway) == (2, ["second"])


async def test_a_file_that_is_given_models(path, url, imported):
    """They are imported; without them again the store's newest goes on, which is these."""
    async with open_gateway(path) as gateway:
        assert await gateway.reload(write(path, WITH, url=url, model="mine")) == 2
        assert served(gateway) == (2, ["mine"])
        assert await gateway.reload(write(path, WITHOUT, url=url)) == 2
        assert served(gateway) == (2, ["mine"])


async def test_a_file_whose_models_are_taken_away(path, url, imported):
    """The store's newest goes on, whoever made it."""
    write(path, WITH, url=url, model="mine")
    async with open_gateway(path) as gateway:
        assert served(gateway) == (2, ["mine"])
        await imported("second")
        assert await gateway.reload(write(path, WITHOUT, url=url)) == 3
        assert served(gateway) == (3, ["second"])


async def test_a_wrong_file_is_refused(path, imported):
    """With all that is wrong, by the file's name; the store's newest goes on."""
    async with open_gateway(path) as gateway:
        with pytest.raises(InvalidConfig, match=r"gateway\.yaml: 1 error\n  modles: unknown key"):
            await gateway.reload({**read(path), "modles": {}})
        assert served(gateway) == (1, ["first"])


async def test_a_start_that_takes_the_place_of_an_import(path, url, imported, caplog):
    """A document with models is imported at each start; what it takes the place of is named in the log."""
    write(path, WITH, url=url, model="mine")
    async with open_gateway(path) as gateway:
        assert served(gateway) == (2, ["mine"])
    (told,) = [message for message in caplog.messages if "takes the place" in message]
    assert told.endswith(
        f"version 2 of the catalog, from {path}, takes the place of version 1, which came from other.yaml"
    )


async def test_models_taken_away_from_a_catalog_in_memory(path, url):
    """The store is not opened for it: that is for the next start, and the old version goes on."""
    write(path, WITH, url="memory:", model="mine")
    async with open_gateway(path) as gateway:
        with pytest.raises(InvalidConfig, match=r"models: is required: .* store\.url is read at the start only"):
            await gateway.reload(write(path, WITHOUT, url=url))
        assert served(gateway) == (1, ["mine"])
