"""What a policy disabled comes back by itself where `recheckSeconds` says so: one run probes it after that time."""

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import EPOCH, Fail, Slow, Streamed, answer
from standby.store import Cool, Disable, Enable
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

HERE = "candidate:chat/a"
BAD_KEY = Fail("auth_failed", "wrong key", status=401, scope="credential", work="rejected")
DOWN = Fail("server_error", "down", status=500, retryable=True)


def recheck(seconds=60, **failover):
    """A policy that disables whose key is refused, and has it checked again."""
    return {
        "failoverPolicy": {
            "allowCategories": ["auth_error"],
            "actions": {"auth_error": "disable_and_next"},
            "recheckSeconds": seconds,
            "ejectAfter": 0,
            **failover,
        }
    }


def now():
    return EPOCH + anyio.current_time()


def status(gate):
    return gate.runner.statuses()[0]


async def test_until_the_recheck_nobody_calls_it():
    """However many runs there are, and each says why and until when."""
    gate = gateway({"a": [BAD_KEY], "b": []}, policy=recheck())
    began = now()
    await gate.ask()
    await anyio.sleep(59)
    record = (await gate.ask()).record
    assert gate.calls() == {"a": 1, "b": 2}
    assert [(skip.candidate, skip.reason, skip.until) for skip in record.skips] == [("a", "disabled", began + 60)]


async def test_one_run_rechecks_it():
    """The others keep to the next candidate until that one has its answer."""
    gate = gateway({"a": [BAD_KEY, Slow(5)], "b": []}, policy=recheck())
    await gate.ask()
    await anyio.sleep(60)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(gate.ask)
    assert gate.calls() == {"a": 2, "b": 5}


async def test_one_that_answers_is_enabled():
    """It is called like any other; that it was out is remembered for as long as it was, as after a cooldown."""
    gate = gateway({"a": [BAD_KEY, answer()], "b": []}, policy=recheck())
    await gate.ask()
    await anyio.sleep(60)
    assert [(await gate.ask()).candidate for _ in range(3)] == ["a", "a", "a"]
    assert (status(gate).status, status(gate).cooldowns_in_row) == ("usable", 1)
    await anyio.sleep(60)
    await gate.ask()
    assert gate.state.standing(HERE) is None


async def test_one_that_another_process_disabled_is_enabled_too():
    """Nothing but the disablement is known of it here."""
    gate = gateway({"a": [answer()], "b": []}, policy=recheck())
    await gate.state.apply([Disable(HERE, now(), "policy", "auth_error", now() + 60)])
    await anyio.sleep(60)
    assert ((await gate.ask()).candidate, status(gate).status) == ("a", "usable")


async def test_a_stream_that_answers_enables_it_too():
    """Its first content is the answer."""
    gate = gateway({"a": [BAD_KEY, Streamed("x", 100)], "b": []}, policy=recheck())
    await gate.ask()
    await anyio.sleep(60)
    async with gate.runner.stream(Request("chat", {})) as stream:
        assert (stream.record.candidate, status(gate).status) == ("a", "usable")


async def test_one_that_fails_is_disabled_for_as_long_again():
    """Each time, and never longer: this is no cooldown that grows."""
    gate = gateway({"a": [BAD_KEY], "b": []}, policy=recheck())
    await gate.ask()
    for number in range(1, 4):
        await anyio.sleep(59)
        await gate.ask()
        assert gate.calls()["a"] == number
        await anyio.sleep(1)
        await gate.ask()
        assert (gate.calls()["a"], status(gate).until) == (number + 1, now() + 60)


@pytest.mark.parametrize(
    "failure",
    [
        DOWN,
        Fail("timeout", "too late", retryable=True),
        Fail("rate_limit", "slow down", status=429, retryable=True, hint=5),
        Fail("overloaded", "too much", status=529, retryable=True, scope="provider"),
        Fail("unsupported_model", "no such model", status=404),
        ValueError("broken"),
    ],
)
async def test_one_that_fails_is_disabled_whatever_the_failure(failure):
    """Though no action disables for that."""
    gate = gateway({"a": [BAD_KEY, failure], "b": []}, policy=recheck())
    await gate.ask()
    await anyio.sleep(60)
    try:
        record = (await gate.ask()).record
    except RunFailed as failed:
        record = failed.record
    assert (record.tries[0].candidate, status(gate).status, status(gate).until) == ("a", "disabled", now() + 60)


async def test_one_that_fails_is_not_tried_again_in_the_same_run():
    """What the failure does leaves it out: the run goes on at once."""
    gate = gateway({"a": [BAD_KEY, DOWN], "b": []}, policy=recheck(), retry={"maxAttempts": 3})
    await gate.ask()
    await anyio.sleep(60)
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]


async def test_one_that_is_cancelled_is_left_to_the_next_run():
    """The lease is given back, and nothing else changes."""
    gate = gateway({"a": [BAD_KEY, Slow(100), answer()], "b": []}, policy=recheck())
    await gate.ask()
    await anyio.sleep(60)
    before = gate.state.standing(HERE)
    with anyio.move_on_after(1):
        await gate.ask()
    assert (gate.state.standing(HERE), gate.runner.held["probes"]) == (before, 0)
    assert (await gate.ask()).candidate == "a"


