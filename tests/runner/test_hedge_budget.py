"""Hedges: what they cost, who pays, and when there is none for want of budget."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import Fail, Slow
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
REFUSED = Fail("bad_request", "no", status=400)
AFTER_4 = {"hedge": {"afterSeconds": 4}}


def left(gate):
    """The tokens that are left of those domains that have spent any."""
    return {domain: tokens for status in gate.runner.statuses() for domain, tokens in status.retry_budget.items()}


async def test_a_silent_candidate_pays_for_the_hedge():
    """14 tokens, as a retry of work whose fate is unknown; while the hedge is under way they are gone."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)]}, model=AFTER_4)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(3)
        assert left(gate) == {}
        await anyio.sleep(2)
        assert (left(gate), gate.runner.held["extras"]) == ({"candidate:chat/a": 86}, 1)
        tasks.cancel_scope.cancel()


async def test_a_hedge_that_is_heard_gets_its_tokens_back():
    """It was worth them."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(1)]}, model=AFTER_4)
    await gate.ask()
    assert (left(gate), gate.runner.held["extras"]) == ({}, 0)


async def test_a_hedge_that_is_lost_does_not():
    """The first one's answer earns one of the 14."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(60)]}, model=AFTER_4)
    await gate.ask()
    assert (left(gate), gate.runner.held["extras"]) == ({"candidate:chat/a": 87}, 0)


async def test_a_hedge_that_fails_does_not():
    """It did not help."""
    gate = gateway({"a": [Slow(8)], "b": [Slow(1, DOWN)]}, model=AFTER_4)
    await gate.ask()
    assert left(gate) == {"candidate:chat/a": 87}


async def test_a_hedge_that_a_stop_cancels_does_not():
    """Its work may be billed all the same."""
    gate = gateway({"a": [Slow(5, REFUSED)], "b": [Slow(60)]}, model=AFTER_4)
    with pytest.raises(RunFailed):
        await gate.ask()
    assert left(gate) == {"candidate:chat/a": 86}


async def test_a_hedge_of_a_run_that_its_caller_leaves_gets_its_tokens_back():
    """Nobody knows what would have come of it."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)]}, model=AFTER_4)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()
    assert (left(gate), gate.runner.held["extras"]) == ({}, 0)


async def test_who_was_asked_last_pays_for_a_second_hedge():
    """Each silent one pays for the next; whoever is heard gives back what was paid for it."""
    gate = gateway(
        {"a": [Slow(60)], "b": [Slow(60)], "c": [Slow(2)]}, model={"hedge": {"afterSeconds": 4, "maxExtra": 2}}
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(9)
        assert left(gate) == {"candidate:chat/a": 86, "candidate:chat/b": 86}
    assert left(gate) == {"candidate:chat/a": 86}


async def test_where_nobody_is_suitable_nothing_is_paid():
    """No hedge, no tokens."""
    gate = gateway({"a": [Slow(60)], "b": []}, model=AFTER_4, candidates={"b": {"provider": "a"}})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(5)
        assert (left(gate), gate.runner.held["extras"]) == ({}, 0)
        tasks.cancel_scope.cancel()


async def test_there_is_no_hedge_when_the_budget_is_exhausted():
    """The run waits for the first, and its record says why nobody was asked."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(60)]}, model=AFTER_4, policy={"retryBudget": {"capacity": 20}})
    await gate.ask()
    record = (await gate.ask()).record
    assert (record.candidate, gate.calls()) == ("a", {"a": 2, "b": 1})
    assert [(skip.candidate, skip.at - record.began_at, skip.reason) for skip in record.skips] == [("b", 4, "budget")]
    assert record.skips[0].cause == "no hedge: retry_budget_exhausted (retryBudget.capacity = 20)"


async def test_whom_the_budget_refused_keeps_its_turn():
    """A failover to somebody who shares nothing with what failed is never refused."""
    gate = gateway(
        {"a": [Slow(5), Slow(6, DOWN)], "b": [Slow(60), None]}, model=AFTER_4, policy={"retryBudget": {"capacity": 20}}
    )
    await gate.ask()
    record = (await gate.ask()).record
    assert [(tried.candidate, tried.hedge) for tried in record.tries] == [("a", False), ("b", False)]
    assert record.candidate == "b"


async def test_a_budget_that_is_off_refuses_no_hedge():
    """Neither for its tokens nor for how many there are."""
    gate = gateway(
        {"a": [Slow(5)], "b": [Slow(60)]},
        model=AFTER_4,
        policy={"retryBudget": {"enabled": False, "capacity": 1}},
    )
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(gate.ask)
    assert gate.calls() == {"a": 5, "b": 5}


async def test_only_so_many_hedges_are_under_way_at_once():
    """Three, or a fifth of the runs; the others wait for whom they have asked, and say so."""
    gate = gateway({"a": [Slow(10)], "b": [Slow(60)]}, model=AFTER_4)
    skips = []

    async def ask():
        skips.append([(skip.candidate, skip.reason) for skip in (await gate.ask()).record.skips])

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
        await anyio.sleep(5)
        assert (gate.calls()["b"], gate.runner.held["extras"]) == (3, 3)
    assert sorted(skips) == [[], [], [], [("b", "budget")], [("b", "budget")]]


async def test_a_hedge_that_is_over_makes_room_for_another():
    """What counts are those that are under way."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(1)]}, model=AFTER_4)
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(gate.ask)
    assert gate.calls() == {"a": 15, "b": 15}
