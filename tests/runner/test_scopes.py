"""Whom a failure concerns: what one model's run learned holds for every model that shares it."""

from dataclasses import replace

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import Fail, answer
from standby.store import Candidate, Model
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

OTHERS = {"same": ("a", "m"), "sibling": ("a", "m2"), "stranger": ("b", "m")}
"""The candidates of the other model: their providers, and those providers' names of the model."""


def two_models(failure, *, action="cooldown_and_next", scopes=None, **failover):
    """`chat` has the candidates `a` and `b`, each of its own provider; `other` has three that share with them."""
    category = {401: "auth_error", 402: "insufficient_balance", 429: "rate_limit", 529: "provider_overloaded"}.get(
        failure.error.status, "provider_5xx"
    )
    gate = gateway(
        {"a": [failure, answer()], "b": []},
        policy={
            "failoverPolicy": {
                "allowCategories": [category],
                "actions": {category: action},
                "cooldownSeconds": 60,
                "ejectAfter": 0,
                **failover,
            },
            "scopes": scopes or {},
        },
    )
    snapshot = gate.catalog.snapshot()
    candidates = [
        Candidate(id=name, provider=provider, model=model, priority=rank, runtime_policy="own")
        for rank, (name, (provider, model)) in enumerate(OTHERS.items())
    ]
    other = Model(runner_policy="own", candidates=candidates)
    gate.catalog.replace(replace(snapshot, models={**snapshot.models, "other": other}))
    return gate


def usable(gate):
    """Who may be called, of both models."""
    return [status.key for status in gate.runner.statuses() if status.status == "usable"]


async def ask_other(gate, **options):
    return await gate.runner.run(Request("other", {"messages": []}), **options)


BAD_KEY = Fail("auth_failed", "wrong key", status=401, scope="credential", work="rejected")
NO_MONEY = Fail("insufficient_balance", "no credit", status=402, scope="credential", work="rejected")
LIMITED = Fail("rate_limit", "slow down", status=429, retryable=True, scope="credential_model", work="rejected")
OVERLOADED = Fail("overloaded", "too much", status=529, retryable=True, scope="provider", work="rejected")
DOWN = Fail("server_error", "down", status=500, retryable=True)


@pytest.mark.parametrize(
    ("failure", "left"),
    [
        (BAD_KEY, ["other/stranger"]),
        (NO_MONEY, ["other/stranger"]),
        (LIMITED, ["other/sibling", "other/stranger"]),
        (OVERLOADED, ["other/stranger"]),
        (DOWN, ["other/same", "other/sibling", "other/stranger"]),
    ],
    ids=["401 the key", "402 the key", "429 the key and the model", "529 the provider", "500 the candidate"],
)
async def test_a_failure_leaves_out_what_it_concerns_in_every_model(failure, left):
    """And nothing else: the candidates of another provider, key or model stay."""
    gate = two_models(failure)
    await gate.ask()
    assert usable(gate) == ["chat/b", *left]


async def test_one_bad_key_is_tried_once_by_all_models():
    """The other model's run passes by all that use it, and says why."""
    gate = two_models(BAD_KEY)
    await gate.ask()
    record = (await ask_other(gate)).record
    assert (record.candidate, gate.calls()["a"]) == ("stranger", 1)
    assert [(skip.candidate, skip.reason) for skip in record.skips] == [("same", "cooling"), ("sibling", "cooling")]
    assert record.skips[0].cause.startswith("auth_error: failover_allow_policy")


async def test_a_scope_of_the_policy_holds_for_every_model_too():
    """Written for a category, it replaces the default."""
    gate = two_models(DOWN, scopes={"provider_5xx": "provider"})
    await gate.ask()
    assert usable(gate) == ["chat/b", "other/stranger"]
    gate = two_models(BAD_KEY, scopes={"auth_error": "candidate"})
    await gate.ask()
    assert usable(gate) == ["chat/b", "other/same", "other/sibling", "other/stranger"]


async def test_a_probe_of_one_model_brings_back_all_that_share_the_key():
    """One run of the other model probes the key, and its answer ends the matter for both."""
    gate = two_models(BAD_KEY)
    await gate.ask()
    await anyio.sleep(70)
    assert usable(gate) == ["chat/b", "other/stranger"]
    assert (await ask_other(gate)).candidate == "same"
    assert usable(gate) == ["chat/a", "chat/b", "other/same", "other/sibling", "other/stranger"]


async def test_disabling_concerns_the_candidate_alone():
    """What lasts until somebody looks at it is not spread by a scope."""
    gate = two_models(BAD_KEY, action="disable_and_next")
    await gate.ask()
    assert usable(gate) == ["chat/b", "other/same", "other/sibling", "other/stranger"]


async def test_ejection_concerns_the_candidate_alone():
    """A row of failures is the candidate's own."""
    gate = two_models(OVERLOADED, action="next", ejectAfter=1)
    await gate.ask()
    assert usable(gate) == ["chat/b", "other/same", "other/sibling", "other/stranger"]


async def test_where_all_that_a_model_has_share_the_key_its_run_fails_at_once():
    """Nobody is asked for what another model's run has learned."""
    gate = two_models(BAD_KEY)
    await gate.ask()
    with pytest.raises(RunFailed) as caught:
        await ask_other(gate, only=["same", "sibling"], timeout_seconds=10)
    assert (caught.value.ending, gate.calls()["a"]) == ("unavailable", 1)
    assert caught.value.retry_after_seconds == pytest.approx(63)