@pytest.mark.parametrize("at_first", [[], [Disable(HERE, EPOCH, "policy", "auth_error", EPOCH + 60)]])
async def test_what_an_operator_disabled_is_never_rechecked(at_first):
    """Nor what a policy had disabled before: the operator's word is the last."""
    gate = gateway({"a": [], "b": []}, policy=recheck())
    await gate.state.apply([*at_first, Disable(HERE, EPOCH, "ada", "rotating keys")])
    await anyio.sleep(80_000)
    record = (await gate.ask()).record
    assert (gate.calls()["a"], record.skips[0].cause) == (0, "disabled by ada: rotating keys")


async def test_a_policy_brings_nothing_back_that_an_operator_disabled_meanwhile():
    """A call that was under way fails, and its action says: disabled, and checked again."""
    gate = gateway({"a": [Slow(5, BAD_KEY)], "b": []}, policy=recheck())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        await gate.state.apply([Disable(HERE, now(), "ada", "rotating keys")])
    await anyio.sleep(80_000)
    await gate.ask()
    assert (gate.calls()["a"], gate.state.standing(HERE).disabled_by) == (1, "ada")


async def test_without_recheck_seconds_nothing_is_rechecked():
    """The default, 0, leaves it to an operator."""
    gate = gateway({"a": [BAD_KEY, answer()], "b": []}, policy=recheck(0))
    await gate.ask()
    await anyio.sleep(80_000)
    await gate.ask()
    assert (gate.calls()["a"], status(gate).until) == (1, 0)


async def test_an_operator_need_not_wait_for_it():
    """Enabled is enabled."""
    gate = gateway({"a": [BAD_KEY, answer()], "b": []}, policy=recheck())
    await gate.ask()
    await gate.state.apply([Enable(HERE, now(), "ada")])
    assert ((await gate.ask()).candidate, gate.state.standing(HERE)) == ("a", None)


async def test_an_answer_to_a_call_from_before_proves_nothing():
    """It began when the key was still good: only what began after the time is a recheck."""
    gate = gateway({"a": [Slow(90), BAD_KEY], "b": []}, policy=recheck())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        await gate.ask()
    assert status(gate).status == "half_open"


async def test_a_candidates_own_recheck_seconds_replace_the_gateways():
    """Its override is laid over the policy key by key."""
    gate = gateway(
        {"a": [BAD_KEY, answer()], "b": []},
        policy=recheck(),
        overrides={"a": {"failoverPolicy": {"recheckSeconds": 5}}},
    )
    await gate.ask()
    await anyio.sleep(5)
    assert (await gate.ask()).candidate == "a"


async def test_the_status_says_when_it_is_checked_again():
    """In numbers and in words, and that it is due when it is."""
    gate = gateway({"a": [BAD_KEY], "b": []}, policy=recheck())
    began = now()
    await gate.ask()
    found = status(gate)
    assert (found.status, found.until) == ("disabled", began + 60)
    assert found.cause.startswith("disabled by policy: auth_error: failover_allow_policy")
    assert found.told[0].endswith("A run checks it again from 2023-11-14 22:14:20 UTC on.")
    await anyio.sleep(60)
    assert status(gate).status == "half_open"


async def test_a_recheck_waits_for_a_cooldown_that_lasts_longer():
    """Whatever is held against the candidate must be over."""
    gate = gateway({"a": [BAD_KEY, answer()], "b": []}, policy=recheck())
    await gate.ask()
    await gate.state.apply([Cool("provider:a", now(), now() + 90, 1, "provider_overloaded")])
    await anyio.sleep(60)
    assert (await gate.ask()).candidate == "b"
    await anyio.sleep(31)
    assert (await gate.ask()).candidate == "a"
    assert status(gate).status == "usable"


PATIENT = {"attemptSeconds": 500}


async def test_a_failure_from_before_does_not_put_the_recheck_off():
    """A call that was under way when the candidate was disabled, and fails later, is of the same incident."""
    gate = gateway({"a": [Slow(50, BAD_KEY), BAD_KEY, answer()], "b": []}, policy=recheck(), timeouts=PATIENT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        await gate.ask()
        until = status(gate).until
    assert (status(gate).status, status(gate).until) == ("disabled", until)


async def test_a_failure_from_before_does_not_undo_the_recheck():
    """Neither while the probe is out nor when it has answered."""
    for fails_after in (63, 100):
        gate = gateway(
            {"a": [Slow(fails_after, BAD_KEY), BAD_KEY, Slow(5)], "b": []}, policy=recheck(), timeouts=PATIENT
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.ask)
            await anyio.sleep(1)
            await gate.ask()
            await anyio.sleep(60)
            assert (await gate.ask()).candidate == "a"
        assert status(gate).status == "usable"


async def test_a_request_that_is_refused_proves_nothing():
    """What concerns the request says nothing of the candidate: the next run checks it."""
    refused = Fail("bad_request", "no", status=400, scope="request")
    gate = gateway({"a": [BAD_KEY, refused, answer()], "b": []}, policy=recheck())
    await gate.ask()
    await anyio.sleep(60)
    with pytest.raises(RunFailed):
        await gate.ask()
    assert status(gate).status == "half_open"
    assert (await gate.ask()).candidate == "a"


async def test_where_all_are_disabled_the_run_says_when_one_is_checked():
    """It does not wait for that."""
    gate = gateway({"a": [BAD_KEY]}, policy=recheck())
    for _ in range(2):
        with pytest.raises(RunFailed) as caught:
            await gate.ask()
    assert (caught.value.ending, caught.value.retry_after_seconds) == ("unavailable", pytest.approx(60))
