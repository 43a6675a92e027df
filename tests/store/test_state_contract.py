"""What every `State` promises, asked of each one."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from standby.store import (
    Cool,
    Demote,
    Disable,
    Enable,
    Failed,
    MemoryState,
    Restore,
    State,
    Succeeded,
)
from standby.store.sql import open_sql
from standby.store.valkey import ValkeyState

pytestmark = pytest.mark.anyio

HERE, THERE = "candidate:chat/primary", "provider:openai"


@pytest.fixture(params=["memory-asyncio", "memory-trio", "sqlite-asyncio", "postgresql-asyncio", "valkey-asyncio"])
def kind(request):
    return request.param.split("-")


@pytest.fixture
def anyio_backend(kind):
    return kind[1]


@pytest.fixture
async def state(kind, anyio_backend, request):
    if kind[0] == "memory":
        yield MemoryState()
    elif kind[0] == "valkey":
        async with ValkeyState(request.getfixturevalue("valkey_url")) as opened:
            yield opened
    else:
        async with open_sql(request.getfixturevalue("sql_url")) as store:
            yield store.state


async def half_open(state: State, *domains: str) -> None:
    """Cooled at 10 until 20: half open at any later time."""
    await state.apply([Cool(domain, 10.0, 20.0, 1, "rate_limit") for domain in domains])


async def test_is_a_state(state):
    """It has everything that the protocol names."""
    assert isinstance(state, State)


async def test_nothing_is_known_at_first(state):
    """A domain that nothing was applied to has no standing."""
    assert state.standing(HERE) is None
    assert state.standings() == {}
    assert state.trouble is None


async def test_effects_are_visible_before_the_first_await(state):
    """The run that caused an effect sees it in its next step, whatever the store does about it meanwhile."""
    applying = state.apply([Cool(HERE, 10.0, 70.0, 1, "rate_limit"), Failed(THERE, 10.0)])
    try:
        applying.send(None)
    except StopIteration:
        pass
    else:
        applying.close()
    assert state.standing(HERE).cooling_until == 70.0
    assert state.standing(THERE).failures_in_row == 1


async def test_effects_stay_after_apply_returns(state):
    """What was visible at once is still so when it is as lasting as it can be made."""
    await state.apply([Cool(HERE, 10.0, 70.0, 2, "rate_limit")])
    assert state.standing(HERE).cooling_until == 70.0
    assert state.standing(HERE).cooldowns_in_row == 2
    assert state.standing(HERE).cooled_for == "rate_limit"


async def test_effects_are_applied_in_order(state):
    """Later effects of one call find what the earlier ones did."""
    await state.apply([Failed(HERE, 1.0), Failed(HERE, 2.0), Succeeded(HERE, 3.0, 2.5), Failed(HERE, 4.0)])
    assert state.standing(HERE).failures_in_row == 1


async def test_generation_grows_with_every_change(state):
    """What was computed from one generation is no longer true of a later one."""
    before = state.generation
    await state.apply([Failed(HERE, 1.0)])
    between = state.generation
    await state.apply([Failed(HERE, 2.0)])
    assert before < between < state.generation


async def test_generation_stays_where_nothing_changes(state):
    """What was computed may be kept as long as nothing changed."""
    before = state.generation
    await state.apply([])
    await state.apply([Succeeded(HERE, 2.0, 1.0), Enable(HERE, 2.0, "ann"), Restore(HERE, 2.0, "ann")])
    assert state.generation == before


async def test_standings_are_a_copy(state):
    """Whoever holds the standings holds those of one moment."""
    await state.apply([Failed(HERE, 1.0)])
    held = state.standings()
    await state.apply([Failed(THERE, 2.0)])
    assert set(held) == {HERE}
    assert set(state.standings()) == {HERE, THERE}


async def test_changed_wakes_on_a_change(state):
    """Whoever waits for a change is woken by it."""
    generation = state.generation
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(state.changed, generation)
            await anyio.lowlevel.checkpoint()
            await state.apply([Failed(HERE, 1.0)])
    assert state.generation != generation


async def test_changed_does_not_wait_for_what_is_past(state):
    """A change between the look and the wait is not missed."""
    generation = state.generation
    await state.apply([Failed(HERE, 1.0)])
    with anyio.fail_after(10):
        await state.changed(generation)


async def test_a_shorter_cooldown_never_shortens_a_longer_one(state):
    """Cooldowns are extended only."""
    await state.apply([Cool(HERE, 10.0, 100.0, 1, "rate_limit")])
    await state.apply([Cool(HERE, 20.0, 30.0, 1, "timeout")])
    assert state.standing(HERE).cooling_until == 100.0
    assert state.standing(HERE).cooled_for == "rate_limit"


async def test_a_success_of_an_older_attempt_proves_nothing(state):
    """Only an attempt that began after the cooldown ends it."""
    await state.apply([Cool(HERE, 10.0, 100.0, 1, "rate_limit")])
    await state.apply([Succeeded(HERE, 12.0, 9.0)])
    assert state.standing(HERE).cooling_until == 100.0


async def test_a_success_of_a_later_attempt_ends_the_cooldown(state):
    """A probe that succeeds makes the domain well; how long it was out is remembered for as long as that."""
    await half_open(state, HERE)
    await state.apply([Succeeded(HERE, 31.0, 30.0)])
    well = state.standing(HERE)
    assert (well.cooling(31.0), well.half_open(31.0)) == (False, False)
    assert [well.in_row(now) for now in (31.0, 40.9, 41.0)] == [1, 1, 0]
    await state.apply([Succeeded(HERE, 42.0, 41.0)])
    assert state.standing(HERE) is None


async def test_a_recheck_enables_what_a_policy_disabled(state):
    """A success of an attempt that began when it was due does; an earlier one does not."""
    await state.apply([Disable(HERE, 10.0, "policy", "insufficient_balance", 60.0)])
    await state.apply([Succeeded(HERE, 50.0, 40.0)])
    assert state.standing(HERE).disabled
    assert [state.standing(HERE).half_open(now) for now in (59.0, 60.0)] == [False, True]
    assert await state.lease_probe([HERE], "run_1", 61.0, 70.0)
    await state.apply([Succeeded(HERE, 62.0, 61.0)])
    assert not state.standing(HERE).disabled
    await state.apply([Succeeded(HERE, 200.0, 199.0)])
    assert state.standing(HERE) is None


async def test_what_an_operator_disables_is_not_rechecked(state):
    """Not even where a policy had disabled it before."""
    await state.apply([Disable(HERE, 10.0, "policy", "insufficient_balance", 60.0)])
    await state.apply([Disable(HERE, 20.0, "ann", "closed")])
    standing = state.standing(HERE)
    assert (standing.disabled_by, standing.half_open(100.0)) == ("ann", False)
    assert not await state.lease_probe([HERE], "run_1", 61.0, 70.0)


async def test_a_disablement_lasts_until_enabled(state):
    """Neither a success nor a restore enables what is disabled."""
    await state.apply([Disable(HERE, 10.0, "policy", "auth_error")])
    await state.apply([Succeeded(HERE, 31.0, 30.0), Restore(HERE, 32.0, "ann")])
    assert state.standing(HERE).disabled
    await state.apply([Enable(HERE, 33.0, "ann")])
    assert state.standing(HERE) is None


async def test_the_first_disablement_is_the_one_that_is_told(state):
    """Who disabled it, when and why is not written over."""
    await state.apply([Disable(HERE, 10.0, "policy", "auth_error"), Disable(HERE, 11.0, "ann", "maintenance")])
    assert (state.standing(HERE).disabled_by, state.standing(HERE).disabled_at) == ("policy", 10.0)


async def test_a_demotion_counts_once_per_incident(state):
    """Failures of attempts that began before the last demotion add nothing."""
    await state.apply([Demote(HERE, 10.0, 5.0, 100, 600.0, "timeout")])
    await state.apply([Demote(HERE, 11.0, 6.0, 100, 600.0, "timeout")])
    assert state.standing(HERE).demotion(12.0) == 100
    await state.apply([Demote(HERE, 21.0, 20.0, 100, 600.0, "timeout")])
    assert state.standing(HERE).demotion(22.0) == 200


async def test_restore_forgets_all_but_the_disablement(state):
    """An operator's word: nothing is held against it."""
    await state.apply([Cool(HERE, 10.0, 70.0, 1, "x"), Demote(HERE, 10.0, 5.0, 100, 600.0, "x"), Failed(HERE, 10.0)])
    await state.apply([Restore(HERE, 20.0, "ann")])
    assert state.standing(HERE) is None
    assert state.standings() == {}


