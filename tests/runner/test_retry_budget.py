"""Runs under a retry budget: who pays, when a retry is refused, and what the run does then."""

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import EPOCH, Fail, Slow, Streamed, answer
from standby.store import Disable
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

SECOND = {"initialSeconds": 1, "jitter": "none"}
TWO_TRIES = {"maxAttempts": 2, "backoff": SECOND}
NOTHING = {"runs": 0, "extras": 0, "leases": 0, "waiting": 0, "probes": 0}
RULE = {"source": "gateway_runner_policies.retry_budget", "policy": "retryBudget"}


def down(work="rejected"):
    return Fail("server_error", "down", status=500, retryable=True, work=work)


def overloaded():
    return Fail("overloaded", "too much", status=529, retryable=True, work="rejected", scope="provider")


def budget(scopes=None, **written):
    """A policy that does nothing but keep a budget."""
    return {"failoverPolicy": {"ejectAfter": 0}, "retryBudget": written, "scopes": scopes or {}}


def same_provider(then=None, retry=None, **written):
    """Two candidates of one provider that is overloaded for the first, and one of another."""
    return gateway(
        {"a": lambda request: overloaded() if request.model == "m" else then, "a2": [], "b": []},
        candidates={"a2": {"provider": "a", "model": "m2"}},
        retry=retry,
        policy=budget(**written),
    )


def left(gate):
    """The tokens that each domain has left, where some are spent."""
    return {domain: tokens for status in gate.runner.statuses() for domain, tokens in status.retry_budget.items()}


async def ask_often(gate, count, **options):
    return [(await gate.ask(**options)).record for _ in range(count)]


async def ask_at_once(gate, count):
    """The records of so many runs at once."""
    records = []

    async def ask():
        records.append((await gate.ask()).record)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(ask)
    return records


@pytest.mark.parametrize(("work", "retries"), [("not_sent", 20), ("rejected", 20), ("unknown", 7), ("billed", 7)])
async def test_a_dead_candidate_is_retried_until_its_tokens_are_spent(work, retries):
    """A hundred by default; then each run tries it once and goes on."""
    gate = gateway({"a": [down(work)], "b": []}, retry=TWO_TRIES, policy=budget())
    records = await ask_often(gate, 25)
    assert gate.calls() == {"a": 25 + retries, "b": 25}
    assert [record.tries[0].did for record in records] == ["retry"] * retries + ["next"] * (25 - retries)


async def test_a_first_try_and_a_failover_are_never_refused():
    """With no token at all every run asks the first candidate, and then the second."""
    gate = gateway({"a": [down()], "b": [down()], "c": []}, retry=TWO_TRIES, policy=budget(capacity=1))
    records = await ask_often(gate, 30)
    assert gate.calls() == {"a": 30, "b": 30, "c": 30}
    assert all(record.skips == [] for record in records)


async def test_a_refused_retry_is_not_waited_for():
    """The run goes on to the next candidate at once."""
    gate = gateway({"a": [down()], "b": []}, retry=TWO_TRIES, policy=budget(capacity=4))
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]
    assert anyio.current_time() == began


async def test_where_nobody_else_is_left_a_refused_retry_fails_the_run_at_once():
    """An exhausted budget returns the failure; it is no reason to wait."""
    gate = gateway({"a": [down()]}, retry=TWO_TRIES, policy=budget(capacity=4))
    began = anyio.current_time()
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert (caught.value.ending, anyio.current_time() - began, gate.calls()) == ("exhausted", 0, {"a": 1})


async def test_a_refusal_is_in_the_record_with_its_rule():
    """The retry decision stands as it was made; beside it is why nothing came of it."""
    gate = gateway({"a": [down()], "b": []}, retry=TWO_TRIES, policy=budget(capacity=4))
    record = (await gate.ask()).record
    tried = record.tries[0]
    assert (tried.decisions.retry.retry, tried.decisions.retry.reason) == (True, "client_retryable")
    assert (tried.refusal.reason, tried.why) == (
        "retry_budget_exhausted",
        "retry_budget_exhausted (retryBudget.capacity = 4)",
    )
    assert record.as_dict()["tries"][0]["refusal"] == {
        "retry": False,
        "reason": "retry_budget_exhausted",
        "match": {**RULE, "rule": "capacity", "value": "4"},
    }


async def test_a_try_that_is_retried_has_no_refusal():
    """Nor has one that failed for good."""
    gate = gateway({"a": [down()], "b": []}, retry=TWO_TRIES, policy=budget())
    record = (await gate.ask()).record
    assert [tried.refusal for tried in record.tries] == [None, None, None]
    assert all("refusal" not in tried for tried in record.as_dict()["tries"])


async def test_a_candidate_whose_retry_is_refused_is_given_up_with_all_that_follows():
    """It is demoted as it would be after its last try."""
    demote = {"priorityDemotePolicy": {"enabled": True, "categories": ["provider_5xx"], "demoteStep": 10}}
    gate = gateway({"a": [down()], "b": []}, retry=TWO_TRIES, policy=budget(capacity=4) | demote)
    await gate.ask()
    assert gate.state.standing("candidate:chat/a").demoted == 10


