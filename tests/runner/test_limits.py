"""Local limits: the next candidate, or the queue."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import EPOCH, Fail, Slow, answer
from standby.store import Cool
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"concurrency": 1}


async def at_once(gate, count, **options):
    """So many runs at once; what each came to, with the seconds it took, in the order in which they ended."""
    ended = []

    async def one(number):
        began = anyio.current_time()
        try:
            ended.append((number, (await gate.ask(**options)).candidate, anyio.current_time() - began))
        except RunFailed as failed:
            ended.append((number, failed.ending, anyio.current_time() - began))

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
    return ended


async def test_a_candidate_at_its_limit_gives_way_to_the_next():
    """Without a wait, with a decision that names our own limit, and without an attempt being counted."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(5)]}, limits=ONE_AT_A_TIME)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        record = (await gate.ask()).record
    assert did(record) == [("a", 0, "rate_limit", "next"), ("b", 1, "ok", None)]
    assert record.attempts == 1
    assert record.tries[0].rule[0] == "local_rate_limit_try_next_candidate"


async def test_our_own_limit_never_touches_a_providers_health():
    """No cooldown, no demotion, no count of failures."""
    gate = gateway(
        {"a": [Slow(5)]},
        limits=ONE_AT_A_TIME,
        policy={
            "failoverPolicy": {"ejectAfter": 1, "actions": {"rate_limit": "cooldown_and_next"}},
            "priorityDemotePolicy": {"enabled": True, "categories": ["rate_limit"]},
        },
    )
    await at_once(gate, 3)
    assert gate.state.standings() == {}


async def test_where_all_are_at_their_limit_runs_wait_first_in_first_out():
    """Each is served when the one before it is done."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME)
    assert await at_once(gate, 4) == [(0, "a", 5), (1, "a", 10), (2, "a", 15), (3, "a", 20)]


async def test_the_wait_in_the_queue_is_in_the_record():
    """`queued_seconds` is what the run waited for local capacity."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        record = (await gate.ask()).record
    assert (record.queued_seconds, record.attempts) == (4, 1)


async def test_whoever_waits_takes_the_candidate_that_is_free_first():
    """A run waits for all the candidates that turned it away for capacity."""
    gate = gateway({"a": [Slow(9)], "b": [Slow(4)]}, limits=ONE_AT_A_TIME)
    assert (await at_once(gate, 3))[-1] in [(2, "b", 8), (0, "a", 9)]
    assert gate.calls() == {"a": 1, "b": 2}


async def test_nobody_overtakes_who_waits():
    """A run that comes when capacity is free finds it already handed over."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME)
    ended = []

    async def ask(name):
        await gate.ask()
        ended.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "first")
        await anyio.sleep(1)
        tasks.start_soon(ask, "waits")
        await anyio.sleep(4)
        tasks.start_soon(ask, "late")
    assert ended == ["first", "waits", "late"]


async def test_a_full_queue_turns_a_run_away_at_once():
    """`maxWaiting` bounds it."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME, model={"queue": {"maxWaiting": 1}})
    assert (await at_once(gate, 3))[0] == (2, "queue_full", 0)


async def test_a_queue_can_be_turned_off():
    """With `maxWaiting` 0 nobody waits."""
    gate = gateway({"a": [Slow(5)]}, limits=ONE_AT_A_TIME, model={"queue": {"maxWaiting": 0}})
    assert (await at_once(gate, 2))[0] == (1, "queue_full", 0)


async def test_the_wait_in_the_queue_is_bounded():
    """After `maxWaitSeconds` the run fails, and its place is given up."""
    gate = gateway({"a": [Slow(50)]}, limits=ONE_AT_A_TIME, model={"queue": {"maxWaitSeconds": 7}})
    assert (await at_once(gate, 2))[0] == (1, "queue_timeout", 7)


async def test_the_deadline_ends_the_wait_in_the_queue():
    """It is the run's deadline then, and no queue time-out."""
    gate = gateway({"a": [Slow(50)]}, limits=ONE_AT_A_TIME)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        with pytest.raises(RunFailed) as caught:
            await gate.ask(timeout_seconds=3)
    assert caught.value.ending == "deadline"


async def test_requests_are_limited_within_any_sixty_seconds():
    """The third call waits until the first is a minute old."""
    gate = gateway({"a": []}, limits={"requestsPerMinute": 2}, model={"queue": {"maxWaitSeconds": 90}})
    await gate.ask()
    await anyio.sleep(30)
    assert await at_once(gate, 3) == [(0, "a", 0), (1, "a", 30), (2, "a", 60)]


@pytest.mark.parametrize("set_by_seconds", [-3600, 3600])
async def test_a_clock_that_is_set_moves_no_window(set_by_seconds):
    """A minute is a minute of the steady clock: set back, the window is not full for an hour; set forward, not empty."""
    gate = gateway({"a": [answer()] * 9}, limits={"requestsPerMinute": 1}, model={"queue": {"maxWaitSeconds": 100}})
    await gate.ask()
    await anyio.sleep(20)
    gate.clock.set(EPOCH + set_by_seconds)
    assert [seconds for *_, seconds in await at_once(gate, 1)] == [40]


