"""Cooling down, probing, ejecting, disabling."""

import math

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import EPOCH, Fail, Slow, answer
from standby.store import Cool, Disable
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
COOL_5XX = {"failoverPolicy": {"actions": {"provider_5xx": "cooldown_and_next"}, "cooldownSeconds": 60}}

GOES_ON = {"failoverPolicy": {"cooldownSeconds": 10, "ejectAfter": 1}}


def limited(hint=None):
    return Fail("rate_limit", "slow down", status=429, retryable=True, hint=hint)


def cooling_seconds(gate, domain):
    return gate.state.standing(domain).cooling_until - EPOCH - anyio.current_time()


async def test_a_cooled_candidate_is_left_out_of_later_runs():
    """Later runs do not pay for what an earlier one learned."""
    gate = gateway({"a": [DOWN], "b": []}, policy=COOL_5XX)
    await gate.ask()
    record = (await gate.ask()).record
    assert gate.calls() == {"a": 1, "b": 2}
    assert [(skip.candidate, skip.reason) for skip in record.skips] == [("a", "cooling")]
    assert record.skips[0].cause == ("provider_5xx: client_retryable (ClientError.Retryable = true)")


async def test_a_cooldown_lasts_as_long_as_the_policy_says():
    """Never shorter, and at most a tenth longer."""
    for chance, seconds in ((0.0, 60), (0.5, 63)):
        gate = gateway({"a": [DOWN], "b": []}, policy=COOL_5XX, chance=lambda chance=chance: chance)
        await gate.ask()
        assert math.isclose(cooling_seconds(gate, "candidate:chat/a"), seconds, abs_tol=1e-3)


@pytest.mark.parametrize(("hint", "seconds"), [(7, 7), (0.01, 1), (86400, 600)])
async def test_the_servers_hint_is_honoured_within_bounds(hint, seconds):
    """A hint replaces `cooldownSeconds`; it is clamped to 1 s and `maxCooldownSeconds`."""
    policy = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}, "maxCooldownSeconds": 600}}
    gate = gateway({"a": [limited(hint)], "b": []}, policy=policy, chance=lambda: 0.0)
    await gate.ask()
    assert math.isclose(cooling_seconds(gate, "credential_model:a/m"), seconds, abs_tol=1e-3)


async def test_each_cooldown_in_a_row_is_longer():
    """A probe that fails cools for `cooldownMultiplier` times as long as before, up to the longest."""
    policy = {"failoverPolicy": {**COOL_5XX["failoverPolicy"], "cooldownMultiplier": 3, "maxCooldownSeconds": 400}}
    gate = gateway({"a": [DOWN], "b": []}, policy=policy, chance=lambda: 0.0)
    seen = []
    for _ in range(3):
        await gate.ask()
        seen.append(round(cooling_seconds(gate, "candidate:chat/a")))
        await anyio.sleep(seen[-1] + 1)
    assert seen == [60, 180, 400]


async def test_when_a_cooldown_ends_one_run_probes():
    """The others keep to the next candidate until the probe has answered."""
    gate = gateway({"a": [DOWN, Slow(5)], "b": []}, policy=COOL_5XX)
    await gate.ask()
    await anyio.sleep(100)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(gate.ask)
    assert gate.calls() == {"a": 2, "b": 5}
    assert (await gate.ask()).candidate == "a"


async def test_a_probe_that_answers_closes_the_matter():
    """It is called like any other, and in time nothing is held against it any more."""
    gate = gateway({"a": [DOWN, answer()], "b": []}, policy=COOL_5XX)
    await gate.ask()
    await anyio.sleep(100)
    assert (await gate.ask()).candidate == (await gate.ask()).candidate == "a"
    await anyio.sleep(100)
    await gate.ask()
    assert gate.state.standing("candidate:chat/a") is None


async def test_a_recovery_is_not_forgotten_at_once():
    """Who comes and goes is cooled for longer each time; one time in a row is forgotten for each as long as it was out."""
    gate = gateway({"a": [DOWN, answer(), DOWN, answer(), DOWN], "b": []}, policy=COOL_5XX, chance=lambda: 0.0)
    seen = []
    for healthy_seconds in (0, 0, 121):
        await anyio.sleep(healthy_seconds)
        await gate.ask()
        seen.append(round(cooling_seconds(gate, "candidate:chat/a")))
        await anyio.sleep(seen[-1] + 1)
        await gate.ask()
    assert seen == [60, 120, 120]


