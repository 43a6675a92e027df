"""What holds for every script of outcomes and every policy."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from standby.clients import ClientError
from standby.runner import RunFailed
from standby.runner.testing import Fail, Slow, VirtualLoop, answer
from tests.runner.conftest import gateway

CODES = ["network", "timeout", "server_error", "rate_limit", "auth_failed", "bad_request", "invalid_response"]
SCOPES = ["request", "credential", "credential_model", "candidate", "provider", "local", "caller"]

seconds = st.sampled_from([0, 0.5, 3, 20, 100])
fails = st.builds(
    Fail,
    st.sampled_from(CODES),
    status=st.sampled_from([0, 200, 400, 401, 429, 500]),
    retryable=st.booleans(),
    hint=st.sampled_from([None, 0.0, 1.0, 5.0, 1e9]),
    scope=st.sampled_from(SCOPES),
)
prompt = st.one_of(fails, st.builds(answer), st.just(ValueError("broken")))
outcomes = st.one_of(prompt, st.builds(Slow, seconds, prompt))
scripts = st.lists(outcomes, min_size=1, max_size=5)
categories = st.sampled_from(["network", "timeout", "provider_5xx", "rate_limit", "auth_error", "client_error"])
some_categories = st.lists(categories, max_size=3)
policies = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["active", "paused"]),
        "hardStopPolicy": st.fixed_dictionaries({"categories": some_categories}),
        "failoverPolicy": st.fixed_dictionaries(
            {
                "denyCategories": some_categories,
                "allowCategories": some_categories,
                "actions": st.dictionaries(
                    categories, st.sampled_from(["next", "cooldown_and_next", "disable_and_next"])
                ),
                "cooldownSeconds": st.sampled_from([0, 1, 40]),
                "ejectAfter": st.integers(0, 3),
            }
        ),
        "priorityDemotePolicy": st.fixed_dictionaries({"enabled": st.booleans(), "categories": some_categories}),
    },
)
retries = st.fixed_dictionaries(
    {
        "maxAttempts": st.integers(1, 4),
        "denyCategories": some_categories,
        "allowCategories": some_categories,
        "backoff": st.fixed_dictionaries(
            {"initialSeconds": st.sampled_from([0, 1, 10]), "jitter": st.sampled_from(["full", "none"])}
        ),
    }
)
limits = st.sampled_from([{}, {"concurrency": 1}, {"requestsPerMinute": 2}, {"tokensPerMinute": 5}])
models = st.fixed_dictionaries(
    {
        "timeouts": st.fixed_dictionaries({"totalSeconds": st.sampled_from([1, 30, 200])}),
        "queue": st.fixed_dictionaries(
            {"maxWaiting": st.integers(0, 2), "maxWaitSeconds": st.sampled_from([0, 5, 100])}
        ),
    }
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    scripts=st.lists(scripts, min_size=1, max_size=3),
    policy=policies,
    retry=retries,
    limit=limits,
    model=models,
    runs=st.integers(1, 4),
    chance=st.sampled_from([0.0, 0.5, 0.999]),
)
def test_every_run_ends_within_its_rules(backend, scripts, policy, retry, limit, model, runs, chance):
    """Runs end in time; no candidate is tried too often, none after the deadline; each failure names its rule."""
    options = {"loop_factory": VirtualLoop} if backend == "asyncio" else {"clock": MockClock(autojump_threshold=0)}
    anyio.run(check, scripts, policy, retry, limit, model, runs, chance, backend=backend, backend_options=options)


async def check(scripts, policy, retry, limit, model, runs, chance):
    gate = gateway(
        {f"c{number}": script for number, script in enumerate(scripts)},
        policy=policy,
        retry=retry,
        limits=limit,
        model=model,
        timeouts={"attemptSeconds": 10},
        chance=lambda: chance,
    )
    records = []

    async def one():
        try:
            records.append((await gate.ask()).record)
        except RunFailed as failed:
            records.append(failed.record)

    async with anyio.create_task_group() as tasks:
        for _ in range(runs):
            tasks.start_soon(one)
    assert len(records) == runs
    for record in records:
        check_record(record, retry["maxAttempts"], model["timeouts"]["totalSeconds"])
    assert not any(gate.runner.held.values())


def check_record(record, max_attempts, total_seconds):
    deadline = record.began_at + total_seconds
    assert record.ending is not None
    assert record.ended_at <= deadline + 1e-3
    calls = [tried for tried in record.tries if tried.n]
    for candidate in {tried.candidate for tried in calls}:
        numbers = [tried.n for tried in calls if tried.candidate == candidate]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) <= max_attempts
    for tried in record.tries:
        assert tried.began_at < deadline
        if tried.failure is not None:
            reason, match = tried.rule
            assert reason
            assert match.rule
            assert tried.did in ("retry", "next", "stop")
            assert isinstance(tried.failure.error, ClientError | ValueError)
    assert (record.ending == "answered") == (record.tries != [] and record.tries[-1].failure is None)
