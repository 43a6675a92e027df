"""What an operator is told of a candidate: each field, and each sentence to the letter."""

import math
import time

import pytest

from standby.runner._budget import Budgets
from standby.runner._limits import Limits
from standby.runner._queue import Queue, Ticket
from standby.runner._route import compile_route
from standby.runner._status import Known, LimitStatus, moment, statuses_of
from standby.runner.testing import ScriptedClient
from standby.store import Model, Provider, RetryBudget, RunnerPolicy, RuntimePolicy, Snapshot, Standing

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
STEADY = 500.0  # what local capacity counts by
OWN, KEY, KEY_AND_MODEL, PROVIDER = "candidate:chat/a", "credential:p", "credential_model:p/m", "provider:p"
HALF_OPEN = Standing(cooling_until=NOW - 10, cooled_at=NOW - 70, cooldowns_in_row=1)


class Gateway:
    """One candidate, `a`, and what is known of it."""

    def __init__(self, *, policy=None, limits=None, limits_of_key=None, others=None):
        listed = [{"id": "a", "provider": "p", "model": "m", "priority": 10, "weight": 2, "runtime_policy": "own"}]
        queue = {"maxWaiting": 7}
        snapshot = Snapshot(
            version=1,
            models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed, "queue": queue})},
            providers={"p": Provider.model_validate({"client": "p", "rate_limit": limits_of_key or {}})},
            runner_policies={"own": RunnerPolicy.model_validate(policy or {})},
            runtime_policies={"own": RuntimePolicy.model_validate({"rateLimitPolicy": limits or {}})},
        )
        self.route = compile_route(snapshot, "chat", {"p": ScriptedClient([])}, Limits(others))
        (self.candidate,) = self.route.candidates
        self.budgets, self.queue = Budgets(), Queue()

    def status(self, held=None, now=NOW):
        known = Known((held or {}).get, self.budgets, self.queue, STEADY)
        (status,) = statuses_of(self.route, known, now)
        return status


def status(held=None, **policy):
    return Gateway(policy=policy).status(held)


def test_nothing_is_held_against_a_new_candidate():
    """It is as the catalog has it."""
    assert status().as_dict() == {
        "id": "a",
        "key": "chat/a",
        "model": "chat",
        "provider": "p",
        "provider_model": "m",
        "status": "usable",
        "until": 0.0,
        "cause": "",
        "priority": 10,
        "effective_priority": 10,
        "weight": 2.0,
        "demoted_for": "",
        "restored_at": None,
        "failures_in_row": 0,
        "cooldowns_in_row": 0,
        "retry_budget": {},
        "limits": (),
        "waiting": 0,
        "domains": {
            "candidate": OWN,
            "credential": KEY,
            "credential_model": KEY_AND_MODEL,
            "provider": PROVIDER,
        },
        "keys": (),
        "told": ("It may be called.",),
    }


# -- whether it may be called


def test_whoever_cools_down_is_out_for_the_longest_of_its_cooldowns():
    """The sentence tells how long, for what, and of which domain."""
    found = status(
        {
            OWN: Standing(cooling_until=NOW + 5, cooled_at=NOW - 1, cooldowns_in_row=1, cooled_for="own"),
            KEY: Standing(cooling_until=NOW + 60.4, cooled_at=NOW - 1, cooldowns_in_row=3, cooled_for="auth_error: no"),
            PROVIDER: Standing(cooling_until=NOW + 7, cooled_at=NOW - 1, cooldowns_in_row=2, cooled_for="provider"),
        }
    )
    assert (found.status, found.until, found.cause) == ("cooling", NOW + 60.4, "auth_error: no")
    assert found.told == (
        (
            "Left out for 60 s more, until 2023-11-14 22:14:20 UTC, as all of credential:p: auth_error: no. "
            "Cooldowns in a row: 3. When it ends one run probes it."
        ),
    )
    assert found.cooldowns_in_row == 1


