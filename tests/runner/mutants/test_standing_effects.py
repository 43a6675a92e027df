"""What a disablement, a demotion and a success leave of a standing: each of them whole."""

import pytest

from standby.store import Demote, Disable, Standing, Succeeded
from standby.store._standing import CLEAN, changed

D = "candidate:chat/a"
RECHECKED = Standing(
    disabled_at=5.0,
    disabled_by="policy",
    disabled_why="auth_error",
    recheck_at=50.0,
    failures_in_row=3,
    probe_holder="one",
    probe_until=90.0,
)


def test_a_disablement_takes_the_probe_away():
    """Nobody has anything to find out."""
    probed = Standing(probe_holder="one", probe_until=99.0)
    assert changed(probed, Disable(D, 5.0, "ann", "maintenance")) == Standing(
        disabled_at=5.0, disabled_by="ann", disabled_why="maintenance"
    )


def test_a_disablement_with_the_same_recheck_changes_nothing():
    """The probe stays where it is."""
    assert changed(RECHECKED, Disable(D, 30.0, "policy", "again", 50.0)) is RECHECKED


def test_a_later_recheck_takes_the_probe_away():
    """And leaves who disabled it, when and why."""
    assert changed(RECHECKED, Disable(D, 30.0, "policy", "again", 600.0)) == Standing(
        disabled_at=5.0, disabled_by="policy", disabled_why="auth_error", recheck_at=600.0, failures_in_row=3
    )


def test_a_try_that_began_with_the_last_demotion_demotes_again():
    """It is not of before it."""
    demoted = changed(CLEAN, Demote(D, 10.0, 9.0, 100, 0.0, "x"))
    assert changed(demoted, Demote(D, 20.0, 10.0, 100, 0.0, "x")).demoted == 200


@pytest.mark.parametrize(("before", "after"), [(0, 100), (150, 250), (160, 260), (200, 260), (260, 260), (400, 400)])
def test_a_demotion_grows_up_to_the_most_and_never_shrinks(before, after):
    """What was demoted by more, under another policy, stays so; the wearing off begins anew all the same."""
    demoted = changed(Standing(demoted=before, demoted_at=1.0), Demote(D, 20.0, 10.0, 100, 60.0, "x", 260))
    assert (demoted.demoted, demoted.demoted_at) == (after, 20.0)


def test_a_try_that_began_with_the_cooldown_and_succeeds_ends_it():
    """It is not of before it."""
    cooled = Standing(cooling_until=60.0, cooled_at=10.0, cooldowns_in_row=1)
    assert changed(cooled, Succeeded(D, 70.0, 10.0)).recovered_at == 70.0


def test_a_success_ends_a_cooldown_and_keeps_its_length_in_mind():
    """Of all else that was held nothing is left."""
    cooled = Standing(
        cooling_until=60.0,
        cooled_at=10.0,
        cooldowns_in_row=1,
        cooled_for="timeout",
        failures_in_row=2,
        probe_holder="one",
        probe_until=90.0,
    )
    assert changed(cooled, Succeeded(D, 70.0, 65.0)) == Standing(
        cooled_at=10.0, cooldowns_in_row=1, recovered_at=70.0, decay_seconds=50.0
    )


def test_a_recheck_that_succeeds_enables_and_keeps_in_mind_how_long_it_was_out():
    """As if it had been cooling down until the recheck."""
    assert changed(RECHECKED, Succeeded(D, 70.0, 60.0)) == Standing(
        cooled_at=50.0, cooldowns_in_row=1, recovered_at=70.0, decay_seconds=45.0
    )


def test_a_success_enables_nothing_that_an_operator_disabled():
    """Only an operator does."""
    disabled = Standing(disabled_at=5.0, disabled_by="ann")
    assert changed(disabled, Succeeded(D, 70.0, 60.0)) is disabled


def test_a_success_forgets_failures_and_no_cooldown_before_its_time():
    """How long the next one is wears off by itself, and then all is forgotten."""
    well = Standing(cooled_at=10.0, cooldowns_in_row=1, recovered_at=61.0, decay_seconds=50.0, failures_in_row=2)
    soon = changed(well, Succeeded(D, 70.0, 65.0))
    assert soon == Standing(cooled_at=10.0, cooldowns_in_row=1, recovered_at=61.0, decay_seconds=50.0)
    assert changed(soon, Succeeded(D, 80.0, 75.0)) is soon
    assert changed(well, Succeeded(D, 111.0, 100.0)) == CLEAN


def test_a_recheck_that_succeeds_ends_the_cooldown_as_well():
    """Of the two only the memory is left, and it wears off as slowly as the disablement was long."""
    disabled = Standing(
        cooling_until=60.0,
        cooled_at=10.0,
        cooldowns_in_row=2,
        cooled_for="timeout",
        failures_in_row=3,
        disabled_at=5.0,
        disabled_by="policy",
        disabled_why="auth_error",
        recheck_at=100.0,
        probe_holder="run_1",
        probe_until=150.0,
    )
    assert changed(disabled, Succeeded(D, 110.0, 105.0)) == Standing(
        cooled_at=100.0, cooldowns_in_row=2, recovered_at=110.0, decay_seconds=95.0
    )
