"""Hedges: what follows when one of the calls that are under way beside each other fails."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import Fail, Slow, answer
from standby.store import MemoryState
from tests.runner.conftest import did, gateway
from tests.runner.scheduling import Distant

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
REFUSED = Fail("bad_request", "no", status=400)
AFTER_4 = {"hedge": {"afterSeconds": 4}}
COOLED = {"failoverPolicy": {"actions": {"provider_5xx": "cooldown_and_next"}, "cooldownSeconds": 100}}


async def failed_run(gate, **options):
    """The record of a run that nobody answers."""
    with pytest.raises(RunFailed) as caught:
        await gate.ask(**options)
    return caught.value.record


def in_flight(gate):
    return [client.in_flight for client in gate.clients.values()]


# -- one fails ---------------------------------------------------------------------------------------------------


async def test_when_the_first_fails_the_run_waits_for_the_hedge():
    """It is under way already: nobody else is called, and no time is lost."""
    gate = gateway({"a": [Slow(5, DOWN)], "b": [Slow(6)], "c": []}, model=AFTER_4)
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]
    assert (anyio.current_time() - began, gate.calls()["c"]) == (10, 0)


async def test_the_failure_of_the_first_has_its_effects_at_once():
    """It is left out while the hedge is still under way, and the record says so."""
    gate = gateway({"a": [Slow(5, DOWN)], "b": [Slow(6)]}, model=AFTER_4, policy=COOLED)
    records = []

    async def ask():
        records.append((await gate.ask()).record)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(6)
        assert [status.status for status in gate.runner.statuses()] == ["cooling", "usable"]
    assert [type(effect).__name__ for effect in records[0].tries[0].effects] == ["Failed", "Cool"]


async def test_who_fails_beside_another_is_not_tried_again():
    """Its turn is over, whatever the retry decision says: somebody else is at work already."""
    gate = gateway(
        {"a": [Slow(5, DOWN)], "b": [Slow(6)]},
        model=AFTER_4,
        retry={"maxAttempts": 3, "backoff": {"initialSeconds": 1, "jitter": "none"}},
    )
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]
    assert record.tries[0].decisions.retry.retry
    assert record.tries[0].why == "another call is under way"


async def test_the_capacity_of_the_one_that_failed_is_free_at_once():
    """Nobody waits for a lease of it while the hedge is under way."""
    gate = gateway({"a": [Slow(5, DOWN), Slow(1)], "b": [Slow(60)]}, model=AFTER_4, limits={"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(6)
        assert (await gate.ask()).record.queued_seconds == 0
        tasks.cancel_scope.cancel()


async def test_when_the_hedge_fails_the_first_may_still_be_heard():
    """Nobody else is called, and no second hedge is asked."""
    gate = gateway({"a": [Slow(8)], "b": [Slow(1, DOWN)], "c": []}, model=AFTER_4)
    record = (await gate.ask()).record
    assert did(record) == [("b", 1, "provider_5xx", "next"), ("a", 1, "ok", None)]
    assert (record.tries[0].hedge, record.candidate, gate.calls()["c"]) == (True, "a", 0)


async def test_a_hedge_that_fails_is_held_against_its_candidate():
    """As any failure is."""
    gate = gateway({"a": [Slow(8)], "b": [Slow(1, DOWN)]}, model=AFTER_4, policy=COOLED)
    await gate.ask()
    assert [status.status for status in gate.runner.statuses()] == ["usable", "cooling"]


async def test_after_a_hedge_that_failed_another_may_be_asked():
    """When the first is still silent at its time, and `maxExtra` allows."""
    gate = gateway(
        {"a": [Slow(60)], "b": [Slow(1, DOWN)], "c": []}, model={"hedge": {"afterSeconds": 4, "maxExtra": 2}}
    )
    record = (await gate.ask()).record
    assert (record.candidate, [tried.candidate for tried in record.tries if tried.hedge]) == ("c", ["b", "c"])


@pytest.mark.parametrize(
    ("first", "other", "failed"),
    [(Slow(6.1), Slow(2, DOWN), "b"), (Slow(6, DOWN), Slow(2.1), "a")],
    ids=["the hedge", "the first"],
)
async def test_a_failure_is_told_to_the_state_and_who_is_heard_meanwhile_need_not_wait_for_it(first, other, failed):
    """It came first: it has all its effects, and its capacity is free, though the state takes half a second to keep them."""
    gate = gateway(
        {"a": [first], "b": [other]}, model=AFTER_4, policy=COOLED, state=Distant(), limits={"concurrency": 1}
    )
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert round(anyio.current_time() - began, 3) == 6.1
    assert gate.state.standing(f"candidate:chat/{failed}").cooldowns_in_row == 1
    assert (record.ending, record.failovers) == ("answered", 1)
    assert not any(gate.runner.held.values())


class SlowState(MemoryState):
    """A state that is a second away."""

    async def apply(self, effects):
        await anyio.sleep(1)
        await super().apply(effects)


async def test_nobody_is_asked_beside_a_call_that_has_failed():
    """Though its failure is not told to the state yet: the next one is a failover, and costs nothing."""
    gate = gateway({"a": [Slow(3.5, DOWN)], "b": []}, model=AFTER_4, state=SlowState())
    record = (await gate.ask()).record
    assert [(tried.candidate, tried.began_at - record.began_at, tried.hedge) for tried in record.tries] == [
        ("a", 0, False),
        ("b", 4.5, False),
    ]


async def test_a_client_that_answers_its_cancellation_with_an_error_has_not_failed():
    """It was well until it was cancelled."""
    gate = gateway({"a": [], "b": [Slow(1)]}, model=AFTER_4, policy={"failoverPolicy": {"ejectAfter": 1}})

    async def send(_):
        try:
            await anyio.sleep(60)
        finally:
            raise DOWN.error

    gate.clients["a"].send = send
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "abandoned", None), ("b", 1, "ok", None)]
    assert gate.state.standings() == {}


# -- both fail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "other"), [(6, 1), (5, 3)])
async def test_when_both_fail_the_run_goes_on_to_the_next(first, other):
    """Each has had its turn, in whichever order they fail."""
    gate = gateway({"a": [Slow(first, DOWN)], "b": [Slow(other, DOWN)], "c": []}, model=AFTER_4)
    record = (await gate.ask()).record
    assert (record.candidate, record.failovers, gate.calls()) == ("c", 2, {"a": 1, "b": 1, "c": 1})


async def test_when_both_fail_in_the_same_moment_both_are_told():
    """And the run goes on once."""
    gate = gateway({"a": [Slow(5, DOWN)], "b": [Slow(1, DOWN)], "c": []}, model=AFTER_4)
    record = (await gate.ask()).record
    assert sorted(did(record)) == [
        ("a", 1, "provider_5xx", "next"),
        ("b", 1, "provider_5xx", "next"),
        ("c", 1, "ok", None),
    ]


async def test_who_fails_last_may_be_tried_again():
    """Nobody is beside it any more, so it is as in any run."""
    gate = gateway(
        {"a": [Slow(5, DOWN)], "b": [Slow(3, DOWN), None]},
        model=AFTER_4,
        retry={"maxAttempts": 2, "backoff": {"initialSeconds": 1, "jitter": "none"}},
    )
    record = (await gate.ask()).record
    assert did(record) == [
        ("a", 1, "provider_5xx", "next"),
        ("b", 1, "provider_5xx", "retry"),
        ("b", 2, "ok", None),
    ]
    assert [tried.hedge for tried in record.tries] == [False, True, False]


async def test_when_nobody_is_left_the_run_fails_with_both_errors():
    """In the order in which they came."""
    gate = gateway({"a": [Slow(6, DOWN)], "b": [Slow(1, Fail("network", "gone", retryable=True))]}, model=AFTER_4)
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert [error.code for error in caught.value.exceptions] == ["network", "server_error"]
    assert caught.value.ending == "exhausted"


# -- who was passed over -----------------------------------------------------------------------------------------


async def test_one_of_the_same_provider_keeps_its_turn():
    """It was no hedge, and is called when the others have failed."""
    gate = gateway(
        {"a": lambda request: None if request.model == "other" else Slow(6, DOWN), "b": [], "c": [Slow(1, DOWN)]},
        model=AFTER_4,
        candidates={"b": {"provider": "a", "model": "other"}},
    )
    record = (await gate.ask()).record
    assert did(record) == [("c", 1, "provider_5xx", "next"), ("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]


async def test_one_that_was_at_its_limit_keeps_its_turn():
    """It has capacity again when the others have failed."""
    gate = gateway(
        {"a": [Slow(6, DOWN)], "b": [Slow(5), None], "c": [Slow(1, DOWN)]},
        model=AFTER_4,
        overrides={"b": {"rateLimitPolicy": {"concurrency": 1}}},
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: gate.ask(only=["b"]))
        record = (await gate.ask()).record
    assert did(record) == [("c", 1, "provider_5xx", "next"), ("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]


# -- a stop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "other", "stopped_by"), [(Slow(5, REFUSED), Slow(60), "a"), (Slow(60), Slow(1, REFUSED), "b")]
)
async def test_a_stop_ends_the_run_and_cancels_the_other_call(first, other, stopped_by):
    """At once, whoever of them it came from: what they say of the request goes for both."""
    gate = gateway({"a": [first], "b": [other], "c": []}, model=AFTER_4)
    began = anyio.current_time()
    record = await failed_run(gate)
    assert (record.ending, anyio.current_time() - began) == ("stopped", 5)
    assert (in_flight(gate), gate.calls()["c"]) == ([0, 0, 0], 0)
    outcomes = {tried.candidate: (tried.outcome, tried.did, tried.why) for tried in record.tries}
    assert outcomes.pop(stopped_by) == ("request_error", "stop", "")
    assert [*outcomes.values()] == [("abandoned", None, "the run was stopped")]


async def test_a_hard_stop_is_such_a_stop():
    """Though the client calls the failure retryable."""
    gate = gateway(
        {"a": [Slow(5, DOWN)], "b": [Slow(60)], "c": []},
        model=AFTER_4,
        policy={"hardStopPolicy": {"statusCodes": [500]}},
    )
    record = await failed_run(gate)
    assert did(record) == [("a", 1, "provider_5xx", "stop"), ("b", 1, "abandoned", None)]
    assert record.tries[0].rule[0] == "hard_stop_policy"


async def test_whom_a_stop_cancels_is_not_held_to_account():
    """The other call was well, as far as anybody knows."""
    gate = gateway(
        {"a": [Slow(5, REFUSED)], "b": [Slow(60)]}, model=AFTER_4, policy={"failoverPolicy": {"ejectAfter": 1}}
    )
    await failed_run(gate)
    assert gate.state.standing("candidate:chat/b") is None


def in_one_moment(gate, first, then):
    """Let the calls of two candidates end at the fifth second, one just before the other; errors are raised."""
    ended = anyio.Event()

    async def end_first(_):
        await anyio.sleep(began + 5 - anyio.current_time())
        ended.set()
        return raised_or_returned(first[1])

    async def end_then(_):
        await ended.wait()
        return raised_or_returned(then[1])

    def raised_or_returned(outcome):
        if isinstance(outcome, Fail):
            raise outcome.error
        return outcome

    began = anyio.current_time()
    gate.clients[first[0]].send = end_first
    gate.clients[then[0]].send = end_then
    return gate


@pytest.mark.parametrize(("stops", "answers"), [("a", "b"), ("b", "a")])
async def test_an_answer_just_after_a_stop_is_not_heard(stops, answers):
    """The run is over, though the call that answered was not cancelled yet."""
    gate = gateway({"a": [], "b": []}, model=AFTER_4, limits={"concurrency": 1})
    record = await failed_run(in_one_moment(gate, (stops, REFUSED), (answers, answer())))
    assert did(record) == [(stops, 1, "request_error", "stop"), (answers, 1, "abandoned", None)]
    assert (record.tries[1].why, record.ending) == ("the run was stopped", "stopped")
    assert not any(gate.runner.held.values())


async def test_a_failure_just_after_a_stop_is_not_retried():
    """Nothing follows from it: the run is over."""
    gate = gateway({"a": [], "b": []}, model=AFTER_4, retry={"maxAttempts": 3})
    record = await failed_run(in_one_moment(gate, ("a", REFUSED), ("b", DOWN)))
    assert [tried.did for tried in record.tries if tried.did == "retry"] == []
    assert (len(record.tries), record.ending) == (2, "stopped")


@pytest.mark.parametrize(("stops", "answers"), [("a", "b"), ("b", "a")])
async def test_a_stop_just_after_an_answer_changes_nothing(stops, answers):
    """Somebody was heard."""
    gate = gateway({"a": [], "b": []}, model=AFTER_4, limits={"concurrency": 1})
    result = await in_one_moment(gate, (answers, answer()), (stops, REFUSED)).ask()
    assert (result.candidate, result.record.ending) == (answers, "answered")
    assert not any(gate.runner.held.values())


# -- the clocks ----------------------------------------------------------------------------------------------------


async def test_each_call_has_its_own_clock():
    """`attemptSeconds` is counted from each one's own start."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)], "c": []}, model=AFTER_4, timeouts={"attemptSeconds": 7})
    record = (await gate.ask()).record
    took = [
        (tried.candidate, tried.began_at - record.began_at, tried.ended_at - record.began_at) for tried in record.tries
    ]
    assert took == [("a", 0, 7), ("b", 4, 11), ("c", 11, 11)]


