"""Limits that processes share, as a runner sees them: who is refused elsewhere, and who goes first."""

import anyio
import pytest

from standby.clients import Body
from standby.runner import RunFailed
from standby.runner._limits import Lease, Refused
from standby.runner.testing import Fail, Slow
from standby.store import Asked, Full, RateLimitPolicy
from tests.runner.conftest import did, gateway
from tests.runner.elsewhere import (
    A_WHILE,
    LONG_QUEUE,
    NO_QUEUE,
    NOTHING,
    ONE_A_MINUTE,
    ONE_AT_A_TIME,
    Elsewhere,
    ended_at,
    sharing,
)

pytestmark = pytest.mark.anyio


# -- refused elsewhere


async def test_whoever_is_refused_elsewhere_goes_to_the_next_candidate():
    """With the decision and the rule of our own limit, without a wait, and without an attempt being counted."""
    elsewhere = Elsewhere()
    await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere, {"a": [], "b": []})
    record = (await gate.ask()).record
    assert did(record) == [("a", 0, "rate_limit", "next"), ("b", 1, "ok", None)]
    assert record.tries[0].rule[0] == "local_rate_limit_try_next_candidate"
    assert (record.attempts, record.queued_seconds) == (1, 0)
    assert gate.runner.held["leases"] == 0


async def test_whoever_is_refused_elsewhere_holds_nothing_here():
    """What was taken here before the others were asked counts for nothing."""
    elsewhere = Elsewhere()
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere, {"a": [], "b": []}, limits={**ONE_AT_A_TIME, "requestsPerMinute": 1})
    await gate.ask()
    other.end(used=False)
    assert (await gate.ask()).candidate == "a"


@pytest.mark.parametrize(("policy", "seconds", "retry_after"), [(ONE_A_MINUTE, 20.0, 40.0), (ONE_AT_A_TIME, 20.0, 1.0)])
async def test_where_nobody_may_wait_the_caller_hears_when_there_is_room(policy, seconds, retry_after):
    """As the others said; a second where nobody knows."""
    elsewhere = Elsewhere()
    await elsewhere.process().hold("chat/a", **policy)
    gate = sharing(elsewhere, limits=policy, model=NO_QUEUE)
    await anyio.sleep(seconds)
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert (caught.value.ending, caught.value.retry_after_seconds) == ("queue_full", retry_after)
    assert elsewhere.held["in line"] == 0


async def test_room_that_came_while_others_were_tried_is_taken_though_nobody_may_wait():
    """The others are asked for it."""
    elsewhere = Elsewhere()
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(
        elsewhere, {"a": [], "b": [Slow(5, Fail("server_error", status=500, retryable=True))]}, model=NO_QUEUE
    )
    async with anyio.create_task_group() as tasks:
        ended = []
        await ended_at(tasks, gate, "run", ended)
        other.end(used=True)
    assert ended == [("run", "a", 5)]
    assert elsewhere.held == NOTHING


async def test_a_call_that_was_refused_for_its_size_keeps_no_smaller_one_from_asking():
    """Nobody waits: room that is too small for one may do for another."""
    elsewhere = Elsewhere()
    policy = {"tokensPerMinute": 1000}
    await elsewhere.process().hold("caller:app", tokens=600, **policy)
    runner = sharing(elsewhere).runner
    limit = RateLimitPolicy.model_validate(policy)
    bodies = [Body.of({"max_tokens": tokens}) for tokens in (500, 100)]
    answers = [await runner.lease("caller:app", limit, body) for body in bodies]
    assert [type(answer) for answer in answers] == [Refused, Lease]


async def test_a_limit_that_is_not_shared_is_asked_for_by_nobody():
    """Each process may use all of it."""
    elsewhere = Elsewhere()
    await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere, limits={**ONE_AT_A_TIME, "shared": False})
    await gate.ask()
    assert elsewhere.asked == {"chat/a": 1}


async def test_a_call_asks_once_for_all_its_limits():
    """Its candidate's and its key's; of all or none."""
    elsewhere = Elsewhere(A_WHILE)
    gate = sharing(elsewhere, providers={"a": {"rate_limit": ONE_AT_A_TIME}})
    await gate.ask()
    assert anyio.current_time() == A_WHILE
    assert elsewhere.asked == {"chat/a": 1, "credential:a": 1}
    assert elsewhere.held == NOTHING


# -- the queue


async def test_whoever_is_refused_everywhere_waits_until_room_is_told_of():
    """Another process gives back, and the run is served at that moment, not when it would have asked again."""
    elsewhere, ended = Elsewhere(), []
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere)
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, gate, "run", ended)
        await anyio.sleep(3.5)
        other.end(used=True)
    assert ended == [("run", "a", 3.75)]
    assert elsewhere.held == NOTHING