async def test_time_brings_no_token_back():
    """What refills by the clock is as good as none for calls that last a minute."""
    gate = gateway({"a": [down()], "b": []}, retry=TWO_TRIES, policy=budget(capacity=5))
    await gate.ask()
    await anyio.sleep(80_000)
    assert (await gate.ask()).record.tries[0].refusal.reason == "retry_budget_exhausted"


@pytest.mark.parametrize(("answers", "did_what"), [(4, "next"), (5, "retry")])
async def test_answers_bring_tokens_back(answers, did_what):
    """Five of them pay for one retry of rejected work."""
    script = [down(), down(), *[answer()] * answers, down()]
    gate = gateway({"a": script, "b": []}, retry=TWO_TRIES, policy=budget(capacity=5))
    await ask_often(gate, 1 + answers)
    assert (await gate.ask()).record.tries[0].did == did_what


async def test_an_answer_of_another_candidate_pays_for_the_provider_they_share():
    """A success earns in each of its candidate's domains."""
    gate = same_provider(capacity=5, retry=TWO_TRIES)
    await gate.ask(only=["a", "b"])
    assert left(gate) == {"provider:a": 0}
    await ask_often(gate, 5, only=["a2"])
    assert left(gate) == {}


async def test_a_retry_that_answers_costs_nothing():
    """A hiccup now and then is always retried, though one retry is all that there are tokens for."""
    gate = gateway({"a": [down(), answer()] * 30, "b": []}, retry=TWO_TRIES, policy=budget(capacity=5))
    records = await ask_often(gate, 30)
    assert [record.attempts for record in records] == [2] * 30
    assert left(gate) == {}


@pytest.mark.parametrize(
    ("code", "status", "scopes", "domain"),
    [
        ("server_error", 500, {}, "candidate:chat/a"),
        ("overloaded", 529, {}, "provider:a"),
        ("rate_limit", 429, {}, "credential_model:a/m"),
        ("auth_failed", 401, {}, "credential:a"),
        ("overloaded", 529, {"provider_overloaded": "candidate"}, "candidate:chat/a"),
        ("server_error", 500, {"provider_5xx": "provider"}, "provider:a"),
    ],
)
async def test_whoever_the_failure_concerns_pays(code, status, scopes, domain):
    """The candidate, or what `scopes` says of the category."""
    failure = Fail(code, "no", status=status, retryable=True, work="rejected")
    gate = gateway({"a": [failure], "b": []}, retry=TWO_TRIES, policy=budget(scopes))
    await gate.ask()
    assert left(gate) == {domain: 95}


async def test_the_budget_of_one_candidate_leaves_the_others_theirs():
    """A dead candidate that has spent its tokens takes none from who is next."""
    gate = gateway({"a": [down()], "b": [down(), answer()]}, retry=TWO_TRIES, policy=budget(capacity=9))
    record = (await ask_often(gate, 2))[0]
    assert did(record)[1:] == [
        ("a", 2, "provider_5xx", "next"),
        ("b", 1, "provider_5xx", "retry"),
        ("b", 2, "ok", None),
    ]


# -- somebody else who shares what failed --------------------------------------------------------------------------


async def test_who_shares_what_failed_in_this_run_is_a_retry_of_that():
    """The provider is asked again, whichever candidate it is for: it pays, and has it back when it answers."""
    gate = same_provider(then=Slow(5))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(1)
        assert (left(gate), gate.runner.held["extras"]) == ({"provider:a": 95}, 1)
    assert (left(gate), gate.runner.held["extras"]) == ({}, 0)


async def test_who_shares_what_failed_is_skipped_where_there_are_no_tokens():
    """The run goes on at once to who does not, and tells why."""
    gate = same_provider(capacity=4)
    began = anyio.current_time()
    record = (await gate.ask()).record
    assert did(record) == [("a", 1, "provider_overloaded", "next"), ("b", 1, "ok", None)]
    assert [(skip.candidate, skip.reason, skip.cause) for skip in record.skips] == [
        ("a2", "budget", "retry_budget_exhausted (retryBudget.capacity = 4)")
    ]
    assert anyio.current_time() == began


async def test_where_all_that_are_left_share_what_failed_the_run_fails_at_once():
    """Nobody is waited for."""
    gate = same_provider(capacity=4)
    began = anyio.current_time()
    with pytest.raises(RunFailed) as caught:
        await gate.ask(only=["a", "a2"])
    assert (caught.value.ending, anyio.current_time() - began) == ("exhausted", 0)
    assert caught.value.record.as_dict()["skips"][0]["reason"] == "budget"


async def test_who_shares_only_what_did_not_fail_is_no_retry():
    """The failure concerned the candidate alone: its provider's other one is asked, tokens or not."""
    gate = gateway(
        {"a": [down(), answer()], "a2": []},
        candidates={"a2": {"provider": "a", "model": "m2"}},
        policy=budget(capacity=1),
    )
    assert (await gate.ask()).candidate == "a2"