async def test_a_failure_from_before_a_cooldown_is_old_news_after_the_recovery():
    """A call that was under way all the while says nothing of how the candidate is now."""
    gate = gateway({"a": [Slow(100, DOWN), DOWN, answer()], "b": []}, policy=COOL_5XX, timeouts={"attemptSeconds": 500})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        await gate.ask()
        await anyio.sleep(70)
        assert (await gate.ask()).candidate == "a"
        before = gate.state.standing("candidate:chat/a")
    assert gate.state.standing("candidate:chat/a") == before


async def test_a_failed_probe_cools_again_whatever_the_action():
    """A candidate that was ejected, and fails its probe, is not paid for by the next run."""
    gate = gateway({"a": [DOWN], "b": []}, policy={"failoverPolicy": {"ejectAfter": 1, "cooldownSeconds": 10}})
    await gate.ask()
    await anyio.sleep(20)
    await gate.ask()
    await gate.ask()
    assert gate.calls() == {"a": 2, "b": 3}
    assert "the probe failed" in gate.state.standing("candidate:chat/a").cooled_for


async def test_a_cooldown_that_no_action_asked_for_grows_while_somebody_else_is_well():
    """Runs need not be the first to know of the recovery: somebody answers them."""
    gate = gateway({"a": [DOWN], "b": []}, policy=GOES_ON, chance=lambda: 0.0)
    seen = []
    for _ in range(3):
        await gate.ask()
        seen.append(round(cooling_seconds(gate, "candidate:chat/a")))
        await anyio.sleep(seen[-1] + 1)
    assert seen == [10, 20, 40]


async def test_a_cooldown_that_no_action_asked_for_does_not_grow_where_nobody_else_is_well():
    """Nobody would be spared anything by it, and a recovery should be seen soon."""
    gate = gateway({"a": [DOWN], "b": [DOWN]}, policy=GOES_ON, chance=lambda: 0.0)
    seen = []
    for _ in range(8):
        with pytest.raises(RunFailed):
            await gate.ask()
        seen.append(round(cooling_seconds(gate, "candidate:chat/a")))
        await anyio.sleep(11)
    assert seen == [10] * 8
    assert gate.runner.statuses()[0].cooldowns_in_row == 1


async def test_a_cooldown_that_an_action_asks_for_grows_though_nobody_else_is_well():
    """The policy says how long."""
    gate = gateway({"a": [DOWN], "b": [DOWN]}, policy=COOL_5XX, chance=lambda: 0.0)
    seen = []
    for _ in range(3):
        with pytest.raises(RunFailed):
            await gate.ask()
        seen.append(round(cooling_seconds(gate, "candidate:chat/a")))
        await anyio.sleep(seen[-1] + 1)
    assert seen == [60, 120, 240]


async def test_a_cancelled_probe_changes_nothing():
    """The lease is given back, and the next run probes."""
    gate = gateway({"a": [DOWN, Slow(50), answer()], "b": []}, policy=COOL_5XX)
    await gate.ask()
    await anyio.sleep(100)
    before = gate.state.standing("candidate:chat/a")
    with anyio.move_on_after(1):
        await gate.ask()
    assert gate.state.standing("candidate:chat/a") == before
    assert (await gate.ask()).candidate == "a"


async def test_failures_in_a_row_eject_a_candidate():
    """A dead primary is not paid for on every request, though no action cools it."""
    gate = gateway({"a": [DOWN], "b": []}, policy={"failoverPolicy": {"ejectAfter": 3}})
    for _ in range(5):
        await gate.ask()
    assert gate.calls() == {"a": 3, "b": 5}
    assert gate.state.standing("candidate:chat/a").cooled_for == "provider_5xx: 3 failures in a row (ejectAfter 3)"


async def test_a_success_between_failures_ends_the_row():
    """Only failures in a row eject."""
    gate = gateway({"a": [DOWN, DOWN, answer()] * 3, "b": []}, policy={"failoverPolicy": {"ejectAfter": 3}})
    for _ in range(9):
        await gate.ask()
    assert gate.calls()["a"] == 9


