"""A file that becomes read-only, full or locked while runs go on: they do, in memory, and nothing is lost."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass

import anyio
import pytest
from sqlalchemy import event

from standby.store import Cool, Demote, Disable, Failed
from standby.store.sql import StoreError, open_sql

pytestmark = pytest.mark.anyio

HERE, THERE = "candidate:chat/primary", "provider:openai"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "standby.db"


@dataclass
class Faults:
    """What SQLite itself is told to fail with, in every transaction that begins from now on."""

    read_only: bool = False
    full: bool = False

    def on_begin(self, connection) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only={int(self.read_only)}")
        connection.exec_driver_sql(f"PRAGMA max_page_count={1 if self.full else 1 << 30}")


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
async def store(anyio_backend, path, faults):
    async with open_sql(f"sqlite:///{path}", busy_timeout_seconds=0.02, poll_seconds=0.02, max_pending=20) as store:
        event.listen(store._database.engine.sync_engine, "begin", faults.on_begin)
        yield store


@pytest.fixture
async def other(anyio_backend, store, path):
    """Another process's store on the same file; that it is in this one changes nothing of what it does."""
    async with open_sql(f"sqlite:///{path}", poll_seconds=0.02) as other:
        yield other


def in_file(path, query: str):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def into_trouble(store, faults, eventually) -> None:
    faults.read_only = True
    await store.state.apply([Failed("elsewhere", 1.0)])
    await eventually(lambda: store.state.trouble)


LARGE = "x" * 100_000


async def test_a_read_only_file_is_named(store, path, faults, eventually):
    """With what is wrong with it; what was applied is true all the same, and written once that is possible."""
    faults.read_only = True
    await store.state.apply([Cool(HERE, 10.0, 70.0, 1, "x")])
    await eventually(lambda: store.state.trouble == f"{path} is read-only")
    assert store.state.standing(HERE).cooling_until == 70.0
    faults.read_only = False
    await eventually(lambda: store.state.trouble is None)
    assert in_file(path, "SELECT domain, cooling_until FROM standings WHERE cooling_until") == [(HERE, 70.0)]


async def test_a_full_disk_is_named(store, path, faults, eventually):
    """With what is wrong with it; what was applied is true all the same, and written once there is room."""
    faults.full = True
    await store.state.apply([Disable(HERE, 10.0, "ann", LARGE)])
    await eventually(lambda: store.state.trouble == f"{path} cannot grow: the disk is full")
    assert store.state.standing(HERE).disabled
    faults.full = False
    await eventually(lambda: store.state.trouble is None)
    assert in_file(path, "SELECT domain, disabled_by FROM standings") == [(HERE, "ann")]


async def test_a_locked_file_is_named(store, path, eventually):
    """With what is wrong with it; what was applied is true all the same, and written once it is released."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await store.state.apply([Failed(HERE, 10.0)])
    await eventually(lambda: store.state.trouble == f"{path} is locked by another process")
    assert store.state.standing(HERE).failures_in_row == 1
    holder.close()
    await eventually(lambda: store.state.trouble is None)
    assert in_file(path, "SELECT domain, failures_in_row FROM standings") == [(HERE, 1)]


async def test_a_file_that_was_taken_away_is_named(store, path, eventually):
    """What is written into a file without a name is lost to everybody else."""
    path.rename(path.with_suffix(".away"))
    await eventually(lambda: store.state.trouble)
    assert store.state.trouble == f"{path} was removed or replaced: restart to use what is there now"
    path.with_suffix(".away").rename(path)
    await eventually(lambda: store.state.trouble is None)


async def test_trouble_is_told_once_and_so_is_its_end(store, faults, eventually, caplog):
    """However many runs meet it, and though state and history both do."""
    caplog.set_level(logging.INFO, logger="standby.store")
    await into_trouble(store, faults, eventually)
    store.history.add({"run_id": "run_1"})
    await eventually(lambda: store.history.trouble)
    for at in range(5):
        await store.state.apply([Failed(HERE, at)])
    faults.read_only = False
    await eventually(lambda: not store.state.trouble and not store.history.trouble)
    told = [(record.levelname, record.message) for record in caplog.records if record.name == "standby.store"]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "is read-only; runs go on with what is in memory" in told[0][1]
    assert "is in use again" in told[1][1]


async def test_in_trouble_nobody_waits_for_a_commit(store, faults, eventually):
    """A run does not pay for it: `apply` does not even yield."""
    await into_trouble(store, faults, eventually)
    applying = store.state.apply([Failed(HERE, 1.0)])
    with pytest.raises(StopIteration):
        applying.send(None)


async def test_in_trouble_the_probe_is_leased_from_memory(store, faults, eventually):
    """One run of this process has it, and gives it back, as ever; and the database learns of it afterwards."""
    await store.state.apply([Cool(HERE, 10.0, 20.0, 1, "x")])
    await into_trouble(store, faults, eventually)
    assert await store.state.lease_probe([HERE], "run_1", 30.0, 40.0)
    assert not await store.state.lease_probe([HERE], "run_2", 30.0, 40.0)
    await store.state.return_probe([HERE], "run_1")
    assert await store.state.lease_probe([HERE], "run_2", 30.0, 40.0)
    faults.read_only = False
    await eventually(lambda: store.state.trouble is None)
    assert store.state.standing(HERE).probe_holder == "run_2"


async def test_a_lease_that_takes_too_long_is_decided_in_memory(store, path):
    """A run that was promised an answer is not kept waiting by another process's lock."""
    await store.state.apply([Cool(HERE, 10.0, 20.0, 1, "x")])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert await store.state.lease_probe([HERE], "run_1", 30.0, 40.0)
    assert not await store.state.lease_probe([HERE], "run_2", 30.0, 40.0)
    holder.close()


