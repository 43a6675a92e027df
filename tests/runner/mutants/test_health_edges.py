"""What a candidate's health allows, and what a failure does to it, by themselves."""

from dataclasses import replace

import pytest

from standby.runner._decisions import Decisions, FailoverDecision, Match, RetryDecision
from standby.runner._health import (
    Availability,
    FailedTry,
    availability,
    effects_of_failure,
    leaves_out,
    probe_held_until,
)
from standby.runner._limits import Limits
from standby.runner._route import compile_route
from standby.runner.testing import ScriptedClient
from standby.store import (
    Candidate,
    Cool,
    Disable,
    Failed,
    Model,
    Provider,
    RunnerPolicy,
    RuntimePolicy,
    Snapshot,
    Standing,
)

OTHER = "candidate:chat/b"
OWN, KEY, KEY_AND_MODEL = "candidate:chat/a", "credential:a", "credential_model:a/m"
HALF_OPEN = Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1)


def candidates(*names, **policy):
    """Candidates of the model `chat`, each with a provider of its own."""
    listed = [
        Candidate.model_validate({"id": name, "provider": name, "model": "m", "runtime_policy": "own"})
        for name in names
    ]
    snapshot = Snapshot(
        version=1,
        models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed})},
        providers={name: Provider.model_validate({"client": name}) for name in names},
        runner_policies={"own": RunnerPolicy.model_validate(policy)},
        runtime_policies={"own": RuntimePolicy()},
    )
    return compile_route(snapshot, "chat", {name: ScriptedClient([]) for name in names}, Limits()).candidates


def test_a_disablement_without_a_reason_names_only_who_did_it():
    """Nothing is put after the name."""
    (a,) = candidates("a")
    found = availability(a, {OWN: Standing(disabled_at=5.0, disabled_by="ann")}.get, 30.0)
    assert found == Availability("disabled", 0.0, "disabled by ann")


def test_of_two_cooldowns_the_longer_one_is_told():
    """When it ends, and why."""
    (a,) = candidates("a")
    held = {
        OWN: Standing(cooling_until=60.0, cooled_at=10.0, cooldowns_in_row=1, cooled_for="short"),
        KEY: Standing(cooling_until=90.0, cooled_at=10.0, cooldowns_in_row=1, cooled_for="long"),
    }
    assert availability(a, held.get, 30.0) == Availability("cooling", 90.0, "long")


def test_of_two_cooldowns_that_end_together_the_candidates_own_is_told():
    """It is the first that was looked at."""
    (a,) = candidates("a")
    held = {
        domain: Standing(cooling_until=60.0, cooled_at=10.0, cooldowns_in_row=1, cooled_for=domain)
        for domain in (KEY, OWN)
    }
    assert availability(a, held.get, 30.0) == Availability("cooling", 60.0, OWN)


def test_the_probe_of_domains_that_nothing_is_known_of_is_held_by_nobody():
    """So it may be had at once."""
    assert probe_held_until((OWN, KEY), {}.get) == 0.0


def test_the_probe_of_several_domains_is_held_as_long_as_any_of_its_leases():
    """A run needs all of them."""
    held = {OWN: Standing(probe_until=50.0), KEY: Standing(probe_until=70.0)}
    assert probe_held_until((OWN, KEY), held.get) == 70.0


def failed(category="provider_5xx", **changes):
    """A try of just now that the run has given up."""
    values = {
        "category": category,
        "blame": "provider",
        "hint": None,
        "began_at": 29.0,
        "given_up": True,
        "probe": (),
        "others": candidates("b"),
        "chance": 0.0,
    }
    return FailedTry(**{**values, **changes})


# -- what a failure does

DISABLING = {"failoverPolicy": {"actions": {"auth_error": "disable_and_next"}, "recheckSeconds": 600}}


def effects(failure, held, *, category="provider_5xx", **policy):
    """What a failed try of `a` comes to, where the runner's own rules decide it."""
    (a,) = candidates("a", **policy)
    match = Match("s", "p", "r", "v")
    action = a.rules.actions.get(category, "next")
    decisions = Decisions(RetryDecision(False, "no", match), FailoverDecision(True, "yes", match, action, 60), None)
    return effects_of_failure(a, decisions, failure, held.get, 30.0)


@pytest.mark.parametrize(
    ("of_the_other", "last"),
    [
        (Standing(), False),
        (Standing(cooling_until=31.0, cooled_at=10.0, cooldowns_in_row=1), True),
        (Standing(disabled_at=5.0, disabled_by="ann"), True),
        (HALF_OPEN, False),
        (Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1, probe_holder="x", probe_until=30.0), False),
        (Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1, probe_holder="x", probe_until=31.0), True),
    ],
    ids=["well", "cooling", "disabled", "half open", "its probe ends now", "being probed"],
)
def test_the_last_usable_is_not_ejected(of_the_other, last):
    """Another one that is half open may be called, unless somebody is probing it."""
    done = effects(failed(), {OWN: Standing(failures_in_row=1), OTHER: of_the_other}, failoverPolicy={"ejectAfter": 2})
    assert (len(done) == 1) is last


