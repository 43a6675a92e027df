"""Classes of priority: who goes first where runs wait for local capacity."""

from dataclasses import replace
from functools import partial

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import Slow
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"concurrency": 1}


async def settled():
    """Let every task come as far as it comes at this moment."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def served(*runs, busy_seconds=30):
    """The names of those who wait in the order in which they are served: name, class, when it came up, in seconds."""
    gate = gateway({"a": [Slow(busy_seconds), Slow(1)]}, limits=ONE_AT_A_TIME, model={"queue": {"maxWaitSeconds": 90}})
    order = []

    async def one(name, priority, at):
        await anyio.sleep(at)
        await gate.ask(priority=priority)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await settled()
        for run in runs:
            tasks.start_soon(one, *run)
    return order


async def test_a_high_run_goes_before_a_normal_one_that_came_up_less_than_ten_seconds_earlier():
    """A class is worth ten seconds of waiting."""
    assert await served(("normal", "normal", 1), ("high", "high", 10)) == ["high", "normal"]


async def test_a_high_run_does_not_go_before_what_came_up_more_than_ten_seconds_earlier():
    """Waiting counts for more, in the end, than any class."""
    assert await served(("normal", "normal", 1), ("high", "high", 12)) == ["normal", "high"]


async def test_a_low_run_goes_after_a_normal_one_that_comes_up_less_than_ten_seconds_later():
    """And before what comes up after that."""
    runs = ("low", "low", 1), ("soon", "normal", 10), ("later", "normal", 12)
    assert await served(*runs) == ["soon", "low", "later"]


async def test_the_classes_are_three():
    """What comes up within the same seconds is served class by class, and within a class in order."""
    runs = [
        ("low 1", "low", 1),
        ("normal 1", "normal", 2),
        ("high 1", "high", 3),
        ("low 2", "low", 4),
        ("normal 2", "normal", 5),
        ("high 2", "high", 6),
    ]
    assert await served(*runs) == ["high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"]


async def test_a_run_is_normal_where_nothing_is_said():
    """It goes after a high one, and before a low one."""
    gate = gateway({"a": [Slow(5), Slow(1)]}, limits=ONE_AT_A_TIME)
    order = []

    async def one(name, **options):
        await gate.ask(**options)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        for name, options in (("low", {"priority": "low"}), ("", {}), ("high", {"priority": "high"})):
            await settled()
            tasks.start_soon(partial(one, name, **options))
    assert order == ["high", "", "low"]


@pytest.mark.parametrize(("other", "ended_at"), [("low", 2), ("normal", 12), ("high", 22)])
async def test_nobody_starves(other, ended_at):
    """As many come up as are served, without end: a low run is served before all that come up late enough."""
    gate = gateway({"a": [Slow(1)]}, limits=ONE_AT_A_TIME, model={"queue": {"maxWaitSeconds": 90}})
    ended = []

    async def low():
        await gate.ask(priority="low")
        ended.append(anyio.current_time() - began)

    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        tasks.start_soon(gate.ask)
        await settled()
        tasks.start_soon(low)
        await anyio.sleep(0.5)
        for _ in range(40):
            tasks.start_soon(partial(gate.ask, priority=other))
            await anyio.sleep(1)
    assert ended == [ended_at]


async def test_a_class_interrupts_nobody():
    """A high run waits for the call that is under way, whoever's it is."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(gate.ask, priority="low"))
        await settled()
        record = (await gate.ask(priority="high")).record
    assert (record.queued_seconds, gate.calls()) == (5, {"a": 2})


async def test_where_there_is_room_a_class_means_nothing():
    """A low run is called at once."""
    gate = gateway({"a": []}, limits=ONE_AT_A_TIME)
    assert (await gate.ask(priority="low")).record.queued_seconds == 0


async def test_a_high_run_is_turned_away_from_a_full_queue_too():
    """`maxWaiting` bounds all classes together; nobody who waits is sent away for it."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME, model={"queue": {"maxWaiting": 1}})
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(partial(gate.ask, priority="low"))
            await settled()
        with pytest.raises(RunFailed) as caught:
            await gate.ask(priority="high")
    assert (caught.value.ending, gate.calls()) == ("queue_full", {"a": 2})


async def test_classes_count_across_the_models_that_share_a_key():
    """A high run of one model goes before a normal one of another."""
    gate = gateway({"a": [Slow(5), Slow(1)]}, providers={"a": {"rate_limit": ONE_AT_A_TIME}})
    snapshot = gate.catalog.snapshot()
    gate.catalog.replace(replace(snapshot, models={**snapshot.models, "other": snapshot.models["chat"]}))
    order = []

    async def one(model, priority):
        await gate.runner.run(Request(model, {}), priority=priority)
        order.append((model, priority))

    async with anyio.create_task_group() as tasks:
        for model, priority in (("chat", "high"), ("chat", "normal"), ("other", "normal"), ("other", "high")):
            tasks.start_soon(one, model, priority)
            await settled()
    assert order == [("chat", "high"), ("other", "high"), ("chat", "normal"), ("other", "normal")]


async def test_a_streamed_run_has_a_class_too():
    """It goes before, or after, like any other."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME)
    order = []

    async def stream(priority):
        async with gate.runner.stream(Request("chat", {}), priority=priority):
            order.append(priority)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        for priority in ("low", "normal", "high"):
            await settled()
            tasks.start_soon(stream, priority)
    assert order == ["high", "normal", "low"]


async def test_a_high_run_that_leaves_holds_up_nobody():
    """Those whom it went before are served as if it had never come."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME)
    ended = []

    async def low():
        await gate.ask(priority="low")
        ended.append(anyio.current_time() - began)

    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        for each in (gate.ask, low):
            tasks.start_soon(each)
            await settled()
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(partial(gate.ask, priority="high"))
            await anyio.sleep(2)
            leaving.cancel_scope.cancel()
    assert ended == [10]