async def test_the_last_usable_candidate_is_not_ejected():
    """A soft reason never leaves nobody."""
    gate = gateway({"a": [DOWN]}, policy={"failoverPolicy": {"ejectAfter": 1}})
    for _ in range(3):
        with pytest.raises(RunFailed):
            await gate.ask()
    assert gate.calls() == {"a": 3}


async def test_a_refused_request_is_no_sign_of_illness():
    """Failures that concern the request do not count towards ejection."""
    refused = Fail("bad_request", status=400, scope="request")
    gate = gateway(
        {"a": [refused], "b": []}, policy={"failoverPolicy": {"ejectAfter": 1, "allowCodes": ["bad_request"]}}
    )
    for _ in range(3):
        await gate.ask()
    assert gate.calls()["a"] == 3


@pytest.mark.parametrize("scope", ["local", "caller"])
async def test_local_failures_and_the_callers_never_touch_health(scope):
    """Even where the policy would cool the candidate down."""
    gate = gateway(
        {"a": [Fail("timeout", retryable=True, scope=scope)], "b": []},
        policy={"failoverPolicy": {"ejectAfter": 1, "actions": {"timeout": "cooldown_and_next"}}},
    )
    await gate.ask()
    assert gate.state.standings() == {}


async def test_what_shares_the_credential_is_left_out_with_it_in_the_same_run():
    """One bad key is tried once, though three candidates use it."""
    bad_key = Fail("auth_failed", "wrong key", status=401, scope="credential")
    same = {"provider": "a"}
    gate = gateway(
        {"a": [bad_key], "a2": [], "a3": [], "b": []},
        candidates={"a2": same, "a3": same},
        policy={"failoverPolicy": {"allowCategories": ["auth_error"], "actions": {"auth_error": "cooldown_and_next"}}},
    )
    result = await gate.ask()
    assert (result.candidate, gate.calls()["a"]) == ("b", 1)
    assert [skip.candidate for skip in result.record.skips] == ["a2", "a3"]


async def test_a_scope_can_be_set_by_category():
    """`scopes` says what a category's cooldown covers."""
    policy = {**COOL_5XX, "scopes": {"provider_5xx": "provider"}}
    gate = gateway({"a": [DOWN], "b": []}, policy=policy)
    await gate.ask()
    assert list(gate.state.standings()) == ["candidate:chat/a", "provider:a"]


async def test_a_disabled_candidate_is_left_out_until_it_is_enabled():
    """Time does not bring it back."""
    policy = {"failoverPolicy": {"actions": {"provider_5xx": "disable_and_next"}}}
    gate = gateway({"a": [DOWN], "b": []}, policy=policy)
    await gate.ask()
    await anyio.sleep(10 * 24 * 3600)
    record = (await gate.ask()).record
    assert (gate.calls()["a"], record.skips[0].reason) == (1, "disabled")
    assert record.skips[0].cause.startswith("disabled by policy: provider_5xx")


async def test_where_all_are_cooling_the_run_waits_for_the_earliest():
    """The deadline and the queue's longest wait allow it."""
    gate = gateway(
        {"a": [limited(20), answer()], "b": [limited(10), answer()]},
        chance=lambda: 0.0,
        policy={"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}},
    )
    with pytest.raises(RunFailed):
        await gate.ask()
    began = anyio.current_time()
    result = await gate.ask()
    assert (result.candidate, anyio.current_time() - began) == ("b", 10)


async def test_where_all_are_cooling_for_too_long_the_run_fails_at_once():
    """It says when somebody is free."""
    gate = gateway(
        {"a": [limited(300)], "b": [limited(200)]},
        chance=lambda: 0.0,
        policy={"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}},
    )
    with pytest.raises(RunFailed):
        await gate.ask()
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert (caught.value.ending, caught.value.retry_after_seconds) == ("unavailable", pytest.approx(200))
    assert [str(error) for error in caught.value.exceptions] == [
        "a: cooling (rate_limit: client_retryable (ClientError.Retryable = true))",
        "b: cooling (rate_limit: client_retryable (ClientError.Retryable = true))",
    ]


async def test_where_all_are_disabled_the_run_fails_at_once():
    """Waiting would help nobody."""
    gate = gateway({"a": []})
    await gate.state.apply([Disable("candidate:chat/a", 1.0, "ada", "rotating keys")])
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert (caught.value.ending, caught.value.retry_after_seconds) == ("unavailable", None)


async def test_a_waiting_run_goes_on_as_soon_as_somebody_is_well_again():
    """An operator's word, or another run's probe, wakes it before the cooldown ends."""
    gate = gateway({"a": []})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 25, 1, "test")])
    waited = []

    async def ask() -> None:
        began = anyio.current_time()
        await gate.ask()
        waited.append(anyio.current_time() - began)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(3)
        from standby.store import Restore

        await gate.state.apply([Restore("candidate:chat/a", now + 3, "ada")])
    assert waited == [3]


