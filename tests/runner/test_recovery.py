"""Runs that wait until somebody is well again: who goes first, who follows, and who is woken for what."""

from collections import Counter

import anyio
import anyio.lowlevel
import pytest

from standby.runner import RunFailed
from standby.runner._plan import Plan
from standby.runner.testing import EPOCH, Fail, Slow
from standby.store import Cool, Disable, Enable, Failed, MemoryState, Restore, Succeeded
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
REFUSED = Fail("overloaded", "overloaded", status=529, retryable=True, scope="provider")
COOL_529 = {
    "failoverPolicy": {
        "allowCategories": ["provider_overloaded"],
        "actions": {"provider_overloaded": "cooldown_and_next"},
    }
}


def now():
    return EPOCH + anyio.current_time()


async def cool(gate, seconds, *names):
    """Leave candidates out for so long from now on."""
    until = now() + seconds
    await gate.state.apply([Cool(f"candidate:chat/{name}", now(), until, 1, "test") for name in names])


class Crowd:
    """Runs under way, and how each of them ended: by whom it was answered, or why by nobody, and when."""

    def __init__(self, gate):
        self.gate = gate
        self.ended = []

    async def one(self, **options):
        try:
            result = (await self.gate.ask(**options)).candidate
        except RunFailed as failed:
            result = failed.ending
        self.ended.append((result, round(anyio.current_time(), 3)))


class Scripted:
    """A provider whose calls take a second, and the most of them that were under way at once."""

    def __init__(self, *outcomes, last=None):
        self.outcomes = list(outcomes)
        self.last = last
        self.called_at = []

    def __call__(self, _):
        self.called_at.append(anyio.current_time())
        return Slow(1, self.outcomes.pop(0) if self.outcomes else self.last)

    def rounds(self):
        """How many calls began in each second."""
        return [number for _, number in sorted(Counter(round(at) for at in self.called_at).items())]


async def crowd(gate, runs, **options):
    """So many runs, until all have ended."""
    runs_under_way = Crowd(gate)
    async with anyio.create_task_group() as tasks:
        for _ in range(runs):
            tasks.start_soon(lambda: runs_under_way.one(**options))
    return runs_under_way


async def test_one_run_probes_and_the_others_follow_by_and_by():
    """Eight when the probe has answered, and one more for every two answers: never all at once."""
    a = Scripted()
    gate = gateway({"a": a})
    await cool(gate, 10, "a")
    done = await crowd(gate, 60)
    assert a.rounds() == [1, 8, 12, 18, 21]
    assert {result for result, _ in done.ended} == {"a"}


async def test_whoever_fails_again_is_not_asked_by_all():
    """It answers the probe and nothing else: those who went are the only ones who learn it by a call."""
    a = Scripted(None, last=REFUSED)
    gate = gateway({"a": a}, policy=COOL_529)
    await cool(gate, 10, "a")
    done = await crowd(gate, 60)
    assert a.rounds() == [1, 8]
    assert Counter(done.ended) == {("a", 11): 1, ("exhausted", 12): 8, ("unavailable", 12): 51}


async def test_after_failures_fewer_go_at_once():
    """Nobody leaves it out; each failure halves how many go, down to one at a time."""
    a = Scripted(None, last=DOWN)
    gate = gateway({"a": a}, policy={"failoverPolicy": {"ejectAfter": 0}})
    await cool(gate, 10, "a")
    await crowd(gate, 20)
    assert a.rounds() == [1, 8] + [1] * 11


async def test_nobody_waits_longer_than_the_queues_longest_wait():
    """Whose time is up goes, whether or not it was its turn."""
    a = Scripted()
    gate = gateway({"a": a}, model={"queue": {"maxWaitSeconds": 12}})
    await cool(gate, 10, "a")
    done = await crowd(gate, 60)
    assert a.rounds() == [1, 8, 51]
    assert max(at for _, at in done.ended) == 13


async def test_a_probe_that_fails_is_told_to_all_who_wait():
    """Nobody can be back in their time: they end at once, and not when the lease would have ended."""
    a = Scripted(last=REFUSED)
    gate = gateway({"a": a}, policy=COOL_529)
    await cool(gate, 10, "a")
    done = await crowd(gate, 60)
    assert (len(a.called_at), Counter(done.ended)) == (1, {("exhausted", 11): 1, ("unavailable", 11): 59})


async def test_a_probe_that_fails_ends_no_wait_that_may_come_to_something():
    """The next cooldown is short: another run probes when it ends."""
    a = Scripted(REFUSED)
    gate = gateway({"a": a}, policy={"failoverPolicy": {**COOL_529["failoverPolicy"], "cooldownSeconds": 5}})
    await cool(gate, 10, "a")
    done = await crowd(gate, 30)
    assert a.rounds()[:3] == [1, 1, 8]
    assert Counter(result for result, _ in done.ended) == {"exhausted": 1, "a": 29}


async def test_what_does_not_concern_them_wakes_nobody(monkeypatch):
    """A run that waits is asked what to do when it begins, when it may go, and after its call: however much happens."""
    asked = Counter()
    step = Plan.step

    def counted(plan, at):
        asked[plan.record.run_id] += 1
        return step(plan, at)

    monkeypatch.setattr(Plan, "step", counted)
    gate = gateway({"a": Scripted(), "b": Scripted()})
    await cool(gate, 20, "a", "b")
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(lambda number=number: Crowd(gate).one(run_id=f"run-{number}"))
        for _ in range(190):
            await anyio.sleep(0.1)
            await gate.state.apply([Failed("candidate:other/x", now()), Failed("candidate:chat/a", now())])
    assert len(asked) == 50
    assert max(asked.values()) <= 4


