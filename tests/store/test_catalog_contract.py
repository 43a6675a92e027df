"""What every `Catalog` promises, asked of each one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from standby.store import Catalog, MemoryCatalog, Snapshot
from standby.store._config import parse
from standby.store.sql import open_sql

pytestmark = pytest.mark.anyio


def document(**models: str) -> dict[str, Any]:
    """A document with these models, each of one candidate that calls what is named."""
    return {
        "version": 1,
        "providers": {"openai": {"client": "openai", "api_key": "${OPENAI_API_KEY:-none}"}},
        "models": {
            name: {"candidates": [{"id": "primary", "provider": "openai", "model": called}]}
            for name, called in models.items()
        },
    }


@dataclass
class Subject:
    catalog: Catalog
    replace: Callable[[dict[str, Any]], Awaitable[Snapshot]]


@pytest.fixture(params=["memory-asyncio", "memory-trio", "sqlite-asyncio", "postgresql-asyncio"])
def kind(request):
    return request.param.split("-")


@pytest.fixture
def anyio_backend(kind):
    return kind[1]


@pytest.fixture
async def subject(kind, anyio_backend, request):
    if kind[0] == "memory":
        memory = MemoryCatalog(Snapshot(0))

        async def replace(raw: dict[str, Any]) -> Snapshot:
            return memory.replace(parse(raw).snapshot())

        yield Subject(memory, replace)
    else:
        async with open_sql(request.getfixturevalue("sql_url")) as store:
            yield Subject(store.catalog, lambda raw: store.catalog.replace(raw, "test"))


async def test_is_a_catalog(subject):
    """It has everything that the protocol names."""
    assert isinstance(subject.catalog, Catalog)


async def test_what_was_given_is_served(subject):
    """The newest version is the one that was given last."""
    given = await subject.replace(document(chat="gpt-4o"))
    assert subject.catalog.snapshot() is given
    assert given.models["chat"].candidates[0].model == "gpt-4o"


async def test_built_in_policies_are_always_there(subject):
    """A model that names no policy has one."""
    assert {"recommended", "bare"} <= set((await subject.replace(document(chat="gpt-4o"))).runner_policies)


async def test_every_change_has_a_higher_version(subject):
    """Records tell by the version which policies decided."""
    first = await subject.replace(document(chat="gpt-4o"))
    second = await subject.replace(document(chat="gpt-4.1"))
    third = await subject.replace(document(chat="gpt-4o"))
    assert 0 < first.version < second.version < third.version


async def test_a_run_in_flight_keeps_its_version(subject):
    """A snapshot is not changed by what comes after it."""
    pinned = await subject.replace(document(chat="gpt-4o"))
    await subject.replace(document(chat="gpt-4.1"))
    assert pinned.models["chat"].candidates[0].model == "gpt-4o"


async def test_what_is_left_out_is_gone(subject):
    """A document replaces the whole catalog."""
    await subject.replace(document(chat="gpt-4o", small="gpt-4o-mini"))
    assert set((await subject.replace(document(chat="gpt-4o"))).models) == {"chat"}


async def test_changed_wakes_on_a_new_version(subject):
    """Whoever waits for the next version is given it."""
    before = subject.catalog.snapshot().version
    seen: list[Snapshot] = []

    async def wait() -> None:
        seen.append(await subject.catalog.changed(before))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            given = await subject.replace(document(chat="gpt-4o"))
    assert seen == [given]


async def test_changed_does_not_wait_for_what_is_past(subject):
    """A change between the look and the wait is not missed."""
    before = subject.catalog.snapshot().version
    given = await subject.replace(document(chat="gpt-4o"))
    with anyio.fail_after(10):
        assert await subject.catalog.changed(before) is given