async def test_the_deadline_lies_over_both():
    """Both are cut, nobody else is called, and neither is to blame."""
    gate = gateway(
        {"a": [Slow(60)], "b": [Slow(60)], "c": []},
        model={**AFTER_4, "timeouts": {"totalSeconds": 6}},
        policy={"failoverPolicy": {"ejectAfter": 1}},
    )
    began = anyio.current_time()
    record = await failed_run(gate)
    assert (record.ending, anyio.current_time() - began, in_flight(gate)) == ("deadline", 6, [0, 0, 0])
    assert sorted(tried.candidate for tried in record.tries) == ["a", "b"]
    assert gate.state.standings() == {}


async def test_the_deadline_lies_over_a_hedge_that_is_left_alone():
    """It began late, and has only the time that is left."""
    gate = gateway({"a": [Slow(5, DOWN)], "b": [Slow(60)], "c": []}, model={**AFTER_4, "timeouts": {"totalSeconds": 8}})
    began = anyio.current_time()
    record = await failed_run(gate)
    assert (record.ending, anyio.current_time() - began, in_flight(gate)) == ("deadline", 8, [0, 0, 0])
    assert gate.state.standing("candidate:chat/b") is None


async def test_a_shorter_deadline_of_the_caller_lies_over_both_too():
    """It is the same deadline."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)]}, model=AFTER_4)
    began = anyio.current_time()
    record = await failed_run(gate, timeout_seconds=6)
    assert (record.ending, anyio.current_time() - began, in_flight(gate)) == ("deadline", 6, [0, 0])
