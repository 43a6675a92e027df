"""What every `History` promises, asked of each one; of those that write later, before and after they did."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from standby.store import Audited, History, MemoryHistory
from standby.store.sql import open_sql

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        "memory-asyncio",
        "memory-trio",
        "sqlite_buffered-asyncio",
        "sqlite_written-asyncio",
        "postgresql_buffered-asyncio",
        "postgresql_written-asyncio",
    ]
)
def kind(request):
    return request.param.split("-")


@pytest.fixture
def anyio_backend(kind):
    return kind[1]


@pytest.fixture
async def history(kind, anyio_backend, request):
    if kind[0] == "memory":
        yield MemoryHistory()
    else:
        async with open_sql(request.getfixturevalue("sql_url")) as store:
            yield store.history


@pytest.fixture
def written(kind, history, eventually):
    async def wait() -> None:
        if kind[0].endswith("_written"):
            await eventually(lambda: not list(history.writer))

    return wait


def add(history: History, *numbers: int) -> None:
    for number in numbers:
        history.add({"run_id": f"run_{number}", "model": "chat", "tries": [{"n": number}]})


def ids(records) -> list[str]:
    return [record["run_id"] for record in records]


async def test_is_a_history(history):
    """It has everything that the protocol names."""
    assert isinstance(history, History)


async def test_a_record_is_found_by_its_id(history, written):
    """As it was handed in."""
    add(history, 1, 2)
    await written()
    assert await history.get("run_1") == {"run_id": "run_1", "model": "chat", "tries": [{"n": 1}]}


async def test_an_unknown_run_is_none(history, written):
    """Never known, or no longer."""
    add(history, 1)
    await written()
    assert await history.get("run_9") is None


async def test_the_newest_come_first(history, written):
    """In the order in which they were handed in, backwards."""
    add(history, 2, 1, 3)
    await written()
    assert ids(await history.newest()) == ["run_3", "run_1", "run_2"]


async def test_no_more_than_asked_for(history, written):
    """The newest of them."""
    add(history, 1, 2, 3)
    await written()
    assert ids(await history.newest(2)) == ["run_3", "run_2"]
    assert ids(await history.newest(0)) == []


async def test_those_before_a_run(history, written):
    """The next page begins after the last run of the one before."""
    add(history, 1, 2, 3, 4)
    await written()
    assert ids(await history.newest(2, before="run_3")) == ["run_2", "run_1"]
    assert ids(await history.newest(2, before="run_1")) == []


async def test_nothing_is_before_an_unknown_run(history, written):
    """A page after a run that is gone is empty, and not the first page again."""
    add(history, 1, 2)
    await written()
    assert ids(await history.newest(before="run_9")) == []


async def test_a_page_goes_from_what_is_new_into_what_is_old(history, written):
    """Wherever they are kept meanwhile, the records are one list."""
    add(history, 1, 2)
    await written()
    add(history, 3, 4)
    assert ids(await history.newest(3)) == ["run_4", "run_3", "run_2"]
    assert ids(await history.newest(3, before="run_4")) == ["run_3", "run_2", "run_1"]
    assert ids(await history.newest(3, before="run_2")) == ["run_1"]


async def test_a_record_that_is_handed_in_again_replaces_the_first(history, written):
    """There is one record a run, and it is as new as its last word."""
    add(history, 1, 2)
    await written()
    history.add({"run_id": "run_1", "model": "other"})
    await written()
    assert ids(await history.newest()) == ["run_1", "run_2"]
    assert (await history.get("run_1"))["model"] == "other"


def note(history: History, *times: float) -> None:
    history.note([Audited(at, "ann", "disable", f"candidate:chat/{at:.0f}", "closed") for at in times])


async def test_the_newest_line_of_the_audit_comes_first(history, written):
    """As it was noted, and no more than are asked for."""
    note(history, 1.0, 2.5, 3.0)
    await written()
    lines = await history.audit(2)
    assert [astuple(line) for line in lines] == [
        (3.0, "ann", "disable", "candidate:chat/3", "closed"),
        (2.5, "ann", "disable", "candidate:chat/2", "closed"),
    ]


async def test_the_audit_up_to_a_time(history, written):
    """So that all of it can be had, part by part."""
    note(history, 1.0, 2.5, 3.0)
    await written()
    assert [line.at for line in await history.audit(until=2.5)] == [2.5, 1.0]


async def test_the_audit_is_no_run(history, written):
    """And no run is in the audit."""
    add(history, 1)
    note(history, 1.0)
    await written()
    assert (ids(await history.newest()), len(await history.audit())) == (["run_1"], 1)
