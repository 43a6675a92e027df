"""What is held against a failure domain, at the very second at which it changes."""

import pytest

from standby.store import Cool, Disable, Restore, Standing
from standby.store._standing import CLEAN, changed, leased

D = "candidate:chat/a"


def test_a_cooldown_does_not_hold_at_the_second_at_which_it_ends():
    """It is half open from then on: no second is both, and none is neither."""
    standing = changed(CLEAN, Cool(D, 10.0, 60.0, 1, "timeout"))
    assert [standing.cooling(now) for now in (59.0, 60.0)] == [True, False]
    assert [standing.half_open(now) for now in (59.0, 60.0)] == [False, True]


def test_a_domain_that_nothing_is_held_against_heeds_no_success():
    """The usual success costs no write."""
    assert not CLEAN.heeds_success(100.0)


def test_a_success_is_heeded_when_a_cooldown_is_to_be_ended_and_when_it_is_to_be_forgotten():
    """Not in between: the memory of it wears off by itself."""
    cooled = Standing(cooling_until=60.0, cooled_at=10.0, cooldowns_in_row=1)
    assert cooled.heeds_success(61.0)
    well = Standing(cooled_at=10.0, cooldowns_in_row=1, recovered_at=61.0, decay_seconds=50.0)
    assert [well.heeds_success(now) for now in (110.0, 111.0)] == [False, True]


def test_a_restored_domain_stays_disabled_as_it_was():
    """By whom, why, and when it is to be rechecked: only what else was held against it is forgotten."""
    disabled = changed(CLEAN, Disable(D, 5.0, "policy", "auth_error", 300.0))
    cooled = changed(disabled, Cool(D, 10.0, 60.0, 1, "timeout"))
    assert changed(cooled, Restore(D, 20.0, "ann")) == Standing(
        disabled_at=5.0, disabled_by="policy", disabled_why="auth_error", recheck_at=300.0
    )


@pytest.mark.parametrize(("now", "granted"), [(59.0, False), (60.0, True)])
def test_a_lease_that_ends_now_is_free_now(now, granted):
    """Another run may probe at the second at which it ends."""
    standing = Standing(cooling_until=20.0, cooled_at=10.0, cooldowns_in_row=1, probe_holder="one", probe_until=60.0)
    assert (leased(standing, "other", now, now + 40.0) is not None) is granted


def test_a_new_cooldown_leaves_nothing_of_the_recovery_before_it():
    """Neither when it was well again, nor how fast that was to be forgotten."""
    well = Standing(cooled_at=10.0, cooldowns_in_row=1, recovered_at=61.0, decay_seconds=50.0)
    assert changed(well, Cool(D, 100.0, 160.0, 2, "timeout")) == Standing(
        cooling_until=160.0, cooled_at=100.0, cooldowns_in_row=2, cooled_for="timeout"
    )


def test_a_cooldown_after_a_recovery_is_as_long_as_it_says():
    """The one before it is over, however long it was to be, and the caller has counted what is left of it."""
    well = Standing(cooling_until=200.0, cooled_at=10.0, cooldowns_in_row=3, recovered_at=61.0, decay_seconds=50.0)
    cooled = changed(well, Cool(D, 100.0, 160.0, 1, "timeout"))
    assert (cooled.cooling_until, cooled.cooldowns_in_row) == (160.0, 1)


def test_a_cooldown_takes_the_probe_away():
    """Whoever had it has found what it was to find."""
    leased_to_one = Standing(probe_holder="one", probe_until=99.0)
    assert changed(leased_to_one, Cool(D, 10.0, 60.0, 1, "timeout")) == Standing(
        cooling_until=60.0, cooled_at=10.0, cooldowns_in_row=1, cooled_for="timeout"
    )


@pytest.mark.parametrize(("now", "counts"), [(100.0, 3), (119.0, 3), (120.0, 2), (159.0, 1), (160.0, 0), (900.0, 0)])
def test_each_time_as_long_as_the_cooldown_that_it_has_been_well_one_counts_less(now, counts):
    """From the second at which that time is over, and never fewer than none."""
    well = Standing(cooled_at=10.0, cooldowns_in_row=3, recovered_at=100.0, decay_seconds=20.0)
    assert well.in_row(now) == counts


def test_of_who_is_not_well_yet_all_cooldowns_count():
    """However long ago they were."""
    assert Standing(cooling_until=60.0, cooled_at=10.0, cooldowns_in_row=3).in_row(9_000.0) == 3