async def test_what_is_pending_is_not_undone_by_what_others_commit(store, other, faults, eventually):
    """What is true here and what is true there come together, and come to the same in both."""
    await into_trouble(store, faults, eventually)
    await store.state.apply([Failed(HERE, 1.0), Demote(HERE, 2.0, 1.0, 100, 0.0, "x")])
    await other.state.apply([Failed(HERE, 1.0), Cool(HERE, 10.0, 70.0, 1, "x")])
    await eventually(lambda: store.state.standing(HERE).cooling_until == 70.0)
    assert (store.state.standing(HERE).failures_in_row, store.state.standing(HERE).demoted) == (2, 100)
    faults.read_only = False
    await eventually(lambda: other.state.standing(HERE) == store.state.standing(HERE))
    assert (other.state.standing(HERE).failures_in_row, other.state.standing(HERE).demoted) == (2, 100)


async def test_when_too_much_is_pending_the_oldest_makes_room(store, path, faults, eventually):
    """But what an operator did, and every disablement, is the last to go."""
    await into_trouble(store, faults, eventually)
    await store.state.apply([Disable(HERE, 1.0, "ann", "maintenance")])
    for at in range(30):
        await store.state.apply([Failed(f"candidate:{at}", at)])
    assert (store.state.dropped, store.state.pending) == (12, 20)
    assert len(store.state.standings()) == 32
    faults.read_only = False
    await eventually(lambda: store.state.trouble is None)
    written = {domain for (domain,) in in_file(path, "SELECT domain FROM standings")}
    assert HERE in written
    assert "candidate:29" in written
    assert "candidate:0" not in written


async def test_what_no_database_would_hold_does_not_block_the_rest(store, path, eventually, caplog):
    """It is dropped with an error in the log."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.state.apply, [Failed(HERE, 1.0)])
        tasks.start_soon(store.state.apply, [Cool("candidate:bad", 1.0, float("nan"), 1, "x")])
        tasks.start_soon(store.state.apply, [Failed(THERE, 1.0)])
    await eventually(lambda: len(in_file(path, "SELECT * FROM standings")) == 2)
    assert store.state.dropped == 1
    assert store.state.trouble is None
    assert "cannot hold a change of its state" in caplog.text


async def test_closing_in_trouble_says_what_is_lost(path, faults, eventually, caplog):
    """One last try is made, and it ends."""
    async with open_sql(f"sqlite:///{path}") as store:
        event.listen(store._database.engine.sync_engine, "begin", faults.on_begin)
        await into_trouble(store, faults, eventually)
    assert f"{path}: closed with 1 changes of its state unwritten" in caplog.text


async def test_closing_writes_what_is_pending(path, faults, eventually):
    """Where the last try finds the file usable again."""
    async with open_sql(f"sqlite:///{path}") as store:
        event.listen(store._database.engine.sync_engine, "begin", faults.on_begin)
        await into_trouble(store, faults, eventually)
        faults.read_only = False
    assert in_file(path, "SELECT domain FROM standings") == [("elsewhere",)]


async def test_a_store_that_is_closed_goes_on_in_memory(path):
    """A run that outlives its store is not failed by it; the trouble is told."""
    async with open_sql(f"sqlite:///{path}") as store:
        pass
    await store.state.apply([Failed(HERE, 1.0)])
    assert store.state.standing(HERE).failures_in_row == 1
    assert store.state.trouble == f"{path} is closed"


async def test_a_cancelled_apply_is_committed(store, path, eventually):
    """Cancellation takes back no effect."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.state.apply([Failed(HERE, 1.0)])
    await eventually(lambda: in_file(path, "SELECT domain FROM standings") == [(HERE,)])


async def test_a_store_that_is_cancelled_closes_in_order(path):
    """What was applied is written, and the cancellation goes on afterwards."""
    with anyio.CancelScope() as scope:
        async with open_sql(f"sqlite:///{path}") as store:
            store.history.add({"run_id": "run_1"})
            scope.cancel()
            await store.state.apply([Failed(HERE, 1.0)])
    assert scope.cancelled_caught
    assert in_file(path, "SELECT domain FROM standings") == [(HERE,)]
    assert in_file(path, "SELECT run_id FROM runs") == [("run_1",)]


async def test_a_configuration_that_cannot_be_stored_is_refused(store, path, faults):
    """The operator is told, and the old one keeps serving."""
    faults.read_only = True
    with pytest.raises(StoreError, match="is read-only; the configuration was not stored"):
        await store.catalog.replace(
            {
                "version": 1,
                "providers": {"local": {"client": "openai", "base_url": "http://127.0.0.1:8000/v1"}},
                "models": {"chat": {"candidates": [{"id": "primary", "provider": "local", "model": "m"}]}},
            },
            "test",
        )
    assert store.catalog.snapshot().version == 0
