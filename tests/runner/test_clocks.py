"""Which clock cuts a try, how little time is too little to begin one, and what lies over a run from outside."""

import asyncio

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import EPOCH, Fail, Slow, Streamed, VirtualLoop, answer
from standby.store import Cool
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
NOTHING = {"runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}


def steady(seconds):
    """Two tries, with so long a wait between them."""
    return {"maxAttempts": 2, "backoff": {"initialSeconds": seconds, "maxSeconds": 60, "jitter": "none"}}


async def failed_run(gate, **options):
    """The record of a run that fails, and the seconds it took."""
    with pytest.raises(RunFailed) as caught:
        await gate.ask(**options)
    return caught.value.record, caught.value.record.ended_at - caught.value.record.began_at


# -- too little time to begin --------------------------------------------------------------------------------------


async def test_no_try_starts_with_less_than_half_a_second_left():
    """The default: what would be cut before it can answer is not called, and not paid for."""
    gate = gateway({"a": [Slow(9.75, DOWN)], "b": []})
    record, seconds = await failed_run(gate, timeout_seconds=10)
    assert (record.ending, seconds, gate.calls()) == ("deadline", 9.75, {"a": 1, "b": 0})


async def test_a_try_starts_with_half_a_second_left():
    """The default is enough for who answers quickly."""
    gate = gateway({"a": [Slow(9.5, DOWN)], "b": []})
    assert (await gate.ask(timeout_seconds=10)).candidate == "b"


@pytest.mark.parametrize(("failed_at", "called"), [(6.75, 1), (7.25, 0)])
async def test_the_least_useful_time_is_the_candidates(failed_at, called):
    """`minUsefulSeconds` is a policy of the candidate, since some answer sooner than others."""
    gate = gateway(
        {"a": [Slow(failed_at, DOWN)], "b": [Slow(2.5)]}, overrides={"b": {"timeouts": {"minUsefulSeconds": 3}}}
    )
    if called:
        assert (await gate.ask(timeout_seconds=10)).candidate == "b"
    else:
        await failed_run(gate, timeout_seconds=10)
    assert gate.calls()["b"] == called


async def test_who_needs_less_time_is_tried_where_another_is_not():
    """The run goes on down its order."""
    gate = gateway({"a": [Slow(8, DOWN)], "b": [], "c": []}, overrides={"b": {"timeouts": {"minUsefulSeconds": 5}}})
    record = (await gate.ask(timeout_seconds=10)).record
    assert did(record) == [("a", 1, "provider_5xx", "next"), ("c", 1, "ok", None)]
    assert [(skip.candidate, skip.reason) for skip in record.skips] == [("b", "deadline")]


async def test_it_can_be_turned_off():
    """With 0 a try starts as long as there is any time."""
    gate = gateway({"a": [Slow(9.75, DOWN)], "b": []}, timeouts={"minUsefulSeconds": 0})
    assert (await gate.ask(timeout_seconds=10)).candidate == "b"


async def test_who_is_not_called_for_want_of_time_is_told():
    """Once each, with how much was left and how much was wanted."""
    gate = gateway({"a": [Slow(9, DOWN)], "b": [], "c": []}, timeouts={"minUsefulSeconds": 2})
    record, _ = await failed_run(gate, timeout_seconds=10)
    assert [(skip.candidate, skip.reason, skip.cause) for skip in record.skips] == [
        ("b", "deadline", "1 s left, minUsefulSeconds 2"),
        ("c", "deadline", "1 s left, minUsefulSeconds 2"),
    ]
    assert [skip["reason"] for skip in record.as_dict()["skips"]] == ["deadline", "deadline"]


async def test_a_short_run_uses_half_of_its_own_time():
    """A caller with a fifth of a second has its first try, and a second one where that failed early."""
    gate = gateway({"a": [Slow(0.05, DOWN)], "b": [Slow(0.05)]})
    assert (await gate.ask(timeout_seconds=0.2)).candidate == "b"


async def test_a_short_run_starts_no_try_in_its_second_half():
    """Half of its own time is what is useful then."""
    gate = gateway({"a": [Slow(0.15, DOWN)], "b": []})
    record, seconds = await failed_run(gate, timeout_seconds=0.2)
    assert (record.ending, gate.calls()) == ("deadline", {"a": 1, "b": 0})
    assert seconds == pytest.approx(0.15, abs=1e-3)


async def test_the_end_for_want_of_time_waits_for_no_cooldown():
    """Though one is over before the deadline: what is free then could not be called either."""
    gate = gateway({"a": [], "b": [Slow(9, DOWN)], "c": []}, timeouts={"minUsefulSeconds": 2})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 9.5, 1, "test")])
    record, seconds = await failed_run(gate, timeout_seconds=10)
    assert (record.ending, seconds) == ("deadline", 9)
    assert [(skip.candidate, skip.reason) for skip in record.skips] == [("a", "cooling"), ("c", "deadline")]