async def test_a_time_that_is_known_is_waited_for():
    """The others are asked again then, and not before."""
    elsewhere, ended = Elsewhere(), []
    await elsewhere.process().hold("chat/a", **ONE_A_MINUTE)
    gate = sharing(elsewhere, limits=ONE_A_MINUTE, model=LONG_QUEUE)
    async with anyio.create_task_group() as tasks:
        await anyio.sleep(10)
        await ended_at(tasks, gate, "run", ended)
        asked = elsewhere.asked["chat/a"]
    assert ended == [("run", "a", 60)]
    assert elsewhere.asked["chat/a"] == asked + 1


async def test_where_no_time_is_known_the_others_are_asked_every_second():
    """A message that is lost costs a second, and no place."""
    elsewhere, ended = Elsewhere(), []
    holder = elsewhere.process()
    other = await holder.hold("chat/a", **ONE_AT_A_TIME)
    process = elsewhere.process()
    gate = gateway({"a": []}, limits=ONE_AT_A_TIME, shared=process)
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, gate, "run", ended)
        process.room = lambda _: None
        asked = elsewhere.asked["chat/a"]
        await anyio.sleep(5.25)
        assert elsewhere.asked["chat/a"] == asked + 5
        other.end(used=True)
    assert ended == [("run", "a", 6)]


async def test_a_place_in_line_is_kept_while_its_holder_asks_again():
    """Asking again is no leaving: nobody hears of room that there is not, and nobody asks for that."""
    elsewhere, ended = Elsewhere(2**-10), []
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gates = [sharing(elsewhere) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for gate in gates:
            await ended_at(tasks, gate, "run", ended)
        await anyio.sleep(4)
        assert elsewhere.said == []
        other.end(used=True)


async def test_room_that_is_told_of_while_the_answer_comes_is_asked_for_at_once():
    """The answer was older than what was told."""
    elsewhere, ended = Elsewhere(0.5), []
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere)
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, gate, "run", ended)  # asks at 0.5, and in line at 1
        await anyio.sleep(0.5)
        other.end(used=True)
    assert ended == [("run", "a", 2.0)]


async def test_one_of_many_who_wait_asks_at_a_time():
    """The first of them; the others wait for what it hears."""
    elsewhere, ended = Elsewhere(2**-10), []
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            await ended_at(tasks, gate, number, ended)
        asked = elsewhere.asked["chat/a"]
        await anyio.sleep(10)
        assert elsewhere.asked["chat/a"] == asked + 10
        other.end(used=True)


async def test_when_room_is_told_of_all_who_fit_are_served_in_their_order():
    """One after the other asks, as long as there is room."""
    elsewhere, ended = Elsewhere(), []
    policy = {"concurrency": 3}
    process = elsewhere.process()
    others = [await process.hold("chat/a", **policy) for _ in range(3)]
    gate = sharing(elsewhere, {"a": [Slow(20)]}, limits=policy)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            await ended_at(tasks, gate, number, ended)
        for other in others:
            other.end(used=True)
    assert sorted(ended) == [(0, "a", 21.25), (1, "a", 21.25), (2, "a", 21.25), (3, "a", 41.25), (4, "a", 41.25)]


async def test_of_two_processes_the_one_whose_run_has_waited_longest_goes_first():
    """Whoever asks first when there is room, and however often."""
    elsewhere, ended = Elsewhere(), []
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    left, right = (sharing(elsewhere, {"a": [Slow(2)]}) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        for number, gate in enumerate([right, left, right, left]):
            await ended_at(tasks, gate, number, ended)
        other.end(used=True)
    assert ended == [(0, "a", 3), (1, "a", 5), (2, "a", 7), (3, "a", 9)]
    assert elsewhere.held == NOTHING


async def test_whoever_knows_when_its_turn_comes_is_in_line_until_then():
    """A call of another process that comes at the same moment goes after it."""
    elsewhere, ended, answers = Elsewhere(), [], []
    other = elsewhere.process()
    await other.hold("chat/a", **ONE_A_MINUTE)

    async def come_at_that_moment():
        await anyio.sleep(60)
        asked = [Asked("chat/a", RateLimitPolicy.model_validate(ONE_A_MINUTE), 0)]
        answers.append(await other.take(asked, 0.0, in_line=False))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(come_at_that_moment)
        await anyio.sleep(10)
        await ended_at(tasks, sharing(elsewhere, limits=ONE_A_MINUTE, model=LONG_QUEUE), "waits", ended)
    assert ended == [("waits", "a", 60)]
    assert [type(answer) for answer in answers] == [Full]


@pytest.mark.parametrize(("priority", "order"), [("normal", ["other", "own"]), ("high", ["own", "other"])])
async def test_a_class_of_priority_is_worth_its_seconds_among_processes(priority, order):
    """As within one."""
    elsewhere, ended = Elsewhere(), []
    holder = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    own, other = (sharing(elsewhere, {"a": [Slow(2)]}) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, other, "other", ended)
        await ended_at(tasks, own, "own", ended, priority=priority)
        await anyio.sleep(2)
        holder.end(used=True)
    assert [name for name, _, _ in ended] == order