async def test_while_one_is_probed_in_vain_another_who_is_well_again_serves():
    """An operator's word on the second candidate: all go to it, though the probe of the first hangs."""
    gate = gateway({"a": [Slow(500)], "b": []}, timeouts={"attemptSeconds": 20})
    await cool(gate, 5, "a")
    await cool(gate, 28, "b")
    under_way = Crowd(gate)
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(under_way.one)
        await anyio.sleep(10)
        await gate.state.apply([Restore("candidate:chat/b", now(), "ada")])
    assert Counter(under_way.ended) == {("b", 10): 7, ("b", 25): 1}


async def test_of_two_who_are_half_open_each_is_probed_by_one_run():
    """Whoever has no probe waits for what comes of either."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(2)]})
    await cool(gate, 10, "a", "b")
    under_way = Crowd(gate)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(under_way.one)
        await anyio.sleep(11)
        assert gate.calls() == {"a": 1, "b": 1}
    assert Counter(under_way.ended) == {("b", 12): 1, ("b", 14): 3, ("a", 15): 1}


async def test_when_the_first_in_line_goes_away_the_next_looks():
    """The others are answered when the cooldown ends, or as soon as an operator says so."""
    for restored in (False, True):
        gate = gateway({"a": []})
        began = anyio.current_time()
        await cool(gate, 10, "a")
        under_way = Crowd(gate)
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as first:
                first.start_soon(under_way.one)
                await anyio.sleep(1)
                for _ in range(3):
                    tasks.start_soon(under_way.one)
                await anyio.sleep(1)
                first.cancel_scope.cancel()
            if restored:
                await gate.state.apply([Restore("candidate:chat/a", now(), "ada")])
        assert Counter(under_way.ended) == {("a", round(began + (2 if restored else 10), 3)): 3}


async def test_when_the_run_whose_turn_it_is_goes_away_the_next_has_it():
    """The probe is given back, and another makes it."""
    a = Scripted(Slow(500))
    gate = gateway({"a": a})
    await cool(gate, 10, "a")
    under_way = Crowd(gate)
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as first:
            first.start_soon(under_way.one)
            await anyio.sleep(1)
            for _ in range(3):
                tasks.start_soon(under_way.one)
            await anyio.sleep(11)
            first.cancel_scope.cancel()
    assert a.rounds() == [1, 1, 2]
    assert Counter(under_way.ended) == {("a", 13): 1, ("a", 14): 2}


class Elsewhere(MemoryState):
    """A state in which some other process has every probe, of which nothing is to be seen here."""

    def __init__(self):
        super().__init__()
        self.asked_at = []

    async def lease_probe(self, domains, holder, now, until):
        self.asked_at.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        return False


async def test_a_probe_that_is_refused_is_asked_for_once_a_second():
    """By whoever is first in the line, however many wait."""
    state = Elsewhere()
    gate = gateway({"a": []}, state=state)
    await cool(gate, 10, "a")
    done = await crowd(gate, 60)
    assert [round(at, 3) for at in state.asked_at if at < 29.9] == list(range(10, 30))
    assert {result for result, _ in done.ended} == {"unavailable"}


@pytest.mark.parametrize("word", [Restore, Enable])
async def test_who_waits_for_capacity_goes_to_who_is_well_again(word):
    """An operator's word is heard in the queue too."""
    gate = gateway({"a": [Slow(20)], "b": [Slow(20)]}, limits={"concurrency": 1})
    held = (
        Disable("candidate:chat/b", now(), "ada", "x")
        if word is Enable
        else Cool("candidate:chat/b", now(), now() + 99, 1, "x")
    )
    await gate.state.apply([held])
    under_way = Crowd(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(under_way.one)
        await anyio.sleep(1)
        tasks.start_soon(under_way.one)
        await anyio.sleep(1)
        await gate.state.apply([word("candidate:chat/b", now(), "ada")])
    assert under_way.ended == [("a", 20), ("b", 22)]


async def test_who_waits_for_capacity_goes_to_whom_another_runs_probe_found_well():
    """No matter which model's run that was."""
    gate = gateway({"a": [Slow(20)], "b": [Slow(20)]}, limits={"concurrency": 1})
    await gate.state.apply([Cool("provider:b", now(), now() + 99, 1, "x")])
    under_way = Crowd(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(under_way.one)
        await anyio.sleep(1)
        tasks.start_soon(under_way.one)
        await anyio.sleep(1)
        await gate.state.apply([Succeeded("provider:b", now(), now())])
    assert under_way.ended == [("a", 20), ("b", 22)]


async def test_nothing_is_kept_of_those_who_waited():
    """However their runs ended."""
    gate = gateway({"a": Scripted(REFUSED, None, REFUSED)}, policy=COOL_529, model={"queue": {"maxWaitSeconds": 200}})
    await cool(gate, 10, "a")
    with anyio.move_on_after(100):
        await crowd(gate, 20)
    assert gate.runner._driver._recovery._lines == {}
