"""The clocks of a run: one deadline over everything, and one for each try."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import Fail, Slow
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
STEADY = {"initialSeconds": 1, "jitter": "none"}


async def test_a_try_that_takes_too_long_is_a_timeout():
    """The candidate's own clock cuts it, and the run goes on to the next."""
    gate = gateway({"a": [Slow(100)], "b": []}, timeouts={"attemptSeconds": 10})
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert anyio.current_time() - began == 10
    assert did(record) == [("a", 1, "timeout", "next"), ("b", 1, "ok", None)]
    assert record.tries[0].failure.info.message == "no answer within 10 s (attemptSeconds)"
    assert gate.clients["a"].in_flight == 0


async def test_one_deadline_lies_over_all_tries():
    """Each try has only the time that the ones before it have left."""
    gate = gateway(
        {"a": [Slow(100)], "b": [Slow(100)], "c": []},
        timeouts={"attemptSeconds": 10},
        model={"timeouts": {"totalSeconds": 15}},
    )
    began = anyio.current_time()
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert (anyio.current_time() - began, caught.value.ending, gate.calls()["c"]) == (15, "deadline", 0)


async def test_a_try_that_the_deadline_cuts_is_not_the_candidates_fault():
    """The caller's time was over: nobody's health hears of it, and the decision is recorded all the same."""
    gate = gateway(
        {"a": [Slow(100)]},
        policy={
            "failoverPolicy": {"ejectAfter": 1},
            "priorityDemotePolicy": {"enabled": True, "categories": ["timeout"]},
        },
    )
    with pytest.raises(RunFailed) as caught:
        await gate.ask(timeout_seconds=1)
    tried = caught.value.record.tries[0]
    assert (tried.failure.blame, tried.effects, gate.state.standings()) == ("caller", (), {})
    assert tried.decisions.failover.reason == "client_retryable"


async def test_a_callers_timeout_can_only_shorten_the_deadline():
    """The model's own total stays the longest."""
    gate = gateway({"a": [Slow(100)]}, model={"timeouts": {"totalSeconds": 5}})
    began = anyio.current_time()
    with pytest.raises(RunFailed):
        await gate.ask(timeout_seconds=50)
    assert anyio.current_time() - began == 5


async def test_a_cancel_scope_around_the_run_is_a_deadline_too():
    """No wait is begun that would outlast it."""
    gate = gateway({"a": [DOWN], "b": []}, retry={"maxAttempts": 2, "backoff": STEADY})
    with anyio.fail_after(0.5):
        assert (await gate.ask()).candidate == "b"


async def test_no_try_starts_without_time():
    """A deadline that is over when the run begins ends it before anybody is called."""
    gate = gateway({"a": []})
    with pytest.raises(RunFailed) as caught:
        await gate.ask(timeout_seconds=0)
    assert (caught.value.ending, gate.calls()) == ("deadline", {"a": 0})


async def test_the_deadline_covers_the_wait_for_a_cooldown():
    """A run does not wait for a candidate that is free only after its deadline."""
    limited = Fail("rate_limit", status=429, retryable=True, hint=10)
    gate = gateway({"a": [limited]}, policy={"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}})
    with pytest.raises(RunFailed):
        await gate.ask()
    began = anyio.current_time()
    with pytest.raises(RunFailed) as caught:
        await gate.ask(timeout_seconds=8)
    assert (caught.value.ending, anyio.current_time()) == ("unavailable", began)


async def test_a_deadline_that_cuts_a_try_is_how_the_run_ended_whatever_was_decided():
    """A stop decision about it changes nothing: the time was over."""
    gate = gateway({"a": [Slow(100)], "b": []}, policy={"failoverPolicy": {"enabled": False}})
    with pytest.raises(RunFailed) as caught:
        await gate.ask(timeout_seconds=1)
    assert caught.value.ending == "deadline"
