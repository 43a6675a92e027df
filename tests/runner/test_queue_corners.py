"""Corners of the queue for local capacity: times that change while a run waits, and what is kept for whom."""

from dataclasses import replace
from functools import partial

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner._limits import Capacity
from standby.runner._queue import Queue as Line
from standby.runner._queue import Ticket
from standby.runner.testing import EPOCH, Fail, Slow, answer
from standby.store import Cool, Queue, RateLimitPolicy
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", status=500, retryable=True)
LONG_WAITS = {"queue": {"maxWaitSeconds": 500}}


async def ask(gate, model="chat", *, max_tokens=0, **options):
    return await gate.runner.run(Request(model, {"max_tokens": max_tokens}), **options)


# -- times that change while a run waits


async def test_whoever_waits_is_served_when_a_minute_is_over_that_was_not_what_it_lacked_at_first():
    """The key's place came back at 35, the candidate's own minute is over at 60."""
    gate = gateway(
        {"a": [answer(), Slow(35), answer()], "b": []},
        candidates={"b": {"provider": "a"}},
        providers={"a": {"rate_limit": {"concurrency": 1}}},
        overrides={"a": {"rateLimitPolicy": {"requestsPerMinute": 1}}},
        model=LONG_WAITS,
    )
    began = anyio.current_time()
    await ask(gate, only=["a"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ask, gate, only=["b"]))
        await anyio.sleep(1)
        await ask(gate, only=["a"])
    assert anyio.current_time() - began == 60


async def test_whoever_waits_is_served_sooner_where_less_was_used_than_estimated():
    """At 30 it was to be 90; at 40 the call under way turns out to have used next to nothing."""
    gate = gateway(
        {"a": [answer(tokens=50), Slow(10, answer(tokens=1)), answer()]},
        limits={"tokensPerMinute": 100},
        model=LONG_WAITS,
    )
    began = anyio.current_time()
    await ask(gate)
    await anyio.sleep(30)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ask, gate, max_tokens=30))
        await anyio.sleep(1)
        await ask(gate, max_tokens=80)
        assert anyio.current_time() - began == 60


async def test_whoever_waited_for_what_was_kept_is_served_a_minute_later():
    """There was room for it at first, then whoever needed much took all of it."""
    gate = gateway({"a": [answer(tokens=60), answer(tokens=95)]}, limits={"tokensPerMinute": 100}, model=LONG_WAITS)
    served_at = {}

    async def one(name, max_tokens):
        await ask(gate, max_tokens=max_tokens)
        served_at[name] = anyio.current_time() - began

    began = anyio.current_time()
    await ask(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "much", 90)
        await anyio.sleep(1)
        tasks.start_soon(one, "little", 20)
    assert served_at == {"much": 60, "little": 120}


async def test_whoever_waits_for_several_is_served_by_the_second_when_the_first_is_kept_for_others():
    """What is free of `x` is kept; `y` is free at 60."""
    gate = gateway(
        {"x": [answer(tokens=60)], "y": []},
        overrides={
            "x": {"rateLimitPolicy": {"tokensPerMinute": 100}},
            "y": {"rateLimitPolicy": {"requestsPerMinute": 1}},
        },
        model=LONG_WAITS,
    )
    began = anyio.current_time()
    await ask(gate, only=["y"])
    await anyio.sleep(20)
    await ask(gate, only=["x"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ask, gate, only=["x"], max_tokens=90))
        await anyio.sleep(1)
        served_by = (await ask(gate)).candidate
        assert (served_by, anyio.current_time() - began) == ("y", 60)


# -- without a queue, or with a full one


async def test_without_a_queue_what_is_kept_for_others_turns_a_run_away():
    """A run of a model without a queue finds room that is kept for another model's run: it is told so, once."""
    gate = gateway(
        {"a": [answer(tokens=60), answer()]},
        providers={"a": {"rate_limit": {"tokensPerMinute": 100}}},
        model=LONG_WAITS,
    )
    snapshot = gate.catalog.snapshot()
    other = snapshot.models["chat"].model_copy(update={"queue": Queue(max_waiting=0)})
    gate.catalog.replace(replace(snapshot, models={**snapshot.models, "other": other}))
    await ask(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ask, gate, max_tokens=90))
        await anyio.sleep(1)
        with pytest.raises(RunFailed) as caught:
            await ask(gate, "other")
    assert caught.value.ending == "queue_full"
    assert caught.value.retry_after_seconds == 1


