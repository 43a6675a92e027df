"""What four processes know of a candidate together: nothing is lost, doubled, or done by two."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from tests.processes.conftest import DOWN, FIRST, LIMITED, WELL, Held

pytestmark = pytest.mark.anyio

SKEWS = [{"ahead_seconds": seconds} for seconds in (-3600, 0, 7, 3600)]
"""Machines whose clocks have nothing to do with each other."""


async def one_incident_after_the_other(fleet, witness, incidents):
    """All call at once, are held until all have called, and fail together; then again."""
    for _ in range(incidents):
        calls = [Held() for _ in fleet]
        waiting = iter(calls)
        witness.does["first"] = lambda waiting=waiting: next(waiting)
        runs = asyncio.create_task(fleet.ask("run"))
        await witness.until(lambda: witness.under_way["first"] == len(fleet))
        for call in calls:
            call.answer = replace(DOWN, delay_seconds=0.1)  # one incident, however exactly clocks can be compared
        assert await runs == [{"second": 1}] * len(fleet)
        await fleet.ask("settled")


@pytest.mark.parametrize("each", [[{}] * 4, SKEWS], ids=["one clock", "four clocks"])
async def test_an_incident_demotes_once(open_fleet, valkey_url, witness, each):
    """Four processes that fail together demote by one step, and all know the same at the end."""
    fleet = await open_fleet(valkey_url, each=each, demotes=True)
    await one_incident_after_the_other(fleet, witness, 10)
    await fleet.ask("settled")
    assert {each["demoted"] for each in await fleet.ask("standing", domain=FIRST)} == {10}


async def test_every_failure_counts_once(open_fleet, valkey_url, witness):
    """However many fail at the same time in all processes."""
    fleet = await open_fleet(valkey_url)
    await fleet.ask("run", runs=100, at_once=8)
    assert len(witness.calls["first"]) == 400
    await fleet.ask("until", domain=FIRST, failures_in_row=400)


@pytest.mark.parametrize("each", [[{}] * 4, SKEWS], ids=["one clock", "four clocks"])
async def test_all_honour_what_one_learned(open_fleet, valkey_url, witness, each):
    """Nobody calls while it cools down, though the one that learned it was killed; then all call again."""
    fleet = await open_fleet(valkey_url, each=each, cools=True)
    witness.does["first"] = LIMITED
    killed = fleet.pop()
    await killed.ask("run")
    cooled_at, witness.does["first"] = witness.calls["first"][0], WELL
    await killed.kill()
    await fleet.ask("until", domain=FIRST, cooldowns_in_row=1)
    await fleet.load()
    await witness.until(lambda: len(witness.calls["first"]) > 1)
    assert witness.calls["first"][1] - cooled_at >= 1
    assert {end for _, end in itertools.chain(*await fleet.ask("end"))} == {"first", "second"}
    assert await fleet.ask("run", runs=20) == [{"first": 20}] * 3


async def test_one_probes(open_fleet, valkey_url, witness):
    """The others go to the next candidate for as long as that takes, and come back when it is over."""
    fleet = await open_fleet(valkey_url, cools=True)
    witness.does["first"] = LIMITED
    await fleet[0].ask("run")
    await fleet.ask("until", domain=FIRST, cooldowns_in_row=1)
    probe = witness.does["first"] = Held()
    await fleet.load()
    await witness.until(lambda: witness.under_way["first"])
    await fleet.ask("more", runs=100)
    assert len(witness.calls["first"]) == 2
    witness.does["first"] = probe.answer = WELL
    await witness.until(lambda: len(witness.calls["first"]) > 40)
    await fleet.end()


async def test_what_a_killed_process_holds_comes_back(open_fleet, valkey_url, witness):
    """It had the probe, and the only place: when its leases end another one probes, and never two."""
    each = [{"alive_seconds": 3}] * 4
    fleet = await open_fleet(valkey_url, each=each, cools=True, limits={"concurrency": 1}, attempt_seconds=1)
    witness.does["first"] = LIMITED
    await fleet[0].ask("run")
    await fleet.ask("until", domain=FIRST, cooldowns_in_row=1)
    witness.does["first"] = Held()
    await fleet[0].ask("begin")
    await witness.until(lambda: witness.under_way["first"])
    await fleet.pop(0).kill()
    witness.does["first"] = WELL
    await fleet.load()
    await witness.until(lambda: len(witness.calls["first"]) > 40)
    assert witness.most["first"] == 1
    assert witness.calls["first"][2] - witness.calls["first"][1] >= 3
    await fleet.end()
