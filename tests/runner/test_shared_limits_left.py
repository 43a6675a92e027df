"""Limits that processes share, and a run that leaves: it holds nothing anywhere, and keeps nobody waiting."""

import anyio
import pytest

from standby.clients import Body
from standby.runner import RunFailed
from standby.runner._limits import Lease, Refused
from standby.runner.testing import EPOCH, Fail
from standby.store import RateLimitPolicy
from tests.runner.conftest import gateway
from tests.runner.elsewhere import (
    NOTHING,
    ONE_A_MINUTE,
    ONE_AT_A_TIME,
    Elsewhere,
    ended_at,
    sharing,
    unannounced,
)

pytestmark = pytest.mark.anyio


# -- a run that leaves


async def leave_by_deadline(gate):
    """The run's own time is over."""
    with pytest.raises(RunFailed, match="deadline"):
        await gate.ask(timeout_seconds=1.5)


async def leave_by_cancel(gate):
    """The caller goes away."""
    await unannounced(1.375, gate.ask)


async def leave_by_queue(gate):
    """It waited for as long as it may."""
    with pytest.raises(RunFailed, match="queue_timeout"):
        await gate.ask()


@pytest.mark.parametrize("leave", [leave_by_deadline, leave_by_cancel, leave_by_queue])
@pytest.mark.parametrize("seconds", [0.0, 0.25])
async def test_a_run_that_leaves_keeps_nobody_waiting(leave, seconds):
    """Who is next in another process goes first from that moment on."""
    elsewhere, ended = Elsewhere(seconds), []
    process = elsewhere.process()
    others = [await process.hold("chat/a", concurrency=2) for _ in range(2)]
    gate = sharing(elsewhere, limits={"concurrency": 2}, model={"queue": {"maxWaitSeconds": 1.5}})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave, gate)
        await anyio.sleep(3)
        assert elsewhere.held == {**NOTHING, "out": 2}
        assert not any(gate.runner.held.values())
        others[0].end(used=True)
        await ended_at(tasks, sharing(elsewhere, limits={"concurrency": 2}), "next", ended)
        assert ended or seconds
    assert [came_to for _, came_to, _ in ended] == ["a"]


@pytest.mark.parametrize("left_after", [0.5, 0.75, 1.0])
async def test_a_run_that_leaves_while_others_here_wait_gives_up_no_place(left_after):
    """Neither while it waits, nor while it asks."""
    elsewhere, ended = Elsewhere(0.25), []
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    process = elsewhere.process()
    gate = gateway({"a": []}, limits=ONE_AT_A_TIME, shared=process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(unannounced, left_after, gate.ask)
        await anyio.sleep(0.125)
        await ended_at(tasks, gate, "stays", ended)
        await anyio.sleep(left_after)
        assert process.left == []
        assert elsewhere.in_line("chat/a")
        other.end(used=True)
    assert [name for name, _, _ in ended] == ["stays"]
    assert elsewhere.held == NOTHING


@pytest.mark.parametrize("seconds", [0.125, 0.25])
async def test_a_grant_that_comes_as_the_caller_leaves_is_ended(seconds):
    """And is used for nothing."""
    elsewhere = Elsewhere(0.5)
    gate = sharing(elsewhere)
    await unannounced(seconds, gate.ask)
    assert [grant.ended for grant in elsewhere.grants] == [[False]]
    assert (gate.runner.held["leases"], gate.calls()) == (0, {"a": 0})


async def test_whoever_waits_here_is_served_when_the_one_that_asks_leaves():
    """What it had taken here is free again."""
    elsewhere, ended = Elsewhere(0.5), []
    gate = sharing(elsewhere)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(unannounced, 0.25, gate.ask)
        await anyio.sleep(0.125)
        await ended_at(tasks, gate, "stays", ended)
    assert ended == [("stays", "a", 0.75)]


# -- what a grant is told


@pytest.mark.parametrize(("outcome", "tokens"), [(None, 10), (Fail("server_error", status=500, retryable=True), None)])
async def test_a_grant_is_ended_once(outcome, tokens):
    """With what the provider counted, where it did; and it was used."""
    elsewhere = Elsewhere()
    gate = sharing(elsewhere, {"a": [outcome]}, limits={"tokensPerMinute": 1000})
    try:
        await gate.ask()
    except RunFailed:
        assert tokens is None
    assert [(grant.ended, grant.counted) for grant in elsewhere.grants] == [([True], tokens)]


# -- a caller's key


async def test_a_callers_limit_is_shared():
    """Refused with the time at which there is room; granted, and given back by who asked."""
    elsewhere = Elsewhere()
    await elsewhere.process().hold("caller:app", **ONE_A_MINUTE)
    runner = sharing(elsewhere).runner
    limit, body = RateLimitPolicy.model_validate(ONE_A_MINUTE), Body.of({})
    await anyio.sleep(20)
    assert await runner.lease("caller:app", limit, body) == Refused(EPOCH + 60)
    await anyio.sleep(40)
    lease = await runner.lease("caller:app", limit, body)
    lease.end(tokens=7)
    lease.end(tokens=7)
    assert [(grant.ended, grant.counted) for grant in elsewhere.grants[1:]] == [([True], 7)]


async def test_a_caller_that_leaves_while_its_limit_is_asked_for_holds_nothing():
    """Neither here nor elsewhere."""
    elsewhere = Elsewhere(0.5)
    runner = sharing(elsewhere).runner
    limit, body = RateLimitPolicy.model_validate(ONE_AT_A_TIME), Body.of({})
    await unannounced(0.25, lambda: runner.lease("caller:app", limit, body))
    assert isinstance(await runner.lease("caller:app", limit, body), Lease)
    assert [grant.ended for grant in elsewhere.grants] == [[False], []]
