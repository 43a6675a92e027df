"""What four processes may do together, counted by the provider."""

import itertools
from dataclasses import replace

import pytest

from tests.processes.conftest import DOWN, WELL

pytestmark = pytest.mark.anyio


async def test_a_minute_is_never_exceeded(open_fleet, valkey_url, witness):
    """Four times a thousand runs, and a provider that fails: sixty calls arrive, and nobody goes without an answer."""
    fleet = await open_fleet(valkey_url, limits={"requestsPerMinute": 60})
    ended = await fleet.ask("run", runs=1000, at_once=8)
    assert ended == [{"second": 1000}] * 4
    assert witness.most_in_a_minute("first") == 60


async def test_calls_under_way_are_never_too_many(open_fleet, valkey_url, witness):
    """Three at once, whoever makes them, and however often a call fails and another begins."""
    fleet = await open_fleet(valkey_url, limits={"concurrency": 3})
    outcomes = itertools.cycle((replace(DOWN, delay_seconds=0.005), replace(WELL, delay_seconds=0.005)))
    witness.does["first"] = lambda: next(outcomes)
    ended = await fleet.ask("run", runs=200, at_once=8)
    assert witness.most["first"] == 3
    assert sum(each.get("first", 0) for each in ended) == len(witness.calls["first"]) // 2
