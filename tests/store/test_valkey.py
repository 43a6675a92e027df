"""What is Valkey's own: pushes, clocks that differ, a server that goes away, hangs, and comes back empty."""

import itertools
import os
import signal
import time

import anyio
import pytest
from redis import exceptions as failures

from standby.runner import open_gateway
from standby.store import Cool, Demote, Disable, Enable, Failed, Standing, StoreError, Succeeded
from standby.store._valkey import ValkeyServer
from standby.store.valkey import ValkeyState

pytestmark = pytest.mark.anyio

HERE = "candidate:chat/primary"
AT_ONCE_SECONDS = 60
"""Far below what would pass if nobody were told."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def states(valkey_url):
    """Two processes' worth of state on one server."""
    async with ValkeyState(valkey_url) as one, ValkeyState(valkey_url) as other:
        await hears(one, other)
        await hears(other, one)
        yield one, other


async def hears(teller, listener):
    """Return when what one says reaches the other: nobody is told while it is still connecting."""
    with anyio.fail_after(AT_ONCE_SECONDS):
        while listener.standing("test") is None:
            await teller.apply([Failed("test", 1.0)])
            await anyio.sleep(0.01)
        await teller.apply([Succeeded("test", 2.0, 2.0)])
        while listener.standing("test") is not None:  # noqa: ASYNC110 - it is set by another task
            await anyio.sleep(0.01)


async def changed(state, condition):
    """Wait until the state is such."""
    with anyio.fail_after(AT_ONCE_SECONDS):
        while not condition(state):
            await state.changed(state.generation)


async def test_a_cooldown_that_one_sets_the_others_honour(states):
    """They are told, and need not ask."""
    one, other = states
    generation = other.generation
    await one.apply([Cool(HERE, 10.0, 70.0, 1, "test")])
    with anyio.fail_after(AT_ONCE_SECONDS):
        await other.changed(generation)
    assert other.standing(HERE).cooling_until == 70.0


async def test_no_failure_is_lost_or_counted_twice(states):
    """However many processes count at once."""
    one, other = states
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(one.apply, [Failed(HERE, 1.0)])
            tasks.start_soon(other.apply, [Failed(HERE, 1.0)])
    await changed(one, lambda state: state.standing(HERE).failures_in_row == 200)
    await changed(other, lambda state: state.standing(HERE).failures_in_row == 200)


async def test_an_incident_that_many_see_demotes_once(states):
    """Though none had heard of the others' demotion when it demoted."""
    one, other = states
    async with anyio.create_task_group() as tasks:
        for state in states * 20:
            tasks.start_soon(state.apply, [Demote(HERE, 20.0, 10.0, 100, 600.0, "test")])
    await changed(other, lambda state: state.standing(HERE) is not None)
    assert (one.standing(HERE).demoted, other.standing(HERE).demoted) == (100, 100)


async def test_one_probe_over_all_processes(states):
    """The lease is taken on the server."""
    one, other = states
    await one.apply([Cool(HERE, 10.0, 20.0, 1, "test")])
    await changed(other, lambda state: state.standing(HERE) is not None)
    granted = []

    async def lease(state, holder):
        granted.append(await state.lease_probe([HERE], holder, 30.0, 90.0))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(lease, states[number % 2], f"run_{number}")
    assert granted.count(True) == 1


async def test_processes_whose_clocks_differ_agree_on_when_a_cooldown_ends(valkey_url):
    """One is an hour ahead: it sees the same moment an hour later."""
    now = time.time()
    async with (
        ValkeyState(valkey_url) as right,
        ValkeyState(valkey_url, clock=lambda: time.time() + 3600) as ahead,
    ):
        await hears(right, ahead)
        await ahead.apply([Cool(HERE, now + 3600, now + 3660, 1, "test")])
        await changed(right, lambda state: state.standing(HERE) is not None)
        assert right.standing(HERE).cooling_until == pytest.approx(now + 60, abs=2)
        assert ahead.standing(HERE).cooling_until == pytest.approx(now + 3660, abs=2)


