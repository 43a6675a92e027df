"""The history in a database: bounded, written in batches, and never in the way; and the audit."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from standby.store import Audited, Cool, Demote, Disable, Enable, Failed, Restore, StoreError, Succeeded
from standby.store.sql import open_sql

pytestmark = pytest.mark.anyio

HERE = "candidate:chat/primary"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/standby.db"


async def ids(history, limit: int = 1000) -> list[str]:
    return [record["run_id"] for record in await history.newest(limit)]


async def test_closing_writes_what_is_buffered(url):
    """An orderly end loses no record."""
    async with open_sql(url) as store:
        for number in range(500):
            store.history.add({"run_id": f"run_{number}"})
    async with open_sql(url) as store:
        assert len(await ids(store.history)) == 500
        assert await ids(store.history, 2) == ["run_499", "run_498"]


async def test_what_is_there_already_is_trimmed_too(url):
    """Where the bound was lowered."""
    async with open_sql(url) as store:
        for number in range(10):
            store.history.add({"run_id": f"run_{number}"})
    async with open_sql(url, keep_runs=3) as store:
        store.history.add({"run_id": "run_10"})
    async with open_sql(url) as store:
        assert await ids(store.history) == ["run_10", "run_9", "run_8"]


async def test_the_file_keeps_the_newest_runs(url):
    """Not more than it was told to."""
    async with open_sql(url, keep_runs=5) as store:
        for number in range(12):
            store.history.add({"run_id": f"run_{number}"})
    async with open_sql(url) as store:
        assert await ids(store.history) == [f"run_{number}" for number in (11, 10, 9, 8, 7)]


async def test_what_a_record_can_be_asked_by_is_in_columns(url):
    """For whoever reads the file with another tool."""
    async with open_sql(url) as store:
        store.history.add({"run_id": "run_1", "model": "chat", "began_at": 12.5, "ending": "answered"})
        store.history.add({"run_id": "run_2", "model": 7})
    async with open_sql(url) as store, store._database.read() as connection:
        rows = await connection.exec_driver_sql("SELECT run_id, model, started_at, outcome FROM runs ORDER BY seq")
        assert [tuple(row) for row in rows] == [("run_1", "chat", 12.5, "answered"), ("run_2", None, None, None)]


async def test_what_json_does_not_know_is_told_in_words(url):
    """A record is not lost for one value in it."""
    async with open_sql(url) as store:
        store.history.add({"run_id": "run_1", "error": ValueError("no"), "status": {404: "gone"}})
    async with open_sql(url) as store:
        assert await store.history.get("run_1") == {"run_id": "run_1", "error": "no", "status": {"404": "gone"}}


async def test_a_record_that_cannot_be_written_does_not_block_the_rest(url, caplog):
    """It is dropped, counted, and told in the log."""
    endless: dict[str, object] = {"run_id": "run_2"}
    endless["self"] = endless
    async with open_sql(url) as store:
        for record in ({"run_id": "run_1"}, endless, {"run_id": "run_3"}, {"model": "nameless"}):
            store.history.add(record)
    assert store.history.dropped == 1
    assert "cannot hold a change of its history" in caplog.text
    assert "a record without a run_id" in caplog.text
    async with open_sql(url) as store:
        assert await ids(store.history) == ["run_3", "run_1"]


async def test_a_history_that_cannot_keep_up_drops_the_oldest(url):
    """And counts them; a run never waits."""

    def refuse(connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=ON")

    async with open_sql(url, max_pending=10) as store:
        event.listen(store._database.engine.sync_engine, "begin", refuse)
        for number in range(25):
            store.history.add({"run_id": f"run_{number}"})
        assert store.history.dropped == 15
        assert await ids(store.history) == [f"run_{number}" for number in range(24, 14, -1)]
        event.remove(store._database.engine.sync_engine, "begin", refuse)


async def test_what_is_done_on_purpose_is_audited(url):
    """By an operator, or by a policy that disables; what runs do all day is not."""
    async with open_sql(url, commit_wait_seconds=20) as store:
        await store.state.apply([Failed(HERE, 1.0), Cool(HERE, 1.0, 61.0, 1, "rate_limit")])
        await store.state.apply([Demote(HERE, 2.0, 1.0, 100, 600.0, "timeout")])
        await store.state.apply([Disable(HERE, 3.0, "policy", "auth_error")])
        await store.state.apply([Enable(HERE, 4.0, "ann"), Restore(HERE, 5.0, "ann")])
        await store.state.apply([Cool(HERE, 6.0, 66.0, 1, "too dear today", "bob")])
        assert [astuple(line) for line in await store.history.audit()] == [
            (6.0, "bob", "cool", HERE, "too dear today"),
            (5.0, "ann", "restore", HERE, ""),
            (4.0, "ann", "enable", HERE, ""),
            (3.0, "policy", "disable", HERE, "auth_error"),
        ]


async def test_a_recheck_is_audited(url):
    """A policy disables, disables again where the recheck fails, and enables where it succeeds; who and why is kept."""
    async with open_sql(url, commit_wait_seconds=20) as store:
        await store.state.apply([Disable(HERE, 10.0, "policy", "auth_error", 70.0)])
        await store.state.apply([Failed(HERE, 75.0), Disable(HERE, 75.0, "policy", "the probe failed", 135.0)])
        await store.state.apply([Succeeded(HERE, 139.0, 130.0), Succeeded(HERE, 140.0, 136.0)])
        await store.state.apply([Failed(HERE, 150.0), Succeeded(HERE, 160.0, 155.0)])
    async with open_sql(url) as store:
        assert [astuple(line) for line in await store.history.audit()] == [
            (140.0, "policy", "enable", HERE, "its recheck succeeded"),
            (75.0, "policy", "disable", HERE, "the probe failed"),
            (10.0, "policy", "disable", HERE, "auth_error"),
        ]


async def test_what_changed_nothing_is_not_audited(url):
    """Two processes that disable the same did it once."""
    async with open_sql(url, commit_wait_seconds=20) as store:
        await store.state.apply([Disable(HERE, 3.0, "policy", "auth_error")])
        await store.state.apply([Disable(HERE, 4.0, "policy", "auth_error"), Restore("elsewhere", 5.0, "ann")])
        assert len(await store.history.audit()) == 1


async def test_the_audit_outlives_the_runs(url):
    """It is never trimmed."""
    async with open_sql(url, keep_runs=1) as store:
        await store.state.apply([Disable(HERE, 3.0, "policy", "auth_error")])
        for number in range(50):
            store.history.add({"run_id": f"run_{number}"})
    async with open_sql(url, keep_runs=1) as store:
        assert len(await store.history.audit()) == 1


async def test_no_line_of_the_audit_makes_room(url):
    """However many wait for a database that takes none: only the records of runs do."""

    def refuse(connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=ON")

    async with open_sql(url, max_pending=10) as store:
        event.listen(store._database.engine.sync_engine, "begin", refuse)
        for number in range(30):
            store.history.add({"run_id": f"run_{number}"})
            store.history.note([Audited(float(number), "ann", "disable", HERE, "")])
        assert store.history.dropped == 30
        event.remove(store._database.engine.sync_engine, "begin", refuse)
    async with open_sql(url) as store:
        assert [line.at for line in await store.history.audit()] == [float(number) for number in range(29, -1, -1)]


async def test_what_cannot_be_read(url):
    """It is said: an empty list, or no record, would be a lie."""

    def refuse(connection) -> None:
        raise OperationalError("", {}, Exception("no"))

    async with open_sql(url) as store:
        event.listen(store._database.engine.sync_engine, "begin", refuse)
        for ask, what in (
            (store.history.audit, "the audit"),
            (store.history.newest, "the records of runs"),
            (partial(store.history.get, "run_1"), "the records of runs"),
        ):
            with pytest.raises(StoreError, match=f"{what} cannot be read"):
                await ask()
        event.remove(store._database.engine.sync_engine, "begin", refuse)


async def test_what_is_audited_here_is_told_to_another_history(url):
    """Where the state is in one database and the history in another, people ask the history."""
    told = []
    async with open_sql(url, commit_wait_seconds=20, audit=told.extend) as store:
        await store.state.apply([Failed(HERE, 1.0), Disable(HERE, 3.0, "ann", "closed")])
        assert [line.target for line in await store.history.audit()] == [HERE]
    assert [astuple(line) for line in told] == [(3.0, "ann", "disable", HERE, "closed")]