def test_whoever_is_half_open_waits_for_the_next_run():
    """All that the run must probe is told, and no end."""
    found = status({OWN: HALF_OPEN, PROVIDER: HALF_OPEN})
    assert (found.status, found.until, found.cause) == ("half_open", 0.0, "")
    assert found.told == (
        "The next run probes it: it was left out by what is held against candidate:chat/a, provider:p.",
    )


@pytest.mark.parametrize(("until", "probed"), [(NOW + 1, True), (NOW, False)])
def test_a_probe_is_under_way_until_its_lease_ends(until, probed):
    """At that second the next run may have it."""
    held = Standing(cooling_until=NOW - 10, cooled_at=NOW - 70, cooldowns_in_row=1, probe_holder="x", probe_until=until)
    found = status({OWN: held})
    assert (found.status, found.until) == (("probing", until) if probed else ("half_open", 0.0))
    if probed:
        assert found.told == (
            "A run probes it, until 2023-11-14 22:13:21 UTC at the latest; the others keep to the next candidate.",
        )


@pytest.mark.parametrize(
    ("recheck_at", "again"),
    [(0.0, "Somebody must enable it."), (NOW + 10, "A run checks it again from 2023-11-14 22:13:30 UTC on.")],
)
def test_who_is_disabled_stays_so_until_somebody_enables_it_or_a_run_looks(recheck_at, again):
    """The sentence tells which."""
    held = Standing(disabled_at=NOW - 5, disabled_by="ann", disabled_why="wrong answers", recheck_at=recheck_at)
    found = status({OWN: held})
    assert (found.status, found.until, found.cause) == ("disabled", recheck_at, "disabled by ann: wrong answers")
    assert found.told == (f"Left out: disabled by ann: wrong answers. {again}",)


def test_a_cooldown_that_is_over_still_counts_for_the_length_of_the_next():
    """For each domain of which that is so, until it has worn off."""
    well = Standing(cooled_at=NOW - 70, cooldowns_in_row=2, recovered_at=NOW - 20, decay_seconds=60)
    worn_off = Standing(cooled_at=NOW - 170, cooldowns_in_row=1, recovered_at=NOW - 120, decay_seconds=60)
    found = status({OWN: worn_off, KEY: well})
    assert found.told == (
        "It may be called.",
        "credential:p is well since 2023-11-14 22:13:00 UTC; its next cooldown would be number 3 in a row.",
    )
    assert (found.status, found.cooldowns_in_row) == ("usable", 0)


# -- its rank


def demoted(restore_seconds):
    return Standing(
        demoted=30,
        demoted_at=NOW - 15,
        demoted_for="timeout: slow",
        demote_step=10,
        restore_seconds=restore_seconds,
    )


def test_a_demotion_that_wears_off_is_told_with_the_time_of_its_next_step():
    """One step has gone already."""
    found = status({OWN: demoted(10)})
    assert (found.effective_priority, found.demoted_for, found.restored_at) == (30, "timeout: slow", NOW + 5)
    assert found.told[1:] == ("Ranked 20 lower, at 30: timeout: slow; it wears off from 2023-11-14 22:13:25 UTC on.",)


def test_a_demotion_without_an_end_needs_somebody():
    """It has no time."""
    found = status({OWN: demoted(0)})
    assert (found.effective_priority, found.restored_at) == (40, None)
    assert found.told[1:] == ("Ranked 30 lower, at 40: timeout: slow; until somebody restores it.",)


def test_a_demotion_that_has_worn_off_is_told_no_more():
    """Nor what it was for."""
    found = status({OWN: demoted(5)})
    assert (found.effective_priority, found.demoted_for, found.told) == (10, "", ("It may be called.",))


# -- its failures


@pytest.mark.parametrize(
    ("eject_after", "sentence"), [(4, "Failures in a row: 3; 4 leave it out."), (0, "Failures in a row: 3.")]
)
def test_failures_in_a_row_are_told_with_how_many_leave_it_out(eject_after, sentence):
    """Where any number does."""
    found = status({OWN: Standing(failures_in_row=3)}, failoverPolicy={"ejectAfter": eject_after})
    assert found.failures_in_row == 3
    assert found.told == ("It may be called.", sentence)


