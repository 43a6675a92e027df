"""Valkey and PostgreSQL that die, hang or are slow, while four processes work: nobody notices, and nothing is lost."""

from contextlib import asynccontextmanager

import anyio
import pytest

from tests.processes.conftest import FIRST

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
    fleet = await open_fleet(own_valkey.url)
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
    fleet = await open_fleet(own_valkey.url, limits={"requestsPerMinute": A_MINUTE, "concurrency": 4})
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