async def test_one_holder_has_the_probe(state):
    """While one run probes, the others do not."""
    await half_open(state, HERE)
    assert await state.lease_probe([HERE], "run_1", 30.0, 40.0)
    assert not await state.lease_probe([HERE], "run_2", 31.0, 41.0)
    assert state.standing(HERE).probe_holder == "run_1"


async def test_of_many_at_once_one_gets_the_probe(state):
    """However many ask in the same moment."""
    await half_open(state, HERE)
    got: list[str] = []

    async def ask(run_id: str) -> None:
        if await state.lease_probe([HERE], run_id, 30.0, 40.0):
            got.append(run_id)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(ask, f"run_{number}")
    assert len(got) == 1
    assert state.standing(HERE).probe_holder == got[0]


async def test_the_holder_may_renew(state):
    """Asking again for what one has extends it."""
    await half_open(state, HERE)
    await state.lease_probe([HERE], "run_1", 30.0, 40.0)
    assert await state.lease_probe([HERE], "run_1", 35.0, 50.0)
    assert state.standing(HERE).probe_until == 50.0


async def test_a_lease_that_is_past_its_end_may_be_taken_over(state):
    """A holder that died does not keep the probe."""
    await half_open(state, HERE)
    await state.lease_probe([HERE], "run_1", 30.0, 40.0)
    assert await state.lease_probe([HERE], "run_2", 40.0, 50.0)
    assert state.standing(HERE).probe_holder == "run_2"