async def test_another_runs_failure_makes_nobodys_first_try_a_retry():
    """Only what failed in the same run does."""
    gate = same_provider(capacity=4)
    await gate.ask()
    assert (await gate.ask(only=["a2"])).candidate == "a2"


# -- how many at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runs", "retries"), [(2, 2), (10, 3), (100, 20)])
async def test_of_runs_that_fail_together_a_fifth_is_retried_and_three_always(runs, retries):
    """The others go on to the next candidate at once; no first try is refused."""
    gate = gateway({"a": [Slow(1, down())], "b": [Slow(10)]}, retry=TWO_TRIES, policy=budget(capacity=10_000))
    records = await ask_at_once(gate, runs)
    assert gate.calls() == {"a": runs + retries, "b": runs}
    refusals = [record.tries[0].refusal for record in records if record.tries[0].refusal]
    assert [refusal.reason for refusal in refusals] == ["retry_budget_in_flight"] * (runs - retries)


async def test_a_refusal_for_too_many_at_once_names_the_rule():
    """It is another than that of the spent tokens."""
    gate = gateway({"a": [Slow(1, down())], "b": []}, retry=TWO_TRIES, policy=budget(maxInFlightPercent=10))
    records = await ask_at_once(gate, 4)
    assert [record.as_dict()["tries"][0]["refusal"] for record in records if record.tries[0].refusal] == [
        {
            "retry": False,
            "reason": "retry_budget_in_flight",
            "match": {**RULE, "rule": "maxInFlightPercent", "value": "10"},
        }
    ]


async def test_a_budget_can_be_turned_off():
    """Then only `maxAttempts` bounds the retries, of any number of runs."""
    gate = gateway({"a": [down()], "b": []}, retry=TWO_TRIES, policy=budget(enabled=False, capacity=1))
    await ask_at_once(gate, 30)
    assert (gate.calls()["a"], left(gate)) == (60, {})


# -- what is given back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_seconds", [0.5, 1.5])
async def test_a_caller_that_leaves_gets_its_tokens_back(after_seconds):
    """While it waits for the retry, and while that is under way."""
    gate = gateway({"a": [down(), Slow(5)], "b": []}, retry=TWO_TRIES, policy=budget())
    with anyio.move_on_after(1000) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.ask)
            await anyio.sleep(after_seconds)
            assert left(gate) == {"candidate:chat/a": 95}
            scope.cancel()
    assert (left(gate), gate.runner.held) == ({}, NOTHING)


async def test_a_retry_that_is_not_made_gets_its_tokens_back():
    """The candidate was disabled while the run waited for it: what was paid is back before the next is called."""
    gate = gateway({"a": [down()], "b": [Slow(5)]}, retry=TWO_TRIES, policy=budget())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(0.5)
        await gate.state.apply([Disable("candidate:chat/a", EPOCH, "ada", "maintenance")])
        await anyio.sleep(1)
        assert (gate.calls(), left(gate), gate.runner.held["extras"]) == ({"a": 1, "b": 1}, {}, 0)


async def test_a_retry_that_waits_for_local_capacity_pays_when_its_turn_comes():
    """In the queue nobody is under way, and nobody holds a place that others could use."""
    gate = gateway(
        {"a": [down(), down()]},
        limits={"requestsPerMinute": 1},
        retry=TWO_TRIES,
        policy=budget(),
        model={"queue": {"maxWaitSeconds": 90}},
    )
    async with anyio.create_task_group() as tasks:

        async def ask():
            with pytest.raises(RunFailed):
                await gate.ask()

        tasks.start_soon(ask)
        await anyio.sleep(30)
        assert (left(gate), gate.runner.held["extras"], gate.runner.held["waiting"]) == ({}, 0, 1)
    assert (gate.calls(), left(gate)) == ({"a": 2}, {"candidate:chat/a": 95})


async def test_a_storm_leaves_nothing_held():
    """Retries that answer, fail, and are refused, and runs that fail: when all is over nobody holds anything."""
    outcomes = [Slow(1, down()), Slow(2, down()), answer(), Slow(3, down("unknown"))]
    gate = gateway(
        {"a": outcomes * 20, "b": outcomes * 20}, retry=TWO_TRIES, limits={"concurrency": 7}, policy=budget()
    )
    endings = []

    async def ask(number):
        try:
            endings.append((await gate.ask(timeout_seconds=1 + number % 9)).record.ending)
        except RunFailed as failed:
            endings.append(failed.ending)

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(ask, number)
    assert set(endings) >= {"answered", "exhausted", "deadline"}
    assert gate.runner.held == NOTHING


async def test_a_stream_is_retried_within_the_same_budget():
    """What fails before the commit is a failure like any other."""
    gate = gateway({"a": [down()], "b": [Streamed("ok")]}, retry=TWO_TRIES, policy=budget(capacity=5))
    records = []
    for _ in range(2):
        async with gate.runner.stream(Request("chat", {})) as stream:
            async for _ in stream:
                pass
        records.append(stream.record)
    assert [record.tries[0].did for record in records] == ["retry", "next"]
    assert records[1].tries[0].refusal.reason == "retry_budget_exhausted"
    assert gate.runner.held == NOTHING