# -- what it has left


def test_the_tokens_of_a_retry_budget_are_told_of_each_domain_that_has_spent_some():
    """Nothing is left where others, with a larger budget, have spent more than this candidate has."""
    gateway = Gateway(policy={"retryBudget": {"capacity": 16}})
    gateway.budgets.take(OWN, "unknown", RetryBudget())
    for _ in range(2):
        gateway.budgets.take(PROVIDER, "unknown", RetryBudget())
    found = gateway.status()
    assert found.retry_budget == {OWN: 2, PROVIDER: 0}
    assert found.told[1:] == (
        "Retries of candidate:chat/a have 2 of 16 tokens left.",
        "Retries of provider:p have 0 of 16 tokens left.",
    )


def test_local_limits_are_told_of_the_candidate_and_of_its_key():
    """The last minute's calls and tokens, and those under way; what is not limited is not counted, and has no words."""
    gateway = Gateway(
        limits={"concurrency": 2, "requestsPerMinute": 10},
        limits_of_key={"tokensPerMinute": 900, "requestsPerMinute": 20},
    )
    gateway.queue.take(gateway.candidate.capacities, 40, STEADY - 70).end()
    gateway.queue.take(gateway.candidate.capacities, 30, STEADY - 50).end()
    gateway.queue.take(gateway.candidate.capacities, 20, STEADY - 1)
    found = gateway.status()
    assert found.limits == (
        LimitStatus("candidate", "", 1, 2, 2, 10, 0, None, shared=False),
        LimitStatus("key", "p", 1, None, 2, 20, 50, 900),
    )
    assert found.told[1:] == (
        "Its own limits: 1 of 2 calls under way, 2 of 10 requests in the last minute.",
        "The limits of its key: 2 of 20 requests in the last minute, 50 of 900 tokens in the last minute.",
    )


class Others:
    """Who counts for all processes, and is asked nothing here."""

    share = 1.0

    def listen(self, room, share_changed):
        pass


def test_what_others_use_of_a_limit_is_not_known_here():
    """So the words say of which process they speak; a limit that is not shared is this process's alone."""
    gateway = Gateway(limits={"concurrency": 2}, limits_of_key={"concurrency": 3, "shared": False}, others=Others())
    gateway.queue.take(gateway.candidate.capacities, 0, STEADY)
    found = gateway.status()
    assert [limit.shared for limit in found.limits] == [True, False]
    assert found.told[1:] == (
        "Its own limits: 1 of 2 calls under way, in this process of all that share them.",
        "The limits of its key: 1 of 3 calls under way.",
    )


def test_the_runs_in_the_queue_of_its_model_are_told():
    """With how many there may be."""
    gateway = Gateway(limits={"concurrency": 1})
    capacities = gateway.candidate.capacities
    gateway.queue.take(capacities, 0, STEADY)
    gateway.queue.join(Ticket([("chat/a", capacities)], 0, lambda: None), "chat", "normal", STEADY)
    found = gateway.status()
    assert found.waiting == 1
    assert found.told[-1] == "Runs of chat that wait for local capacity: 1 of at most 7."


# -- times


@pytest.mark.parametrize("at", [253_402_300_799.0, 253_402_300_800.0, 1e18, math.inf])
def test_no_moment_is_later_than_the_last_that_a_calendar_has(at):
    """A cooldown of ten thousand years is no error."""
    assert moment(at) == "9999-12-31 23:59:59 UTC"


def test_a_moment_is_told_in_utc_wherever_the_machine_is(monkeypatch):
    """Operators of two places read the same."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert moment(NOW) == "2023-11-14 22:13:20 UTC"
    finally:
        monkeypatch.undo()
        time.tzset()
