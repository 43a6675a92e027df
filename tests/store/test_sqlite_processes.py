"""Several processes on one file: what one commits all know, and nothing is lost, doubled or granted twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Self

import anyio
import pytest

from standby.store import Cool, Demote, Disable, Enable, Failed, Standing, Succeeded
from standby.store.sql import open_sql

pytestmark = pytest.mark.anyio

HERE = "candidate:chat/primary"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/standby.db"


@pytest.fixture
async def stores(anyio_backend, url):
    """Two stores on one file, each with its own connections and its own memory, as in two processes."""
    patient = {"poll_seconds": 0.02, "commit_wait_seconds": 20, "busy_timeout_seconds": 20}
    async with open_sql(url, **patient) as one, open_sql(url, **patient) as other:
        yield one.state, other.state


# One process imports what is needed and becomes several, which is faster than as many that import.
FORKS = """
import asyncio, json, os, sys
from standby.store import *
from standby.store.sql import open_sql

async def main(url, number):
    async with open_sql(url, open_wait_seconds=20, commit_wait_seconds=20, busy_timeout_seconds=20) as store:
        tell("ready")
        await asyncio.to_thread(os.read, 0, 1)
        {body}
        tell(result)
        await asyncio.to_thread(os.read, 0, 1)

def tell(what):
    os.write(1, json.dumps(what).encode() + b"\\n")

children = []
for number in range(int(sys.argv[2])):
    children.append(os.fork())
    if not children[-1]:
        asyncio.run(main(sys.argv[1], number))
        os._exit(0)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


class Workers:
    """Processes that open the store at once, then do ``body`` at once, and then wait until they are left or killed."""

    def __init__(self, url: str, body: str, count: int) -> None:
        code = FORKS.replace("{body}", body.strip().replace("\n", "\n        "))
        self.count = count
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, url, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        assert self.heard() == ["ready"] * self.count
        return self

    def go(self) -> list:
        self.process.stdin.write(b"." * self.count)
        self.process.stdin.flush()
        return self.heard()

    def heard(self) -> list:
        return [json.loads(self.process.stdout.readline()) for _ in range(self.count)]

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


async def until(state, holds) -> None:
    with anyio.fail_after(20):
        while not holds(state.standing(HERE) or Standing()):
            await state.changed(state.generation)


async def test_what_one_commits_the_others_see(stores):
    """A cooldown that one process set is honoured by all."""
    one, other = stores
    await one.apply([Cool(HERE, 10.0, 70.0, 1, "x")])
    await until(other, lambda standing: standing.cooling_until == 70.0)


async def test_what_ends_in_one_ends_in_the_others(stores):
    """A domain that is well again is forgotten everywhere."""
    one, other = stores
    await one.apply([Cool(HERE, 10.0, 70.0, 1, "x"), Disable(HERE, 10.0, "ann", "maintenance")])
    await until(other, lambda standing: standing.disabled)
    await other.apply([Enable(HERE, 11.0, "bob"), Succeeded(HERE, 12.0, 11.0), Succeeded(HERE, 99.0, 98.0)])
    await until(one, lambda standing: standing == Standing())
    assert one.standings() == {}


async def test_an_incident_that_two_processes_see_demotes_once(stores):
    """Though neither had heard of the other's demotion when it demoted."""
    one, other = stores
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.apply, [Demote(HERE, 10.0, 5.0, 100, 0.0, "x")])
        tasks.start_soon(other.apply, [Demote(HERE, 10.5, 6.0, 100, 0.0, "x")])
    await until(one, lambda standing: standing.demoted == 100)
    await until(other, lambda standing: standing.demoted == 100)
    assert one.standing(HERE) == other.standing(HERE)