async def test_probes_of_several_domains_are_had_all_or_none(state):
    """Where one of them is another's, none is taken."""
    await half_open(state, HERE, THERE)
    await state.lease_probe([THERE], "run_1", 30.0, 40.0)
    assert not await state.lease_probe([HERE, THERE], "run_2", 31.0, 41.0)
    assert state.standing(HERE).probe_holder == ""


async def test_a_domain_that_is_cooling_has_no_probe_to_give(state):
    """Who asks late, after another's probe failed, is refused."""
    await state.apply([Cool(HERE, 10.0, 70.0, 1, "rate_limit")])
    assert not await state.lease_probe([HERE], "run_1", 30.0, 40.0)


async def test_a_returned_probe_is_free(state):
    """A cancelled run gives the probe back, and changes nothing else."""
    await half_open(state, HERE)
    before = state.standing(HERE)
    await state.lease_probe([HERE], "run_1", 30.0, 40.0)
    await state.return_probe([HERE], "run_1")
    assert state.standing(HERE) == before
    assert await state.lease_probe([HERE], "run_2", 31.0, 41.0)


async def test_nobody_returns_the_probe_of_another(state):
    """Returning what one no longer holds changes nothing."""
    await half_open(state, HERE)
    await state.lease_probe([HERE], "run_1", 30.0, 40.0)
    await state.return_probe([HERE, THERE], "run_2")
    assert state.standing(HERE).probe_holder == "run_1"
    assert state.standing(THERE) is None


async def test_a_failed_probe_ends_its_lease(state):
    """The next cooldown takes the probe with it."""
    await half_open(state, HERE)
    await state.lease_probe([HERE], "run_1", 30.0, 400.0)
    await state.apply([Cool(HERE, 31.0, 71.0, 2, "timeout")])
    assert state.standing(HERE).probe_holder == ""


async def test_a_cancelled_apply_still_counts(state):
    """Cancellation takes back no effect."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await state.apply([Failed(HERE, 1.0)])
    assert state.standing(HERE).failures_in_row == 1


async def test_a_cancelled_lease_leaves_the_probe_free(state):
    """A run that was cancelled while it asked for the probe does not have it, or can give it back."""
    await half_open(state, HERE)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await state.lease_probe([HERE], "run_1", 30.0, 40.0)
    await state.return_probe([HERE], "run_1")
    assert await state.lease_probe([HERE], "run_2", 31.0, 41.0)