async def test_two_gateways_share_a_server(valkey_url):
    """Each has its own keys."""
    async with ValkeyState(valkey_url, prefix="one") as one, ValkeyState(valkey_url, prefix="two") as two:
        await one.apply([Failed(HERE, 1.0)])
        assert (one.standing(HERE), two.standing(HERE)) == (Standing(failures_in_row=1), None)


async def test_every_key_expires(valkey, valkey_url):
    """Nothing is left for ever on a server that others use too; all keys share one hash tag."""
    async with ValkeyState(valkey_url) as state:
        await state.apply([Failed(HERE, 1.0)])
    client = valkey.client()
    keys = client.keys("*")
    names = {key.decode().removesuffix(state._last_key.rpartition(":")[2]) for key in keys}
    assert names == {"{standby}:standings", "{standby}:seq", "{standby}:life", "{standby}:last:"}
    assert all(client.ttl(key) > 0 for key in keys)


async def test_a_state_outlives_its_process(valkey_url):
    """Who comes later finds it."""
    async with ValkeyState(valkey_url) as state:
        await state.apply([Disable(HERE, 1.0, "ann", "closed")])
    async with ValkeyState(valkey_url) as state:
        assert state.standing(HERE).disabled_by == "ann"


async def test_a_server_that_comes_back_empty_is_told(valkey, states, eventually):
    """What was known before, what happened meanwhile, and nothing twice; nothing is forgotten or shortened."""
    one, other = states
    await one.apply([Cool(HERE, 10.0, 70.0, 1, "test"), Disable("provider:a", 10.0, "ann", "closed")])
    await changed(other, lambda state: len(state.standings()) == 2)
    valkey.stop()
    try:
        await one.apply([Cool(HERE, 20.0, 90.0, 2, "worse"), Failed("candidate:chat/b", 20.0)])
        assert one.standing(HERE).cooling_until == 90.0
        await eventually(lambda: one.trouble is not None and other.trouble is not None)
        assert one.trouble.endswith("cannot be reached")
    finally:
        valkey.start()
    await eventually(lambda: one.trouble is None and other.trouble is None)
    await eventually(lambda: (other.standing(HERE) or Standing()).cooling_until == 90.0)
    await eventually(lambda: other.standing("candidate:chat/b") == Standing(failures_in_row=1))
    assert (one.standing("provider:a").disabled_by, other.standing("provider:a").disabled_by) == ("ann", "ann")
    await other.apply([Enable("provider:a", 30.0, "bob")])
    await eventually(lambda: one.standing("provider:a") is None)


async def test_a_server_that_hangs_holds_nobody_up(valkey, states, eventually):
    """A run waits for it once, and then no more; what it did is kept when the server goes on."""
    one, other = states
    process = valkey._process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await one.apply([Cool(HERE, 10.0, 70.0, 1, "test")])
        await eventually(lambda: one.trouble is not None)
        began = time.monotonic()
        for _ in range(100):
            await one.apply([Failed(HERE, 11.0)])
        assert one.standing(HERE).failures_in_row == 100
        assert time.monotonic() - began < AT_ONCE_SECONDS
    finally:
        os.kill(process.pid, signal.SIGCONT)
    await eventually(lambda: (other.standing(HERE) or Standing()).failures_in_row == 100)
    assert other.standing(HERE).cooling_until == 70.0


async def test_a_server_that_is_not_there():
    """It says so, without the password, and what to do."""
    with pytest.raises(StoreError) as caught:
        async with ValkeyState("valkey://:secret-password@127.0.0.1:1/0"):
            pass
    assert str(caught.value) == ("valkey://:***@127.0.0.1:1/0 cannot be reached: start it, or correct store.state_url")


