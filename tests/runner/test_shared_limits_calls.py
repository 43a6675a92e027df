"""Limits that processes share, and what happens while they are asked for: cooldowns, probes, hedges, a lost server."""

import anyio
import pytest

from standby.runner.testing import EPOCH, Fail, Slow
from standby.store import Cool, MemoryState, Restore
from tests.runner.conftest import gateway
from tests.runner.elsewhere import (
    NOTHING,
    ONE_AT_A_TIME,
    Elsewhere,
    ended_at,
    sharing,
)
from tests.runner.scheduling import Distant

pytestmark = pytest.mark.anyio


# -- health, meanwhile


class CoolsMeanwhile(Elsewhere):
    """Somebody cools `a` while the answer is under way."""

    state: MemoryState

    def decide(self, process, asked, since, *, in_line):
        if asked[0].key == "chat/a" and not self.grants:
            now = EPOCH + anyio.current_time()
            self.state.apply_now([Cool("candidate:chat/a", now, now + 100, 1, "elsewhere")])
        return super().decide(process, asked, since, in_line=in_line)


async def test_a_candidate_that_is_cooled_while_others_are_asked_is_not_called():
    """What they granted is ended, and counts for nothing."""
    elsewhere = CoolsMeanwhile(0.25)
    gate = sharing(elsewhere, {"a": [], "b": []})
    elsewhere.state = gate.state
    assert (await gate.ask()).candidate == "b"
    assert gate.calls() == {"a": 0, "b": 1}
    assert [grant.ended for grant in elsewhere.grants] == [[False], [True]]


async def test_a_hedge_that_is_cooled_while_others_are_asked_is_not_made():
    """The run goes on with who is silent."""
    elsewhere = CoolsMeanwhile(0.25)
    gate = sharing(
        elsewhere, {"b": [Slow(5)], "a": []}, limits=ONE_AT_A_TIME, model={"hedge": {"afterSeconds": 1}},
        candidates={"b": {"runtimePolicyOverride": {"rateLimitPolicy": {"concurrency": 1, "shared": False}}}},
    )  # fmt: skip
    elsewhere.state = gate.state
    assert (await gate.ask()).candidate == "b"
    assert gate.calls() == {"b": 1, "a": 0}
    assert [grant.ended for grant in elsewhere.grants] == [[False]]
    assert gate.runner.held["extras"] == 0


async def test_a_probe_that_is_refused_elsewhere_is_not_taken():
    """The next candidate has its turn, and another run may probe."""
    elsewhere = Elsewhere(0.25)
    other = await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere, {"a": [], "b": []}, state=Distant())
    await gate.state.apply([Cool("candidate:chat/a", EPOCH - 10, EPOCH - 1, 1, "test")])
    assert (await gate.ask()).candidate == "b"
    assert gate.state.standing("candidate:chat/a").probe_holder == ""
    other.end(used=True)
    assert (await gate.ask()).candidate == "a"
    assert elsewhere.held == NOTHING


async def test_a_probe_that_another_run_has_gives_the_room_back():
    """Room among all processes is had first, and given back where there is no probe."""
    elsewhere = Elsewhere(0.25)
    gate = sharing(elsewhere, {"a": [Slow(5)], "b": []}, state=Distant(), limits={"concurrency": 2})
    await gate.state.apply([Cool("candidate:chat/a", EPOCH - 10, EPOCH - 1, 1, "test")])
    ended = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ended_at, tasks, gate, 0, ended)
        tasks.start_soon(ended_at, tasks, gate, 1, ended)
    assert sorted(came_to for _, came_to, _ in ended) == ["a", "b"]
    assert gate.calls() == {"a": 1, "b": 1}
    assert elsewhere.held == NOTHING


# -- hedges


async def test_a_hedge_that_is_refused_elsewhere_leaves_the_candidate_for_its_own_turn():
    """Who is silent fails, and then it is called."""
    elsewhere = Elsewhere()
    other = await elsewhere.process().hold("chat/b", **ONE_AT_A_TIME)
    gate = sharing(
        elsewhere,
        {"a": [Slow(5, Fail("server_error", status=500, retryable=True))], "b": []},
        model={"hedge": {"afterSeconds": 1}},
    )
    ended = []
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, gate, "run", ended)
        await anyio.sleep(2)
        other.end(used=True)
    assert ended == [("run", "b", 5)]
    assert elsewhere.held == NOTHING


