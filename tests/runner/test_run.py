"""One run, from its first try to its answer or its end."""

import anyio
import pytest

from standby.runner import InvalidBody, Request, RunFailed, UnknownCandidate, UnknownModel
from standby.runner.testing import Fail, Slow, answer
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
REFUSED = Fail("bad_request", "no such parameter", status=400)
LIMITED = Fail("rate_limit", "slow down", status=429, retryable=True, scope="credential_model", work="rejected")


async def test_the_first_candidate_that_answers_is_the_answer():
    """A success on the first try asks nobody else."""
    gate = gateway({"a": [answer("hello")], "b": []})
    result = await gate.ask()
    assert result.data["choices"][0]["message"]["content"] == "hello"
    assert (result.candidate, result.record.ending, gate.calls()) == ("a", "answered", {"a": 1, "b": 0})


async def test_a_client_is_given_the_providers_name_of_the_model():
    """The caller's name of the model stays here."""
    gate = gateway({"a": []}, candidates={"a": {"model": "gpt-4o"}})
    await gate.ask()
    assert gate.clients["a"].calls[0].model == "gpt-4o"


async def test_a_failure_moves_the_run_to_the_next_candidate():
    """The client said that trying again may help: the next candidate is tried, and the record tells of both."""
    gate = gateway({"a": [DOWN], "b": []})
    result = await gate.ask()
    assert did(result.record) == [("a", 1, "provider_5xx", "next"), ("b", 1, "ok", None)]
    assert (result.record.attempts, result.record.failovers) == (2, 1)


async def test_there_is_no_wait_before_a_failover():
    """Backoff is for the same candidate; going to the next one takes no time."""
    gate = gateway({"a": [DOWN], "b": []}, retry={"backoff": {"initialSeconds": 30, "jitter": "none"}})
    began = anyio.current_time()
    await gate.ask()
    assert anyio.current_time() == began


async def test_whoever_asked_to_is_told_of_every_run_that_is_over():
    """By its complete record, before its caller has the answer, and however it ended: answered, failed, abandoned."""
    gate = gateway({"a": [answer(), REFUSED, Slow(60)]})
    told = []
    gate.runner.on_end(lambda record: told.append((record.ending, record.ended_at - record.began_at)))
    await gate.ask()
    with pytest.raises(RunFailed):
        await gate.ask()
    with anyio.move_on_after(2):
        await gate.ask()
    assert told == [("answered", 0), ("stopped", 0), ("abandoned", 2)]


async def test_a_stop_decision_ends_the_run():
    """A failure that the client calls final, and no policy overrules, is not taken to anybody else."""
    gate = gateway({"a": [REFUSED], "b": []})
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert (caught.value.ending, gate.calls()) == ("stopped", {"a": 1, "b": 0})
    assert caught.value.last_failure.info.code == "bad_request"


async def test_a_run_that_nobody_answers_raises_every_failure():
    """The error is a group of what each try raised, in order, and carries the record."""
    gate = gateway({"a": [DOWN], "b": [LIMITED]})
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert [error.code for error in caught.value.exceptions] == ["server_error", "rate_limit"]
    assert (caught.value.ending, caught.value.record.candidate) == ("exhausted", None)


async def test_an_exception_that_is_no_client_error_is_a_final_failure():
    """An unknown exception is of category `client_error`, is not retryable, and is kept as it is."""
    broken = ZeroDivisionError("by zero")
    gate = gateway({"a": [broken], "b": []})
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert caught.value.exceptions == (broken,)
    assert did(caught.value.record) == [("a", 1, "client_error", "stop")]


async def test_every_failed_try_names_the_rule_that_decided():
    """Source, policy, rule and value of each decision are in the record."""
    gate = gateway({"a": [REFUSED], "b": []}, policy={"failoverPolicy": {"allowCodes": ["Bad_Request"]}})
    record = (await gate.ask()).record
    reason, match = record.tries[0].rule
    assert reason == "failover_allow_policy"
    assert (match.source, match.policy, match.rule, match.value) == (
        "gateway_runner_policies.failover_policy",
        "failoverPolicy",
        "allowCodes",
        "Bad_Request",
    )