async def test_a_gateway_on_valkey_audits_in_its_history(valkey_url, tmp_path, eventually):
    """The state is on one server, and who disabled what is in the database of the catalog."""
    document = {
        "version": 1,
        "store": {"url": f"sqlite:///{tmp_path}/standby.db", "state_url": valkey_url, "state_prefix": "audited"},
        "providers": {"a": {"client": "openai", "base_url": "http://127.0.0.1:9/v1"}},
        "models": {"chat": {"candidates": [{"id": "primary", "provider": "a", "model": "m"}]}},
    }
    async with open_gateway(document) as gateway:
        await gateway.runner.state.apply([Disable(HERE, 1.0, "ann", "closed")])
        await eventually(lambda: not list(gateway.runner.history.writer))
        lines = await gateway.runner.history.audit()
    assert ("ann", "disable", HERE, "closed") in [(line.who, line.what, line.target, line.why) for line in lines]


async def test_what_was_read_before_a_change_does_not_hide_it(valkey_url, eventually, monkeypatch):
    """A look at the server that takes long, and ends after a change: what follows is counted on top of the change."""
    async with ValkeyState(valkey_url) as state:
        read, goes_on = anyio.Event(), anyio.Event()
        pipeline = state._server.client.pipeline

        def slow(**options):
            made = pipeline(**options)
            execute = made.execute

            async def execute_slowly():
                found = await execute()
                read.set()
                await goes_on.wait()
                return found

            made.execute = execute_slowly
            return made

        async with anyio.create_task_group() as tasks:
            monkeypatch.setattr(state._server.client, "pipeline", slow)
            tasks.start_soon(state._refresh)
            await read.wait()
            monkeypatch.undo()
            await state.apply([Cool(HERE, 10.0, 20.0, 1, "test")])
            goes_on.set()
        await eventually(lambda: not list(state.writer))
        await state.apply([Succeeded(HERE, 31.0, 30.0)])
        await eventually(lambda: not list(state.writer))
    async with ValkeyState(valkey_url) as state:
        assert state.standing(HERE).recovered_at == 31.0


async def test_a_slow_answer_moves_no_clock(valkey_url):
    """The first one takes a second to come, as where a process is busy; the clocks are the same all the same."""
    looks = itertools.count()
    server = ValkeyServer(valkey_url)
    await server.look_at_the_clock(lambda: time.time() - (1.0 if next(looks) == 0 else 0.0))
    await server.aclose()
    assert server.ahead_seconds == 0.0


def loses_an_answer(state, monkeypatch, *, made):
    """The next change of ``state`` is made, or is on its way for longer than it is waited for; gives back its words."""
    script, sent = state._script, []

    async def lossy(**words):
        monkeypatch.undo()
        sent.append(words)
        if made:
            await script(**words)
        raise failures.TimeoutError

    monkeypatch.setattr(state, "_script", lossy)
    return sent


@pytest.mark.parametrize("made", [True, False])
async def test_a_change_whose_answer_was_lost_counts_once(states, monkeypatch, eventually, made):
    """Whether it was made or not, though somebody else changed the same since; and also when it comes late."""
    one, other = states
    sent = loses_an_answer(one, monkeypatch, made=made)
    await one.apply([Failed(HERE, 1.0)])
    await other.apply([Failed(HERE, 2.0)])
    await eventually(lambda: not list(one.writer) and not one.trouble)
    await one._script(**sent[0])
    await one.apply([Failed(HERE, 3.0)])
    for state in states:
        await eventually(lambda state=state: state.standing(HERE) == Standing(failures_in_row=3))


async def test_a_probe_whose_answer_was_lost_is_given_back(states, monkeypatch, eventually):
    """Where nobody wants it any more when it turns out that it was had."""
    one, other = states
    await one.apply([Cool(HERE, 1.0, 2.0, 1, "x")])
    await eventually(lambda: other.standing(HERE))
    loses_an_answer(one, monkeypatch, made=True)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lease_probe, [HERE], "run_1", 3.0, 1e12)
            await eventually(lambda: one._unsure is not None and one.writer.trouble is not None)
            scope.cancel()
    await eventually(lambda: one._unsure is None and not list(one.writer))
    assert await other.lease_probe([HERE], "run_2", 4.0, 1e12)