async def test_a_clock_that_is_set_back_moves_nobodys_place_in_the_queue():
    """Who comes after the clock was set back an hour goes after who came before."""
    gate = gateway({"a": [Slow(10)] * 9}, limits=ONE_AT_A_TIME)
    ended = []

    async def one(name):
        await gate.ask()
        ended.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "holds it")
        await anyio.sleep(1)
        tasks.start_soon(one, "waits")
        await anyio.sleep(1)
        gate.clock.set(EPOCH - 3600)
        tasks.start_soon(one, "comes later")
    assert ended == ["holds it", "waits", "comes later"]


async def test_a_refused_run_is_told_when_capacity_is_free():
    """The window knows when it opens."""
    gate = gateway({"a": []}, limits={"requestsPerMinute": 1}, model={"queue": {"maxWaiting": 0}})
    await gate.ask()
    await anyio.sleep(20)
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert caught.value.retry_after_seconds == 40


async def test_tokens_are_settled_by_what_the_provider_counted():
    """A call that used more than was estimated makes the next one wait."""
    gate = gateway({"a": [answer(tokens=100)]}, limits={"tokensPerMinute": 100}, model={"queue": {"maxWaiting": 0}})
    await gate.ask()
    with pytest.raises(RunFailed):
        await gate.ask()


async def test_tokens_that_were_not_used_are_free_again():
    """A call that used less than it was allowed leaves the rest to others."""
    gate = gateway({"a": [answer(tokens=1)]}, limits={"tokensPerMinute": 100}, model={"queue": {"maxWaiting": 0}})
    body = {"messages": [], "max_tokens": 90}
    from standby.runner import Request

    for _ in range(3):
        await gate.runner.run(Request("chat", body))


async def test_a_retry_needs_capacity_of_its_own():
    """Two tries are two requests of the minute; the run waits for the second."""
    down = Fail("server_error", status=500, retryable=True)
    gate = gateway(
        {"a": [down, answer()]},
        limits={"requestsPerMinute": 1},
        retry={"maxAttempts": 2, "backoff": {"initialSeconds": 0}},
        model={"queue": {"maxWaitSeconds": 90}},
    )
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert (record.attempts, anyio.current_time() - began) == (2, 60)


async def test_a_stop_for_our_own_limit_waits_for_this_candidate():
    """A policy that keeps rate limits from failing over keeps the run in the queue, not from its answer."""
    gate = gateway(
        {"a": [Slow(5)], "b": []}, limits=ONE_AT_A_TIME, policy={"failoverPolicy": {"denyCategories": ["rate_limit"]}}
    )
    assert await at_once(gate, 2) == [(0, "a", 5), (1, "a", 10)]


async def test_a_hard_stop_for_our_own_limit_ends_the_run():
    """Nothing else is done after a hard stop."""
    gate = gateway(
        {"a": [Slow(5)], "b": []}, limits=ONE_AT_A_TIME, policy={"hardStopPolicy": {"categories": ["rate_limit"]}}
    )
    assert (await at_once(gate, 2))[0] == (1, "stopped", 0)


async def test_without_failover_a_run_waits_for_the_candidate_that_is_its_turn():
    """It may not go to the next, so it queues for the first."""
    gate = gateway({"a": [Slow(5)], "b": []}, limits=ONE_AT_A_TIME)
    assert await at_once(gate, 2, may_fail_over=False) == [(0, "a", 5), (1, "a", 10)]


async def test_after_the_queue_a_failed_candidate_gives_way_to_others_that_are_waited_for():
    """Everybody whom only capacity kept from a turn still gets one."""
    down = Fail("server_error", status=500, retryable=True)
    gate = gateway({"a": [Slow(5), down], "b": [Slow(6), answer()]}, limits=ONE_AT_A_TIME)
    assert sorted(await at_once(gate, 3)) == [(0, "a", 5), (1, "b", 6), (2, "b", 6)]


async def test_a_candidate_that_was_queued_for_and_fails_gives_way_to_the_next():
    """That our own limit kept the run in the queue says nothing about the failure that follows."""
    down = Fail("server_error", status=500, retryable=True)
    policy = {"failoverPolicy": {"denyCategories": ["rate_limit"]}}
    gate = gateway({"a": [Slow(5), down], "b": []}, limits=ONE_AT_A_TIME, policy=policy)
    assert (await at_once(gate, 2))[1][1] == "b"


async def test_a_call_that_was_not_made_uses_no_request():
    """Capacity that is given back unused, since another run had the probe, counts for nothing."""
    gate = gateway({"a": [Slow(1)], "b": []}, limits={"requestsPerMinute": 4})
    await gate.state.apply([Cool("candidate:chat/a", 1.0, 2.0, 1, "test")])
    await at_once(gate, 4)
    served = [(await gate.ask()).candidate for _ in range(3)]
    assert (served, gate.calls()["a"]) == (["a"] * 3, 4)
