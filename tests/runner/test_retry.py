"""When the same candidate is tried again, and how long the run waits for it."""

import anyio
import pytest

from standby.runner import RunFailed
from standby.runner.testing import Fail, answer
from standby.store import Disable
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
STEADY = {"initialSeconds": 1, "multiplier": 2, "maxSeconds": 8, "jitter": "none"}


def limited(hint):
    return Fail("rate_limit", "slow down", status=429, retryable=True, hint=hint)


async def test_a_candidate_is_tried_up_to_max_attempts():
    """The first try is counted; then the run goes on to the next candidate."""
    gate = gateway({"a": [DOWN], "b": []}, retry={"maxAttempts": 3})
    record = (await gate.ask()).record
    assert did(record) == [
        ("a", 1, "provider_5xx", "retry"),
        ("a", 2, "provider_5xx", "retry"),
        ("a", 3, "provider_5xx", "next"),
        ("b", 1, "ok", None),
    ]
    assert record.tries[2].why == "maxAttempts 3"


async def test_the_wait_between_tries_grows_to_its_bound():
    """Each wait is `multiplier` times the one before, and none is longer than `maxSeconds`."""
    gate = gateway({"a": [DOWN] * 5 + [answer()]}, retry={"maxAttempts": 6, "backoff": {**STEADY, "maxSeconds": 5}})
    record = (await gate.ask()).record
    assert [tried.wait_seconds for tried in record.tries] == [1, 2, 4, 5, 5, 0]


async def test_full_jitter_draws_each_wait_below_its_bound():
    """The draw is the runner's own chance."""
    gate = gateway(
        {"a": [DOWN, DOWN, answer()]},
        retry={"maxAttempts": 3, "backoff": {**STEADY, "jitter": "full"}},
        chance=lambda: 0.25,
    )
    assert [tried.wait_seconds for tried in (await gate.ask()).record.tries] == [0.25, 0.5, 0]


async def test_a_hint_bounds_the_wait_from_below():
    """The provider's word is waited for where it is longer than the backoff."""
    gate = gateway({"a": [limited(3), answer()]}, retry={"maxAttempts": 2, "backoff": STEADY}, chance=lambda: 0.0)
    began = anyio.current_time()
    await gate.ask()
    assert anyio.current_time() - began == 3


async def test_a_hint_longer_than_the_longest_backoff_is_not_waited_for():
    """The run fails over at once."""
    gate = gateway({"a": [limited(9)], "b": []}, retry={"maxAttempts": 2, "backoff": STEADY})
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "rate_limit", "next"), ("b", 1, "ok", None)]
    assert record.tries[0].why == "asked to wait 9 s, longer than backoff.maxSeconds 8"


async def test_a_wait_past_the_deadline_is_not_begun():
    """The time that is left goes to the next candidate."""
    gate = gateway(
        {"a": [DOWN], "b": []},
        retry={"maxAttempts": 2, "backoff": {**STEADY, "initialSeconds": 5}},
        model={"timeouts": {"totalSeconds": 5}},
    )
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]


async def test_a_denied_category_is_not_retried():
    """The policy overrules the client's word."""
    gate = gateway({"a": [DOWN], "b": []}, retry={"maxAttempts": 2, "denyCategories": ["provider_5xx"]})
    assert did((await gate.ask()).record)[0] == ("a", 1, "provider_5xx", "next")


async def test_an_allowed_code_is_retried_against_the_clients_word():
    """A failure that the client calls final is tried again where the policy says so."""
    refused = Fail("bad_request", status=400)
    gate = gateway({"a": [refused, answer()]}, retry={"maxAttempts": 2, "allowCodes": ["bad_request"]})
    assert did((await gate.ask()).record)[0] == ("a", 1, "request_error", "retry")


async def test_a_candidates_own_max_attempts_replace_the_shared_ones():
    """An override is laid over the policy key by key."""
    gate = gateway(
        {"a": [DOWN], "b": []}, retry={"maxAttempts": 3}, overrides={"a": {"retryPolicy": {"maxAttempts": 1}}}
    )
    assert (await gate.ask()).record.attempts == 2


async def test_a_failure_that_leaves_its_candidate_out_is_not_retried():
    """Ejected by its own failure: the run goes on at once, and the candidate is given up with all that follows."""
    gate = gateway(
        {"a": [DOWN], "b": []},
        retry={"maxAttempts": 9, "backoff": STEADY},
        policy={
            "failoverPolicy": {"ejectAfter": 2},
            "priorityDemotePolicy": {"enabled": True, "categories": ["provider_5xx"]},
        },
    )
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "retry"), ("a", 2, "provider_5xx", "next"), ("b", 1, "ok", None)]
    assert (record.tries[1].why, anyio.current_time() - began) == ("this failure leaves it out", 1)
    assert gate.state.standing("candidate:chat/a").demoted == 100


async def test_a_candidate_that_was_left_out_while_it_waited_is_not_tried_again():
    """Its turn then ends as the failover decision of its failure says."""
    gate = gateway({"a": [DOWN], "b": []}, retry={"maxAttempts": 2, "backoff": {**STEADY, "initialSeconds": 5}})
    records = []

    async def ask():
        records.append((await gate.ask()).record)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(1)
        await gate.state.apply([Disable("candidate:chat/a", 1.0, "ada", "maintenance")])
    assert did(records[0]) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]
    assert (records[0].tries[0].why, records[0].failovers) == ("left out while it waited", 1)


async def test_a_failed_run_ends_after_its_last_failure_without_a_wait():
    """Nobody sleeps before giving up."""
    gate = gateway({"a": [DOWN]}, retry={"maxAttempts": 2, "backoff": STEADY})
    began = anyio.current_time()
    with pytest.raises(RunFailed):
        await gate.ask()
    assert anyio.current_time() - began == 1