async def test_after_a_hedge_that_is_refused_elsewhere_the_next_is_asked():
    """It was none."""
    elsewhere = Elsewhere(0.25)
    await elsewhere.process().hold("chat/b", **ONE_AT_A_TIME)
    gate = sharing(elsewhere, {"a": [Slow(50)], "b": [], "c": []}, model={"hedge": {"afterSeconds": 1}})
    began = anyio.current_time()
    assert (await gate.ask()).candidate == "c"
    assert anyio.current_time() - began == 1.5  # a second after it was called, and two more questions
    assert gate.calls() == {"a": 1, "b": 0, "c": 1}


async def test_whoever_is_well_again_while_others_are_asked_is_called_at_once():
    """A run in line for one candidate hears of the other when it has its answer."""
    elsewhere = Elsewhere(0.25)
    await elsewhere.process().hold("chat/a", **ONE_AT_A_TIME)
    gate = sharing(elsewhere, {"a": [], "b": []})
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/b", now, now + 500, 1, "test")])
    ended = []
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, gate, "run", ended)  # asks for `a` from 0.25 on, and in line until 0.75
        await anyio.sleep(0.25)
        await gate.state.apply([Restore("candidate:chat/b", now + 0.375, "ann")])
    assert ended == [("run", "b", 1.0)]


async def test_a_hedge_that_is_not_wanted_any_more_frees_what_it_had_taken_here():
    """Whoever waits for it is served then."""
    elsewhere = Elsewhere(1.0)
    gate = sharing(elsewhere, {"a": [Slow(0.75)], "b": []}, model={"hedge": {"afterSeconds": 1}})
    ended = []
    async with anyio.create_task_group() as tasks:
        await ended_at(tasks, gate, "hedged", ended)  # asks for the hedge at 1, until 2
        await anyio.sleep(1)
        await ended_at(tasks, gate, "waits", ended, only=["b"])  # comes at 1.25
    assert ended == [("hedged", "a", 1.75), ("waits", "b", 2.75)]
    assert elsewhere.held == NOTHING


# -- shares


@pytest.mark.parametrize(("concurrency", "served"), [(8, 2), (7, 1), (3, 1)])
async def test_where_nobody_counts_for_all_each_process_has_its_share(concurrency, served):
    """A fourth, rounded down, and one at least."""
    gate = gateway({"a": [Slow(5)]}, limits={"concurrency": concurrency}, processes=4)
    ended = []
    async with anyio.create_task_group() as tasks:
        for number in range(served + 1):
            tasks.start_soon(ended_at, tasks, gate, number, ended)
    assert [at for _, _, at in ended] == [5.0] * served + [10.0]


async def test_a_limit_that_is_not_shared_is_not_divided():
    """Each process may use all of it."""
    gate = gateway({"a": [Slow(5)]}, limits={"concurrency": 2, "shared": False}, processes=4)
    ended = []
    async with anyio.create_task_group() as tasks:
        for number in range(2):
            tasks.start_soon(ended_at, tasks, gate, number, ended)
    assert [at for _, _, at in ended] == [5.0, 5.0]


async def test_who_is_alone_has_its_share_and_serves_who_fits():
    """Who waits for others is woken; what is held counts for the share."""
    elsewhere, ended = Elsewhere(), []
    other = elsewhere.process()
    for _ in range(4):
        await other.hold("chat/a", concurrency=4)
    gate = sharing(elsewhere, {"a": [Slow(5)]}, limits={"concurrency": 4})
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            await ended_at(tasks, gate, number, ended)
        elsewhere.be_there(False)
    assert sorted(ended) == [(0, "a", 5.75), (1, "a", 5.75), (2, "a", 10.75)]


async def test_when_the_others_are_heard_again_the_whole_limit_may_be_used():
    """Who waited for a share is served then, as far as there is room among all."""
    elsewhere, ended = Elsewhere(), []
    elsewhere.process()
    gate = sharing(elsewhere, {"a": [Slow(5)]}, limits={"concurrency": 3})
    elsewhere.there = False
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            await ended_at(tasks, gate, number, ended)
        elsewhere.be_there(True)
    assert sorted(ended) == [(0, "a", 5), (1, "a", 6), (2, "a", 6), (3, "a", 10)]
    assert elsewhere.held == NOTHING