async def test_an_unknown_model_is_refused_with_the_known_ones():
    """Nothing is tried, and the message says what there is."""
    gate = gateway({"a": []})
    with pytest.raises(UnknownModel, match="no model is named 'chta'; configured: chat"):
        await gate.runner.run(Request("chta", {}))


async def test_a_run_can_be_restricted_to_some_candidates():
    """Only these are called, in the usual order."""
    gate = gateway({"a": [], "b": [], "c": []})
    assert (await gate.ask(only=["b", "c"])).candidate == "b"
    assert gate.calls() == {"a": 0, "b": 1, "c": 0}


async def test_a_restriction_to_an_unknown_candidate_is_refused():
    """A misspelt id is an error, not an empty list."""
    with pytest.raises(UnknownCandidate, match="has no candidate 'x'; it has: a"):
        await gateway({"a": []}).ask(only=["x"])


async def test_failover_can_be_forbidden_for_one_run():
    """The first failure then ends the run, whatever the policy."""
    gate = gateway({"a": [DOWN], "b": []})
    with pytest.raises(RunFailed) as caught:
        await gate.ask(may_fail_over=False)
    assert (caught.value.ending, gate.calls()) == ("stopped", {"a": 1, "b": 0})


async def test_a_body_that_is_not_an_object_is_refused_before_anything_is_sent():
    """The caller's mistake is the caller's error."""
    gate = gateway({"a": []})
    with pytest.raises(InvalidBody, match="not a JSON object but an array"):
        await gate.runner.run(Request("chat", b"[]"))
    assert gate.calls() == {"a": 0}


async def test_a_finished_run_is_in_the_history():
    """Answered or not, its record can be looked up by its id."""
    gate = gateway({"a": [DOWN]})
    with pytest.raises(RunFailed):
        await gate.ask(run_id="run-1")
    kept = await gate.runner.history.get("run-1")
    assert (kept["ending"], kept["tries"][0]["failure"]["status"]) == ("exhausted", 500)


async def test_the_reload_of_a_catalog_changes_the_next_run_only():
    """A run is pinned to the version that it began with."""
    gate = gateway({"a": [Slow(5, DOWN)], "b": []})
    records = []

    async def first() -> None:
        records.append((await gate.ask()).record)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await anyio.sleep(1)
        snapshot = gate.catalog.snapshot()
        only_b = snapshot.models["chat"].model_copy(update={"candidates": snapshot.models["chat"].candidates[1:]})
        gate.catalog.replace(
            type(snapshot)(1, {"chat": only_b}, snapshot.providers, snapshot.runner_policies, snapshot.runtime_policies)
        )
        records.append((await gate.ask()).record)
    assert [(record.version, record.attempts) for record in records] == [(2, 1), (1, 2)]


async def test_what_a_host_answers_itself_is_in_the_history():
    """Nobody is called, and nobody's health or budget hears of it; the record says what the answer leaves out."""
    gate = gateway({"a": [DOWN]})
    record = await gate.runner.answer_here(Request("chat", {}), dropped=("exact_count",), run_id="run_1", caller="app")
    kept = await gate.runner.history.get("run_1")
    assert (kept["ending"], kept["dropped"], kept["tries"], kept["caller"]) == ("answered", ["exact_count"], [], "app")
    assert (record.run_id, record.attempts, gate.calls()) == ("run_1", 0, {"a": 0})
    with pytest.raises(UnknownModel):
        await gate.runner.answer_here(Request("ghost", {}))


async def test_closing_the_runner_closes_its_clients():
    """Every client that was made is closed."""
    gate = gateway({"a": []})
    async with gate.runner:
        await gate.ask()
    assert gate.clients["a"].closed


async def test_a_restricted_run_waits_for_nobody_else():
    """When somebody may be free is told of the candidates that may be called."""
    limited = [Fail("rate_limit", status=429, retryable=True, hint=hint) for hint in (100.0, 200.0)]
    policy = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}}
    gate = gateway({"a": [limited[0]], "b": [limited[1]]}, policy=policy, chance=lambda: 0.0)
    with pytest.raises(RunFailed):
        await gate.ask()
    with pytest.raises(RunFailed) as caught:
        await gate.ask(only=["b"])
    assert caught.value.retry_after_seconds == pytest.approx(200)