@pytest.mark.parametrize(
    ("of_the_other", "seconds"),
    [
        (Standing(), 120),
        (Standing(failures_in_row=1), 60),
        (HALF_OPEN, 60),
        (Standing(cooling_until=31.0, cooled_at=10.0, cooldowns_in_row=1), 60),
    ],
    ids=["well", "failed last", "half open", "cooling"],
)
def test_a_failed_probe_cools_for_longer_where_somebody_else_is_well(of_the_other, seconds):
    """Who failed when it was last called is not well, though it may be called."""
    held = {OWN: HALF_OPEN, OTHER: of_the_other}
    cool = effects(failed(probe=(OWN,)), held, failoverPolicy={"cooldownSeconds": 60})[1]
    assert (cool.until - 30.0, cool.in_row) == (seconds, 2 if seconds > 60 else 1)


def test_a_cooldown_that_an_action_asks_for_grows_though_nobody_else_is_well():
    """The policy says how long it is."""
    policy = {"actions": {"provider_5xx": "cooldown_and_next"}, "cooldownSeconds": 60}
    done = effects(failed(others=()), {OWN: HALF_OPEN}, failoverPolicy=policy)
    assert (done[1].until - 30.0, done[1].in_row) == (120, 2)


def test_a_failure_counts_when_it_is_known():
    """Not when its try began."""
    assert effects(failed(), {}) == (Failed(OWN, 30.0),)


def test_a_try_of_before_a_cooldown_that_has_not_ended_still_counts():
    """Old news is only what is told after the recovery."""
    cooled = Standing(cooling_until=90.0, cooled_at=29.5, cooldowns_in_row=1)
    assert effects(failed(), {OWN: cooled}) == (Failed(OWN, 30.0),)


@pytest.mark.parametrize(("cooled_at", "done"), [(29.0, (Failed(OWN, 30.0),)), (29.5, ())])
def test_a_try_of_before_the_cooldown_is_old_news_after_the_recovery(cooled_at, done):
    """One that began with the cooldown is not of before it."""
    well = Standing(cooled_at=cooled_at, cooldowns_in_row=1, recovered_at=29.8, decay_seconds=50.0)
    assert effects(failed(), {OWN: well}) == done


def test_what_is_old_news_of_the_key_is_none_of_the_candidate():
    """The failure concerns the key with this model, and that has recovered since."""
    well = Standing(cooled_at=29.5, cooldowns_in_row=1, recovered_at=29.8, decay_seconds=50.0)
    assert effects(failed("rate_limit"), {KEY_AND_MODEL: well}, category="rate_limit") == ()


@pytest.mark.parametrize(("before", "ejected"), [(None, False), (0, False), (1, True)])
def test_two_failures_in_a_row_eject_and_one_does_not(before, ejected):
    """The failure that is told now is one of them."""
    held = {} if before is None else {OWN: Standing(failures_in_row=before)}
    done = effects(failed(), held, failoverPolicy={"ejectAfter": 2, "cooldownSeconds": 60})
    cool = Cool(OWN, 30.0, 90.0, 1, "provider_5xx: 2 failures in a row (ejectAfter 2)")
    assert done == ((Failed(OWN, 30.0), cool) if ejected else (Failed(OWN, 30.0),))


def test_a_cooldown_that_both_the_action_and_the_row_of_failures_ask_for_is_told_once():
    """As the action says it; one of another domain is told beside it."""
    policy = {"actions": dict.fromkeys(("provider_5xx", "rate_limit"), "cooldown_and_next"), "ejectAfter": 2}
    held = {OWN: Standing(failures_in_row=1)}
    (_, *cools) = effects(failed(), held, failoverPolicy=policy)
    assert [(cool.domain, cool.cause) for cool in cools] == [(OWN, "provider_5xx: yes (p.r = v)")]
    (_, *cools) = effects(failed("rate_limit"), held, category="rate_limit", failoverPolicy=policy)
    assert [(cool.domain, cool.cause) for cool in cools] == [
        (OWN, "rate_limit: 2 failures in a row (ejectAfter 2)"),
        (KEY_AND_MODEL, "rate_limit: yes (p.r = v)"),
    ]


@pytest.mark.parametrize(
    ("own", "of_the_other", "seconds", "in_row"),
    [
        (HALF_OPEN, Standing(), 120, 2),
        (HALF_OPEN, HALF_OPEN, 60, 1),
        (Standing(cooled_at=10.0, cooldowns_in_row=2, recovered_at=20.0, decay_seconds=50.0), HALF_OPEN, 60, 2),
    ],
    ids=["somebody is well", "nobody is well", "nor does what counts already make it longer"],
)
def test_failures_in_a_row_cool_for_longer_only_where_somebody_else_is_well(own, of_the_other, seconds, in_row):
    """Who is half open may be called, and is not well."""
    held = {OWN: replace(own, failures_in_row=1), OTHER: of_the_other}
    cool = effects(failed(), held, failoverPolicy={"ejectAfter": 2, "cooldownSeconds": 60})[1]
    assert (cool.until - 30.0, cool.in_row) == (seconds, in_row)