async def test_a_probe_is_refused_that_another_process_has(stores):
    """Even where this process has not heard of it yet."""
    one, other = stores
    await one.apply([Cool(HERE, 10.0, 20.0, 1, "x")])
    await until(other, lambda standing: standing.cooldowns_in_row == 1)
    granted: list[str] = []

    async def ask(state, run_id: str) -> None:
        if await state.lease_probe([HERE], run_id, 30.0, 40.0):
            granted.append(run_id)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, one, "run_1")
        tasks.start_soon(ask, other, "run_2")
    assert len(granted) == 1
    await until(one, lambda standing: standing.probe_holder == granted[0])
    await until(other, lambda standing: standing.probe_holder == granted[0])


async def test_a_lost_race_for_a_cooldown_keeps_the_longer_one(stores):
    """In whatever order the two are committed."""
    one, other = stores
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.apply, [Cool(HERE, 10.0, 90.0, 1, "x")])
        tasks.start_soon(other.apply, [Cool(HERE, 11.0, 70.0, 1, "x")])
    await until(one, lambda standing: (standing.cooled_at, standing.cooling_until) == (11.0, 90.0))
    await until(other, lambda standing: (standing.cooled_at, standing.cooling_until) == (11.0, 90.0))


async def test_processes_may_open_a_new_file_at_once(url):
    """Each finds its tables, whoever made them; nothing they then do at once is lost or doubled."""
    body = """
for at in range(25):
    await store.state.apply([Failed("d", at), Demote("d", 50.0, 50.0, 1, 0.0, "x")])
    store.history.add({"run_id": f"run_{number}_{at}"})
await store.state.apply([Demote("once", 60.0 + number, 50.0, 100, 0.0, "x"), Cool("c", 1, 100 + number, 1, "x")])
granted = await store.state.lease_probe(["p"], f"run_{number}", 1.0, 1e9)
result = [granted, store.state.trouble]
"""
    with Workers(url, body, 3) as workers:
        results = workers.go()
    assert sorted(results) == [[False, None]] * 2 + [[True, None]]
    async with open_sql(url) as store:
        known = store.state.standings()
        assert (known["d"].failures_in_row, known["d"].demoted) == (75, 75)
        assert known["once"].demoted == 100
        assert known["c"].cooling_until == 102.0
        assert len(await store.history.newest(1000)) == 75


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """The file of a process that was killed with -9 right after it was told that all was committed."""
    body = """
await store.state.apply([Cool("c", 10.0, 70.0, 1, "rate_limit"), Demote("c", 10.0, 5.0, 100, 600.0, "timeout")])
await store.state.apply([Disable("d", 10.0, "ann", "maintenance"), Cool("p", 10.0, 20.0, 1, "x")])
result = [await store.state.lease_probe(["p"], "run_1", 30.0, 40.0), store.state.trouble]
"""
    url = f"sqlite:///{tmp_path_factory.mktemp('killed')}/standby.db"
    with Workers(url, body, 1) as workers:
        assert workers.go() == [[True, None]]
        workers.kill()
    return url


async def test_a_killed_process_loses_nothing_that_was_committed(left_behind):
    """Cooldowns, disablements, demotions and what an operator did survive kill -9."""
    async with open_sql(left_behind) as store:
        assert store.state.standing("c").cooling_until == 70.0
        assert store.state.standing("c").demotion(11.0) == 100
        assert store.state.standing("d").disabled_why == "maintenance"
        assert [line.what for line in await store.history.audit()] == ["disable"]


async def test_a_killed_process_does_not_keep_its_probe(left_behind):
    """Its lease expires."""
    async with open_sql(left_behind) as store:
        assert not await store.state.lease_probe(["p"], "run_2", 39.0, 49.0)
        assert await store.state.lease_probe(["p"], "run_2", 40.0, 50.0)


async def test_a_restart_remembers(url):
    """Also the failures in a row, which are not said to be lasting, but are."""
    async with open_sql(url) as store:
        await store.state.apply([Failed(HERE, 1.0), Failed(HERE, 2.0)])
    async with open_sql(url) as store:
        assert store.state.standing(HERE) == Standing(failures_in_row=2)