async def test_the_end_for_want_of_time_waits_for_no_capacity():
    """Though there may be some before the deadline."""
    gate = gateway(
        {"a": [Slow(10.5)], "b": [Slow(9, DOWN)], "c": []},
        timeouts={"minUsefulSeconds": 2},
        overrides={"a": {"rateLimitPolicy": {"concurrency": 1}}},
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        record, seconds = await failed_run(gate, timeout_seconds=10)
    assert (record.ending, seconds, record.queued_seconds) == ("deadline", 9, 0)


async def test_a_run_that_was_served_too_late_ends_at_once():
    """Local capacity came when too little time was left for who has it: it is handed on, and nobody else waited for."""
    gate = gateway(
        {"a": [Slow(10), answer()], "b": [Slow(50)]},
        overrides={"a": {"timeouts": {"minUsefulSeconds": 2}}},
        limits={"concurrency": 1},
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: gate.ask(only=["a"]))
        tasks.start_soon(lambda: gate.ask(only=["b"]))
        await anyio.sleep(1)
        record, seconds = await failed_run(gate, timeout_seconds=10)
        assert (record.ending, seconds, gate.calls()) == ("deadline", 9, {"a": 1, "b": 1})
        assert [(skip.candidate, skip.reason) for skip in record.skips] == [("a", "deadline")]
        assert (await gate.ask(only=["a"])).candidate == "a"
    assert gate.runner.held == NOTHING


@pytest.mark.parametrize(("wait_seconds", "did_what", "then_at"), [(1.25, "next", 7), (0.75, "retry", 7.75)])
async def test_no_wait_for_a_retry_is_begun_that_leaves_too_little_time(wait_seconds, did_what, then_at):
    """The next candidate has the time instead; a shorter wait is made."""
    script = [Slow(7, DOWN), answer()]
    gate = gateway({"a": script, "b": []}, retry=steady(wait_seconds), timeouts={"minUsefulSeconds": 2})
    record = (await gate.ask(timeout_seconds=10)).record
    assert (record.tries[0].did, record.tries[1].began_at - record.began_at) == (did_what, then_at)


async def test_a_wait_that_is_not_begun_says_why():
    """The retry decision stands; the time is what was lacking."""
    gate = gateway({"a": [Slow(7, DOWN)], "b": []}, retry=steady(1.25), timeouts={"minUsefulSeconds": 2})
    tried = (await gate.ask(timeout_seconds=10)).record.tries[0]
    assert (tried.decisions.retry.retry, tried.why) == (True, "the deadline comes before the next try")


# -- the tightest clock wins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "first_token", "total", "message", "blame"),
    [
        (3, 2, 9, "no answer within 3 s (attemptSeconds)", "candidate"),
        (9, 2, 3, "the run's deadline cut the call after 3 s", "caller"),
    ],
)
async def test_the_tighter_of_attempt_and_deadline_cuts_a_plain_try(attempt, first_token, total, message, blame):
    """The failure says which it was; a plain answer has no first content to wait for."""
    timeouts = {"attemptSeconds": attempt, "firstTokenSeconds": first_token}
    record, seconds = await failed_run(gateway({"a": [Slow(100)]}, timeouts=timeouts), timeout_seconds=total)
    failure = record.tries[0].failure
    assert (seconds, failure.info.message, failure.blame) == (3, message, blame)


@pytest.mark.parametrize(
    ("attempt", "first_token", "total", "message", "blame"),
    [
        (3, 6, 9, "no answer within 3 s (attemptSeconds)", "candidate"),
        (6, 3, 9, "no answer within 3 s (firstTokenSeconds)", "candidate"),
        (9, 6, 3, "the run's deadline cut the call after 3 s", "caller"),
    ],
)
async def test_the_tightest_of_attempt_first_content_and_deadline_cuts_a_stream(
    attempt, first_token, total, message, blame
):
    """Until it has content, however much else it sends."""
    gate = gateway(
        {"a": [Streamed(*["", 0.5] * 100)]}, timeouts={"attemptSeconds": attempt, "firstTokenSeconds": first_token}
    )
    began = anyio.current_time()
    with pytest.raises(RunFailed) as caught:
        async with gate.runner.stream(Request("chat", {}), timeout_seconds=total):
            pass
    failure = caught.value.record.tries[0].failure
    assert (anyio.current_time() - began, failure.info.message, failure.blame) == (3, message, blame)


# -- from outside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "own", "total"), [(5, 7, 9), (9, 5, 7), (7, 9, 5)])
async def test_the_shortest_of_scope_timeout_and_total_bounds_a_run(scope, own, total):
    """A cancel scope around it, `timeout_seconds` and the model's `totalSeconds`."""
    gate = gateway({"a": [Slow(100)]}, model={"timeouts": {"totalSeconds": total}})
    began = anyio.current_time()
    with pytest.raises((RunFailed, TimeoutError)):
        with anyio.fail_after(scope):
            await gate.ask(timeout_seconds=own)
    assert (anyio.current_time() - began, gate.runner.held) == (5, NOTHING)