@pytest.mark.parametrize("max_waiting", [0, 1])
async def test_whose_place_came_back_while_others_were_tried_has_a_turn_after_all(max_waiting):
    """Nobody need wait for it, so it does not matter that nobody else may."""
    gate = gateway(
        {"a": [Slow(3)], "b": [Slow(5, DOWN)], "c": [Slow(50)]},
        overrides={name: {"rateLimitPolicy": {"concurrency": 1}} for name in "ac"},
        model={"queue": {"maxWaiting": max_waiting}},
    )
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            for only in (["a"], ["c"], ["c"])[: 2 + max_waiting]:
                tasks.start_soon(partial(ask, gate, only=only))
                await anyio.sleep(0.1)
            assert (await ask(gate, only=["a", "b"])).candidate == "a"
            scope.cancel()


# -- places


def test_what_is_kept_is_kept_from_whoever_waits_for_something_else_too():
    """What comes free of `x` says nothing about `z`, which is kept for who came first."""
    x, y, z = (
        Capacity(RateLimitPolicy.model_validate(policy))
        for policy in ({"concurrency": 1}, {"concurrency": 1}, {"tokensPerMinute": 100})
    )
    line = Line()
    lease = line.take((x,), 0, 0.0)
    line.take((y,), 0, 0.0)
    line.take((z,), 60, 0.0)
    first = Ticket([("z", (z,))], 90, lambda: None)
    second = Ticket([("y", (y,)), ("z", (z,))], 10, lambda: None)
    third = Ticket([("x", (x,)), ("y", (y,))], 10, lambda: None)
    for now, ticket in enumerate([first, second, third], 1):
        line.join(ticket, "chat", "normal", float(now))
        line.serve(ticket.capacities(), float(now))
    lease.end()
    line.serve([x], 4.0)
    assert [ticket.key for ticket in (first, second, third)] == [None, None, "x"]


async def test_whoever_was_handed_what_it_cannot_use_keeps_its_place():
    """`a` was cooled while it waited; for `b` it is still before whoever came after it."""
    gate = gateway(
        {"a": [Slow(5, Fail("rate_limit", status=429, retryable=True))], "b": [Slow(10), Slow(3)]},
        limits={"concurrency": 1},
        policy={"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}},
    )
    ended = []

    async def one(name, **options):
        try:
            ended.append((name, (await ask(gate, **options)).candidate))
        except RunFailed as failed:
            ended.append((name, failed.ending))

    async with anyio.create_task_group() as tasks:
        for name, options in (
            ("A", {"only": ["a"]}),
            ("B", {"only": ["b"]}),
            ("first", {}),
            ("second", {"only": ["b"]}),
        ):
            tasks.start_soon(partial(one, name, **options))
            await anyio.sleep(1)
    assert ended == [("A", "exhausted"), ("B", "b"), ("first", "b"), ("second", "b")]


async def test_whoever_is_well_again_has_a_turn_while_the_run_waits_for_capacity():
    """`b` was cooling when the run came; to wait on for `a` would be to wait for nothing."""
    gate = gateway({"a": [Slow(50)], "b": []}, limits={"concurrency": 1})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/b", now, now + 5, 1, "test")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ask, gate, only=["a"]))
        await anyio.sleep(1)
        result = await ask(gate)
    assert (result.candidate, result.record.queued_seconds) == ("b", 4)


async def test_whoever_is_turned_away_from_a_full_queue_is_never_told_to_come_at_once():
    """There is room, but it is kept for others."""
    gate = gateway(
        {"a": [answer(tokens=60), answer()]},
        limits={"tokensPerMinute": 100},
        model={"queue": {"maxWaiting": 1, "maxWaitSeconds": 500}},
    )
    await ask(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(ask, gate, max_tokens=90))
        await anyio.sleep(1)
        with pytest.raises(RunFailed) as caught:
            await ask(gate)
    assert (caught.value.ending, caught.value.retry_after_seconds) == ("queue_full", 1)
