"""`changed`, the one meaning of every effect, in every store."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from standby.store import Cool, Demote, Disable, Enable, Failed, Restore, Standing, Succeeded
from standby.store._standing import CLEAN, changed, leased, returned

D = "candidate:chat/primary"
OPERATORS = (Enable, Restore)

times = st.integers(1, 500).map(float)
cools = st.builds(Cool, st.just(D), times, times, st.integers(1, 4), st.sampled_from(["rate_limit", "timeout"]))
failures = st.builds(Failed, st.just(D), times)
successes = st.builds(Succeeded, st.just(D), times, times)
disables = st.builds(Disable, st.just(D), times, st.just("ann"), st.just("maintenance"))
enables = st.builds(Enable, st.just(D), times, st.just("ann"))
restores = st.builds(Restore, st.just(D), times, st.just("ann"))


@st.composite
def demotions(draw):
    began_at = draw(times)
    return Demote(D, began_at + draw(st.integers(0, 50)), began_at, 100, draw(st.sampled_from([0.0, 60.0])), "timeout")


effects = st.one_of(cools, failures, successes, disables, enables, restores, demotions())
histories = st.lists(effects, max_size=30)


def after(*done, standing: Standing = CLEAN) -> Standing:
    for effect in done:
        standing = changed(standing, effect)
    return standing


@given(histories, effects)
def test_a_cooldown_ends_earlier_only_by_an_operator_or_a_later_success(before, effect):
    """Rule 1: whatever else happens, the end of a cooldown never moves back."""
    then = after(*before)
    now = changed(then, effect)
    if now.cooling_until < then.cooling_until:
        assert isinstance(effect, Restore) or (isinstance(effect, Succeeded) and effect.began_at >= then.cooled_at)


@given(histories, demotions(), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_a_demotion_counts_once_per_incident(before, first, fractions):
    """Rule 2: attempts that began before the last demotion add nothing to it."""
    demoted = after(*before, first)
    for fraction in fractions:
        began_at = demoted.demoted_at * fraction * 0.999
        assert changed(demoted, Demote(D, first.at + 100, began_at, 100, 0.0, "timeout")) == demoted


@given(histories, successes)
def test_a_success_of_an_attempt_from_before_the_cooldown_changes_nothing(before, success):
    """Rule 3: it proves nothing."""
    standing = replace(after(*before), cooled_at=success.began_at + 1)
    assert changed(standing, success) is standing


@given(histories, effects)
def test_what_changes_nothing_returns_the_same_object(before, effect):
    """So that a store can tell without comparing."""
    standing = after(*before)
    now = changed(standing, effect)
    assert now is standing or now != standing


@given(histories, effects)
def test_only_an_operator_enables(before, effect):
    """A disablement outlasts everything but an enabling."""
    standing = after(*before, Disable(D, 1.0, "ann", "maintenance"))
    assert changed(standing, effect).disabled or isinstance(effect, Enable)


@given(histories, times, times)
def test_a_demotion_only_wears_off(before, now, later):
    """It never grows by itself, not even where the clock of the process that demoted was ahead."""
    standing = after(*before)
    now, later = sorted((now, later))
    assert 0 <= standing.demotion(later) <= standing.demotion(now) <= standing.demoted


@given(histories, times)
def test_a_demotion_is_the_same_until_it_is_said_to_change(before, now):
    """What was ranked may be kept until then."""
    standing = after(*before)
    changes_at = standing.demotion_changes_at(now)
    assert changes_at > now
    if changes_at != float("inf"):
        assert standing.demotion((now + changes_at) / 2) == standing.demotion(now)
        assert standing.demotion(changes_at) < standing.demotion(now)


@given(st.lists(cools, min_size=2, max_size=4, unique_by=lambda cool: cool.until))
def test_cooldowns_come_to_the_same_in_every_order(done):
    """Processes commit in another order than things happened."""
    assert len({after(*order) for order in permutations(done)}) == 1


@given(st.lists(st.one_of(cools, failures, disables), max_size=8), st.integers(0, 8))
def test_effects_of_different_kinds_do_not_disturb_each_other(done, at):
    """A disablement between others comes to the same wherever it is."""
    disable = Disable(D, 1.0, "policy", "auth_error")
    others = [effect for effect in done if not isinstance(effect, Disable)]
    assert after(*others[:at], disable, *others[at:]) == after(disable, *others)


@given(histories, st.lists(st.tuples(st.sampled_from("abc"), times, st.integers(1, 50)), min_size=1, max_size=12))
def test_one_holder_has_the_probe_at_any_time(before, asked):
    """A lease is granted only where no other holder's is alive."""
    standing = after(*before)
    for holder, now, seconds in asked:
        granted = leased(standing, holder, now, now + seconds)
        if granted is None:
            continue
        assert not standing.cooling(now)
        assert standing.probe_until <= now or standing.probe_holder in {"", holder}
        standing = granted


@given(histories)
def test_a_lease_that_is_returned_leaves_no_trace(before):
    """A cancelled probe changes nothing."""
    standing = replace(after(*before), probe_holder="", probe_until=0.0, disabled_at=0.0)
    granted = leased(standing, "run_1", 1000.0, 1010.0)
    assert granted is not None
    assert returned(granted, "run_1") == standing
    assert returned(granted, "run_2") is granted


def test_a_demotion_wears_off_a_step_at_a_time():
    """Each step after ``restore_seconds``."""
    standing = after(Demote(D, 10.0, 5.0, 100, 60.0, "x"), Demote(D, 20.0, 15.0, 100, 60.0, "x"))
    assert [standing.demotion(now) for now in (20.0, 79.0, 80.0, 139.0, 140.0, 999.0)] == [200, 200, 100, 100, 0, 0]


def test_a_demotion_without_restore_seconds_stays():
    """Until an operator restores it."""
    standing = after(Demote(D, 10.0, 5.0, 100, 0.0, "x"))
    assert standing.demotion(1e9) == 100
    assert changed(standing, Restore(D, 1e9, "ann")) == CLEAN


def test_a_demotion_of_the_future_has_not_begun_to_wear_off():
    """The clock of the process that demoted may be ahead of this one's by more than ``restore_seconds``."""
    standing = after(Demote(D, 1000.0, 995.0, 100, 60.0, "x"))
    assert standing.demotion(10.0) == 100
    assert standing.demotion_changes_at(10.0) == 1060.0


def test_a_shorter_cooldown_that_comes_late_still_counts():
    """A success from before it proves nothing, though the longer one decides when it ends."""
    standing = after(Cool(D, 10.0, 90.0, 1, "rate_limit"), Cool(D, 20.0, 80.0, 2, "timeout"))
    assert (standing.cooling_until, standing.cooled_at, standing.cooldowns_in_row) == (90.0, 20.0, 2)
    assert changed(standing, Succeeded(D, 30.0, 15.0)) is standing
