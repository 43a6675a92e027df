"""PostgreSQL that hangs, or dies, in the middle of runs: they go on, and nothing that was acknowledged or waits is lost."""

import itertools
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field

import anyio
import pytest

from standby.runner import Request, Runner, open_gateway
from standby.runner.testing import Fail, ScriptedClient, answer
from standby.store import Audited, Cool, Disable, Enable
from standby.store.sql import open_sql
from tests.conftest import signalled, start_again

pytestmark = pytest.mark.anyio

THERE = "candidate:chat/elsewhere"
PATIENCE_SECONDS = 60
CALLERS = 4


@pytest.fixture
def anyio_backend():
    return "asyncio"


def document(url):
    """The model `chat`: whoever is first fails every other time, so that runs change the state all the time."""
    policy = {"failoverPolicy": {"allowCategories": ["provider_5xx"], "ejectAfter": 0}}
    candidates = [
        {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": "bare"}
        for rank, name in enumerate(("flaky", "well"))
    ]
    return {
        "version": 1,
        "store": {"url": url},
        "providers": {"flaky": {"client": "flaky"}, "well": {"client": "well"}},
        "runner_policies": {"goes_on": policy},
        "models": {"chat": {"runner_policy": "goes_on", "candidates": candidates}},
    }


@dataclass
class Load:
    """Callers that ask one after the other. One of them that is not answered fails the test."""

    runner: Runner
    ids: list[str] = field(default_factory=list)
    done: bool = False

    async def call(self):
        while not self.done:
            result = await self.runner.run(Request("chat", {"messages": []}))
            self.ids.append(result.record.run_id)
            await anyio.sleep(0.005)

    async def more(self, runs):
        """Return when so many more runs were answered."""
        enough = len(self.ids) + runs
        while len(self.ids) < enough:  # noqa: ASYNC110 - counted by other tasks
            await anyio.sleep(0.005)


@asynccontextmanager
async def under_load(url):
    """A gateway on that database, and its callers; after them all that waits has been written."""
    outcomes = itertools.cycle([Fail("server_error", "down", status=500, retryable=False), answer()])
    clients = {"flaky": ScriptedClient(lambda _: next(outcomes)), "well": ScriptedClient()}
    with anyio.fail_after(PATIENCE_SECONDS):
        async with open_gateway(
            document(url), clients={name: lambda _, made=client: made for name, client in clients.items()}
        ) as gateway:
            load = Load(gateway.runner)
            async with anyio.create_task_group() as tasks:
                for _ in range(CALLERS):
                    tasks.start_soon(load.call)
                await load.more(20)
                yield gateway, load
                load.done = True
            await written(gateway)


async def written(gateway):
    """Return when all that was learned until now is in the database."""
    state, history = gateway.runner.state, gateway.runner.history
    while list(state.writer) or list(history.writer) or gateway.runner.troubles():  # noqa: ASYNC110 - as above
        await anyio.sleep(0.01)


async def all_of(url, load, audited):
    """Every run is in the history and every word of an operator in the audit; nothing was given up."""
    async with open_sql(url) as store:
        records = {record["run_id"] for record in await store.history.newest(100_000)}
        assert records == set(load.ids)
        lines = [(line.who, line.what) for line in await store.history.audit() if line.what != "reload"]
        assert lines == list(reversed(audited))
        return store.state


async def test_a_server_that_hangs(postgres, postgres_url):
    """Nobody fails, what was acknowledged holds, and what happened meanwhile is written when it goes on."""
    async with under_load(postgres_url) as (gateway, load):
        state = gateway.runner.state
        await state.apply([Disable(THERE, 10.0, "ann", "closed")])
        processes = signalled(postgres, signal.SIGSTOP)
        try:
            await load.more(16)
            await state.apply([Enable(THERE, 11.0, "bob"), Cool(THERE, 11.0, 99.0, 1, "too dear", "bob")])
            await load.more(16)
        finally:
            for process in processes:
                os.kill(process.pid, signal.SIGCONT)
        await load.more(20)
    assert (gateway.runner.state.dropped, gateway.runner.history.dropped) == (0, 0)
    known = await all_of(postgres_url, load, [("ann", "disable"), ("bob", "enable"), ("bob", "cool")])
    assert (known.standing(THERE).disabled, known.standing(THERE).cooling_until) == (False, 99.0)


async def test_a_server_that_is_killed(postgres, postgres_url):
    """Nobody fails, what was acknowledged survives it, and what happened meanwhile is written when it is started again."""
    async with under_load(postgres_url) as (gateway, load):
        state = gateway.runner.state
        await state.apply([Disable(THERE, 10.0, "ann", "closed")])
        processes = signalled(postgres, signal.SIGKILL)
        try:
            while not gateway.runner.troubles():
                await load.more(1)
            await state.apply([Enable(THERE, 11.0, "bob"), Cool(THERE, 11.0, 99.0, 1, "too dear", "bob")])
            assert state.standing(THERE).cooling_until == 99.0
            await load.more(40)
        finally:
            for process in processes:
                process.wait(PATIENCE_SECONDS)
            await anyio.to_thread.run_sync(start_again, postgres)
        await load.more(20)
    assert (gateway.runner.state.dropped, gateway.runner.history.dropped) == (0, 0)
    known = await all_of(postgres_url, load, [("ann", "disable"), ("bob", "enable"), ("bob", "cool")])
    assert (known.standing(THERE).disabled, known.standing(THERE).cooling_until) == (False, 99.0)


async def test_too_much_waits_for_a_server_that_is_away(postgres_door, eventually):
    """The oldest records make room; no line of the audit does."""
    door, url = postgres_door
    await door.open()
    async with open_sql(url, max_pending=10) as store:
        await door.shut()
        for number in range(30):
            store.history.add({"run_id": f"run_{number}"})
            store.history.note([Audited(float(number), "ann", "disable", THERE, "")])
        await eventually(lambda: store.history.trouble)
        assert store.history.dropped == 30
        store.history.add({"run_id": "run_last"})
        await door.open()
        await eventually(lambda: not list(store.history.writer))
        assert [line.at for line in await store.history.audit()] == [float(number) for number in range(29, -1, -1)]
        assert await store.history.newest() == []


async def test_the_newest_records_are_kept(postgres_door, eventually):
    """Where they alone wait."""
    door, url = postgres_door
    await door.open()
    async with open_sql(url, max_pending=5) as store:
        await door.shut()
        for number in range(30):
            store.history.add({"run_id": f"run_{number}"})
        store.history.note([Audited(1.0, "ann", "disable", THERE, "")])
        await eventually(lambda: store.history.trouble)
        await door.open()
        await eventually(lambda: not list(store.history.writer))
        assert [record["run_id"] for record in await store.history.newest()] == [
            f"run_{number}" for number in range(29, 25, -1)
        ]
        assert [astuple(line)[1] for line in await store.history.audit()] == ["ann"]