async def test_a_scope_that_ends_a_run_abandons_it():
    """`move_on_after` goes on behind it; everything is given back and nobody's health changes."""
    gate = gateway({"a": [Slow(100)]}, limits={"concurrency": 1}, policy={"failoverPolicy": {"ejectAfter": 1}})
    began = anyio.current_time()
    with anyio.move_on_after(3) as scope:
        await gate.ask(run_id="cut")
    assert (scope.cancelled_caught, anyio.current_time() - began) == (True, 3)
    assert (gate.runner.held, gate.clients["a"].in_flight, gate.state.standings()) == (NOTHING, 0, {})
    assert (await gate.runner.history.get("cut"))["ending"] == "abandoned"


async def test_no_try_starts_with_too_little_time_left_of_a_scope():
    """The run fails at once, and does not wait to be cut."""
    gate = gateway({"a": [Slow(9.75, DOWN)], "b": []})
    with anyio.fail_after(10):
        record, seconds = await failed_run(gate)
    assert (record.ending, seconds, gate.calls()["b"]) == ("deadline", 9.75, 0)


async def test_no_cooldown_is_waited_for_that_leaves_too_little_time():
    """The run fails at once."""
    gate = gateway({"a": []}, timeouts={"minUsefulSeconds": 2})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 9, 1, "test")])
    began = anyio.current_time()
    with pytest.raises(RunFailed):
        await gate.ask(timeout_seconds=10)
    assert anyio.current_time() == began


async def test_no_run_waits_for_capacity_that_comes_too_late():
    """The wait in the queue ends when what is left is of no use; it is the deadline that ended it."""
    gate = gateway({"a": [Slow(100)]}, timeouts={"minUsefulSeconds": 2}, limits={"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        began = anyio.current_time()
        with pytest.raises(RunFailed) as caught:
            await gate.ask(timeout_seconds=10)
        assert (caught.value.ending, anyio.current_time() - began) == ("deadline", 8)


async def test_whoever_follows_one_that_was_admitted_too_late_takes_its_own_capacity():
    """The queue's capacity for one candidate is none for another."""
    gate = gateway(
        {"a": [Slow(7), answer()], "b": [Slow(50)]},
        limits={"concurrency": 1},
        overrides={"a": {"timeouts": {"minUsefulSeconds": 5}}},
    )
    now = EPOCH + anyio.current_time()

    async def until_eleven():
        with pytest.raises(RunFailed):
            await gate.ask(timeout_seconds=11)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        tasks.start_soon(lambda: gate.ask(only=["b"]))
        await anyio.sleep(0.5)
        await gate.state.apply([Cool("candidate:chat/b", now, now + 6, 1, "test")])
        tasks.start_soon(until_eleven)
        await anyio.sleep(7)
        assert gate.clients["b"].in_flight == 1


def everything_a_run_holds():
    """A run that calls until 2, waits for its retry until 3, calls until 5, and waits in the queue until 50."""
    return gateway(
        {"a": [Slow(2, DOWN), Slow(2, DOWN)], "b": [Slow(50)]},
        retry=steady(1),
        limits={"concurrency": 1},
        policy={"failoverPolicy": {"ejectAfter": 0}},
        model={"queue": {"maxWaitSeconds": 100}},
    )


ASYNCIO = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["asyncio"])


@ASYNCIO
@pytest.mark.parametrize("after_seconds", [1, 2.5, 4, 20])
async def test_asyncios_timeout_abandons_a_run_wherever_it_is(after_seconds):
    """A clock that no cancel scope knows of cancels it: all is given back, and the record says that nobody waited."""
    gate = everything_a_run_holds()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: gate.ask(only=["b"]))
        await anyio.sleep(1)
        before = gate.runner.held
        began = anyio.current_time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after_seconds):
                await gate.ask(run_id="cut")
        assert (anyio.current_time() - began, gate.runner.held) == (after_seconds, before)
        assert gate.clients["a"].in_flight == 0
        tasks.cancel_scope.cancel()
    assert gate.runner.held == NOTHING
    assert (await gate.runner.history.get("cut"))["ending"] == "abandoned"


@ASYNCIO
async def test_asyncios_timeout_abandons_a_wait_for_a_cooldown():
    """Nobody is left waiting, and the candidate stays as it was."""
    gate = gateway({"a": []})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 20, 1, "test")])
    before = gate.state.standings()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await gate.ask()
    assert (gate.runner.held, gate.state.standings()) == (NOTHING, before)


@ASYNCIO
@pytest.mark.parametrize("after_seconds", [1, 3])
async def test_asyncios_timeout_abandons_a_stream(after_seconds):
    """Before its first content and after it."""
    gate = gateway({"a": [Slow(2, Streamed("x", 100))]}, limits={"concurrency": 1})
    began = anyio.current_time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_seconds):
            async with gate.runner.stream(Request("chat", {}), run_id="cut") as stream:
                async for _ in stream:
                    pass
    assert (anyio.current_time() - began, gate.runner.held) == (after_seconds, NOTHING)
    assert (gate.clients["a"].in_flight, gate.state.standings()) == (0, {})
    kept = await gate.runner.history.get("cut")
    assert (kept["ending"], kept["tries"][0]["outcome"]) == ("abandoned", "abandoned")
