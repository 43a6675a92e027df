"""A provider with several keys: its candidate goes on with another one where what failed concerns the key."""

import pytest

from standby.runner import RunFailed
from standby.runner.testing import Fail, answer
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

BAD_KEY = Fail("auth_failed", "wrong key", status=401, scope="credential", work="rejected")
NO_MONEY = Fail("insufficient_balance", "no credit", status=402, scope="credential", work="rejected")
LIMITED = Fail("rate_limit", "slow down", status=429, retryable=True, scope="credential_model", work="rejected")
DOWN = Fail("server_error", "down", status=500, retryable=True, work="rejected")
OVERLOADED = Fail("overloaded", "too much", status=529, retryable=True, scope="provider", work="rejected")

NEXT = {
    "failoverPolicy": {
        "allowCategories": [
            *("auth_error", "insufficient_balance", "rate_limit"),
            *("provider_5xx", "provider_overloaded", "network"),
        ],
        "actions": {"auth_error": "cooldown_and_next", "rate_limit": "cooldown_and_next"},
        "cooldownSeconds": 60,
    }
}


def keys(first, second, *, b=(), policy=NEXT, **parts):
    """The candidate `a` with the keys `k1` and `k2`, the former drawn first, and `b` with one key."""
    return gateway({"a": {"k1": first, "k2": second}, "b": b}, policy=policy, chance=lambda: 0.0, **parts)


def used(record):
    """Who was called, and with which key."""
    return [(tried.candidate, tried.key_id) for tried in record.tries]


@pytest.mark.parametrize("failure", [BAD_KEY, NO_MONEY, LIMITED], ids=lambda failure: failure.error.code)
async def test_what_the_key_is_to_blame_for_goes_on_with_the_next_key(failure):
    """It is the same candidate, so that is no failover."""
    gate = keys([failure], [])
    async with gate.runner:
        result = await gate.ask()
    assert used(result.record) == [("a", "k1"), ("a", "k2")]
    assert did(result.record)[0][3] == "next"
    assert (result.record.attempts, result.record.failovers) == (2, 0)


@pytest.mark.parametrize("failure", [DOWN, OVERLOADED], ids=lambda failure: failure.error.code)
async def test_what_the_key_is_not_to_blame_for_goes_on_with_the_next_candidate(failure):
    """Another key of the same provider would do no better."""
    gate = keys([failure], [])
    async with gate.runner:
        result = await gate.ask()
    assert used(result.record) == [("a", "k1"), ("b", "")]
    assert result.record.failovers == 1


async def test_a_candidate_whose_every_key_failed_is_given_up_once():
    """However many keys it has."""
    gate = keys([BAD_KEY], [LIMITED])
    async with gate.runner:
        result = await gate.ask()
    assert used(result.record) == [("a", "k1"), ("a", "k2"), ("b", "")]
    assert [n for _, n, _, _ in did(result.record)] == [1, 2, 1]
    assert result.record.failovers == 1


@pytest.mark.parametrize("failure", [BAD_KEY, LIMITED], ids=lambda failure: failure.error.code)
async def test_a_key_is_left_out_alone(failure):
    """The next run does not touch it, and has the candidate all the same."""
    gate = keys([failure], [])
    async with gate.runner:
        await gate.ask()
        result = await gate.ask()
    assert used(result.record) == [("a", "k2")]
    assert [(skip.candidate, skip.key) for skip in result.record.skips] == [("a", "k1")]
    assert gate.calls() == {"a/k1": 1, "a/k2": 2, "b": 0}


async def test_a_limit_of_one_key_is_none_of_the_other():
    """`rate_limit` of the provider is what each of its keys may use."""
    gate = keys([], [], providers={"a": {"rate_limit": {"requestsPerMinute": 2}}})
    async with gate.runner:
        served = [used((await gate.ask()).record)[-1] for _ in range(5)]
    assert served == [("a", "k1"), ("a", "k1"), ("a", "k2"), ("a", "k2"), ("b", "")]


async def test_keys_are_drawn_by_their_weights():
    """And share the weight of their candidate."""
    chances = iter([0.1, 0.9, 0.1, 0.6])
    gate = gateway(
        {"a": {"k1": [], "k2": []}},
        providers={"a": {"api_keys": [{"id": "k1", "key": "a/k1", "weight": 3}, {"id": "k2", "key": "a/k2"}]}},
        chance=lambda: next(chances),
    )
    async with gate.runner:
        drawn = [used((await gate.ask()).record)[0][1] for _ in range(4)]
    assert drawn == ["k1", "k2", "k1", "k1"]


async def test_the_last_usable_candidate_stays_however_many_keys_it_has():
    """With another key it is the same candidate, so that `ejectAfter` does not leave it out for itself."""
    gate = gateway({"a": {"k1": [DOWN], "k2": [DOWN]}}, policy={"failoverPolicy": {"ejectAfter": 1}})
    async with gate.runner:
        with pytest.raises(RunFailed):
            await gate.ask()
        assert gate.runner.statuses()[0].status == "usable"


async def test_the_status_of_a_candidate_is_that_of_its_best_key():
    """And tells each key's own."""
    gate = keys([BAD_KEY], [])
    async with gate.runner:
        await gate.ask()
        status = gate.runner.statuses()[0]
    assert (status.key, status.status, len(gate.runner.statuses())) == ("chat/a", "usable", 2)
    assert [(key.id, key.status) for key in status.keys] == [("k1", "cooling"), ("k2", "usable")]
    assert status.told[0].startswith("With the key k1: Left out for 6")
    assert status.told[1] == "With the key k2: It may be called."
    assert status.weight == 1


async def test_a_record_tells_which_key_was_used():
    """By its id; the key itself is nowhere."""
    gate = keys([BAD_KEY], [answer()])
    async with gate.runner:
        record = (await gate.ask()).record.as_dict()
    assert [tried["key"] for tried in record["tries"]] == ["k1", "k2"]
    assert record["tries"][0]["effects"][-1]["domain"] == "credential:a/k1"


async def test_a_candidate_may_be_asked_for_whichever_key_it_is_called_with():
    """`only` names candidates."""
    gate = keys([BAD_KEY], [])
    async with gate.runner:
        result = await gate.ask(only=["a"])
    assert used(result.record) == [("a", "k1"), ("a", "k2")]
