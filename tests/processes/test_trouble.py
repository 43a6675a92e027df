"""Valkey and PostgreSQL that die, hang or are slow, while four processes work: nobody notices, and nothing is lost."""

import os
import signal
from contextlib import asynccontextmanager

import anyio
import pytest

from standby.store.sql import open_sql
from tests.conftest import signalled, start_again
from tests.processes.conftest import FIRST, PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

THERE = "candidate:chat/elsewhere"
A_MINUTE = 40


@asynccontextmanager
async def killed(server):
    server.kill()
    yield
    await anyio.to_thread.run_sync(server.start)


@asynccontextmanager
async def emptied(server):
    server.kill()
    yield
    server.forget()
    await anyio.to_thread.run_sync(server.start)


@asynccontextmanager
async def hung(server):
    server.stop()
    try:
        yield
    finally:
        server.go_on()


@pytest.mark.parametrize("away", [killed, hung])
async def test_valkey_is_away_and_every_failure_counts_once(open_fleet, own_valkey, witness, away):
    """What was on its way when it left, and what happened meanwhile, is there in all processes when it is back."""
    fleet = await open_fleet(own_valkey.url, wait_seconds=0.25)
    await fleet.load()
    async with away(own_valkey):
        await fleet.ask("until_trouble")
        await fleet.ask("more", runs=20)
    await fleet.ask("settled")
    await fleet.ask("more", runs=20)
    await fleet.end()
    assert await fleet.ask("settled") == [0] * 4
    await fleet.ask("until", domain=FIRST, failures_in_row=len(witness.calls["first"]))


@pytest.mark.parametrize("away", [killed, emptied, hung])
async def test_valkey_is_away_and_what_was_agreed_holds(open_fleet, own_valkey, witness, away):
    """Limits are exceeded by no more than is documented, an operator's word is kept, and nobody goes without an answer."""
    fleet = await open_fleet(
        own_valkey.url, limits={"requestsPerMinute": A_MINUTE, "concurrency": 4}, wait_seconds=0.25
    )
    await fleet[0].ask("disable", domain=THERE)
    await fleet.load()
    await witness.until(lambda: len(witness.calls["first"]) == A_MINUTE)
    async with away(own_valkey):
        await fleet.ask("until_trouble")
        await fleet.ask("more", runs=100)
    await fleet.ask("settled")
    taken = len(witness.calls["first"])
    await fleet.ask("more", runs=100)
    await fleet.end()
    assert A_MINUTE <= witness.most_in_a_minute("first") == taken < 2 * A_MINUTE
    assert witness.most["first"] <= 4
    assert [each["disabled_by"] for each in await fleet.ask("standing", domain=THERE)] == ["ann"] * 4


async def test_valkey_is_slow(open_fleet, valkey_door, witness):
    """It is not waited for, time and again, and no more is taken than without it."""
    door, url = valkey_door
    await door.open()
    fleet = await open_fleet(url, limits={"requestsPerMinute": A_MINUTE}, wait_seconds=0.25)
    door.delay_seconds = 0.5
    await fleet.load()
    await witness.until(lambda: len(witness.calls["first"]) >= A_MINUTE)
    await fleet.ask("more", runs=100)
    assert A_MINUTE <= witness.most_in_a_minute("first") < 2 * A_MINUTE
    door.delay_seconds = 0.0
    await fleet.ask("settled")
    await fleet.end()


@asynccontextmanager
async def postgres_is_killed(postgres):
    processes = signalled(postgres, signal.SIGKILL)
    try:
        yield
    finally:
        for process in processes:
            process.wait(PATIENCE_SECONDS)
        await anyio.to_thread.run_sync(start_again, postgres)


@asynccontextmanager
async def postgres_hangs(postgres):
    processes = signalled(postgres, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize("away", [postgres_is_killed, postgres_hangs])
async def test_postgres_is_away(open_fleet, postgres, postgres_url, valkey_url, witness, away):
    """Nobody goes without an answer, and the history has every run of every process once."""
    fleet = await open_fleet(valkey_url)
    await fleet.load()
    async with away(postgres):
        await fleet.ask("until_trouble")
        await fleet.ask("more", runs=20)
    await fleet.ask("more", runs=20)
    ids = await fleet.end()
    assert await fleet.ask("settled") == [0] * 4
    async with open_sql(postgres_url) as store:
        records = [record["run_id"] for record in await store.history.newest(100_000)]
    assert sorted(records) == sorted(ids)