@pytest.mark.parametrize(("cooled_at", "ejected"), [(29.0, True), (29.2, False)])
def test_a_try_of_before_the_cooldown_does_not_eject_the_half_open(cooled_at, ejected):
    """It is of the incident that the cooldown was for; one that began with the cooldown is not."""
    held = {OWN: Standing(cooling_until=29.5, cooled_at=cooled_at, cooldowns_in_row=1, failures_in_row=9)}
    done = effects(failed(), held, failoverPolicy={"ejectAfter": 2, "cooldownSeconds": 60})
    cause = "provider_5xx: 10 failures in a row (ejectAfter 2)"
    cool = Cool(OWN, 30.0, 150.0, 2, cause)
    assert done == ((Failed(OWN, 30.0), cool) if ejected else (Failed(OWN, 30.0),))


def test_a_failed_probe_cools_what_its_failure_concerns():
    """A rate limit concerns the key with this model, which was probed, and so the probe has failed."""
    held = {KEY_AND_MODEL: HALF_OPEN}
    done = effects(failed("rate_limit", probe=(KEY_AND_MODEL,)), held, failoverPolicy={"cooldownSeconds": 60})
    assert done == (Failed(OWN, 30.0), Cool(KEY_AND_MODEL, 30.0, 150.0, 2, "rate_limit: the probe failed"))


@pytest.mark.parametrize(
    ("of_the_key", "cools"),
    [(HALF_OPEN, True), (Standing(cooled_at=29.5, cooldowns_in_row=1, recovered_at=29.8, decay_seconds=50.0), False)],
)
def test_a_failed_probe_says_nothing_of_what_was_cooled_and_recovered_meanwhile(of_the_key, cools):
    """Others have learnt of it later than the probe began."""
    done = effects(failed("provider_overloaded", probe=(KEY,)), {KEY: of_the_key}, category="provider_overloaded")
    assert [effect.domain for effect in done] == ([OWN, KEY] if cools else [OWN])


def test_a_failed_recheck_disables_until_the_next_one():
    """In the policy's name, whatever the failure was."""
    disabled = Standing(disabled_at=5.0, disabled_by="policy", recheck_at=20.0)
    done = effects(failed(probe=(OWN,)), {OWN: disabled}, failoverPolicy={"recheckSeconds": 600})
    assert done == (
        Failed(OWN, 30.0),
        Disable(OWN, 30.0, "policy", "provider_5xx: the probe failed", 630.0),
    )


@pytest.mark.parametrize(("recheck_at", "again"), [(29.0, True), (29.5, False)])
def test_what_is_disabled_is_disabled_again_only_by_a_try_of_after_its_recheck(recheck_at, again):
    """One that began at the second of the recheck is of after it."""
    disabled = Standing(disabled_at=5.0, disabled_by="policy", recheck_at=recheck_at)
    done = effects(failed("auth_error"), {OWN: disabled}, category="auth_error", **DISABLING)
    disable = Disable(OWN, 30.0, "policy", "auth_error: yes (p.r = v)", 630.0)
    assert done == ((Failed(OWN, 30.0), disable) if again else (Failed(OWN, 30.0),))


def test_only_a_cooldown_or_disablement_of_its_own_domains_leaves_a_candidate_out():
    """Not one of a stranger, and not a failure that was counted."""
    (a,) = candidates("a")
    assert leaves_out(a, [Cool(KEY, 30.0, 90.0, 1, "x")])
    assert not leaves_out(a, [Cool("credential:b", 30.0, 90.0, 1, "x")])
    assert not leaves_out(a, [Failed(OWN, 30.0)])


def test_a_row_of_cooldowns_beyond_all_numbers_comes_to_the_longest():
    """It overflows, and that is no error."""
    held = {OWN: Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=9999, failures_in_row=1)}
    policy = {"ejectAfter": 2, "cooldownSeconds": 60, "maxCooldownSeconds": 600}
    assert effects(failed(), held, failoverPolicy=policy)[1].until == 630.0


def test_what_no_rule_matched_is_told_without_a_rule():
    """The category and the reason are the whole cause."""
    (a,) = candidates("a")
    decisions = Decisions(
        RetryDecision(False, "no", None), FailoverDecision(True, "yes", None, "cooldown_and_next", 60), None
    )
    done = effects_of_failure(a, decisions, failed(), {}.get, 30.0)
    assert done == (Failed(OWN, 30.0), Cool(OWN, 30.0, 90.0, 1, "provider_5xx: yes"))