async def test_failures_of_one_incident_grow_a_cooldown_once():
    """Calls that were under way when the candidate was cooled do not make it longer."""
    gate = gateway({"a": [Slow(1, DOWN), Slow(2, DOWN), Slow(3, DOWN)], "b": []}, policy=COOL_5XX)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(gate.ask)
    assert gate.state.standing("candidate:chat/a").cooldowns_in_row == 1


async def test_a_cooldown_is_told_in_the_log(caplog):
    """Who, for how long, how often in a row, and by which rule."""
    gate = gateway({"a": [DOWN], "b": []}, policy=COOL_5XX, chance=lambda: 0.0)
    await gate.ask()
    told = "candidate:chat/a is left out for 60.0 s (1 in a row): "
    assert caplog.messages == [told + "provider_5xx: client_retryable (ClientError.Retryable = true)"]


async def test_what_concerns_the_request_leaves_out_no_credential():
    """A 403 for content is of category `auth_error`, but one flagged prompt must not take away everybody's key."""
    flagged = Fail("content_filter", "flagged", status=403, scope="request")
    policy = {"failoverPolicy": {"allowCategories": ["auth_error"], "actions": {"auth_error": "cooldown_and_next"}}}
    gate = gateway({"a": [flagged], "b": []}, policy=policy)
    await gate.ask()
    assert gate.state.standings() == {}


async def test_a_policy_may_leave_out_the_candidate_for_what_concerns_the_request():
    """An action for `request_error` is obeyed: its scope is the candidate alone."""
    refused = Fail("bad_request", status=400, scope="request")
    policy = {
        "failoverPolicy": {"allowCategories": ["request_error"], "actions": {"request_error": "cooldown_and_next"}}
    }
    gate = gateway({"a": [refused], "b": []}, policy=policy)
    await gate.ask()
    assert list(gate.state.standings()) == ["candidate:chat/a"]


async def test_who_waits_for_a_probe_goes_on_when_it_is_settled():
    """One run probes when the cooldown ends; the others wait for what comes of it, and are answered."""
    gate = gateway({"a": [Slow(1)]})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 10, 1, "test")])
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(gate.ask)
    assert (gate.calls()["a"], anyio.current_time() + EPOCH - now) == (4, 12)


async def test_a_failed_probe_leaves_half_open_what_its_failure_does_not_concern():
    """A 404 for the model says nothing against the credential: who shares it is tried in the same run."""
    gone = Fail("unsupported_model", "no such model", status=404, retryable=True)
    same = {"provider": "a", "model": "other"}
    gate = gateway({"a": [gone, answer()], "a2": []}, candidates={"a2": same})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("credential:a", now - 10, now - 1, 1, "test")])
    assert (await gate.ask()).candidate == "a2"


async def test_a_run_waits_for_who_had_no_turn_where_all_are_cooling():
    """One candidate was tried and cooled; the one that was passed by is free soon, and has its turn then."""
    policy = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}}
    gate = gateway({"a": [answer()], "b": [limited(100)]}, policy=policy)
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now, now + 2, 1, "test")])
    record = (await gate.ask()).record
    assert did(record) == [("b", 1, "rate_limit", "next"), ("a", 1, "ok", None)]


@pytest.mark.parametrize("hint", [math.nan, -5.0])
async def test_a_hint_that_is_no_number_of_seconds_is_none(hint):
    """And one of a thousand years is a long one."""
    policy = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}, "cooldownSeconds": 60}}
    gate = gateway({"a": [limited(hint)], "b": []}, policy=policy, chance=lambda: 0.0)
    record = (await gate.ask()).record
    assert record.tries[0].failure.hint is None
    assert math.isclose(cooling_seconds(gate, "credential_model:a/m"), 60, abs_tol=1e-3)
