"""What hedged calls do where something else goes wrong as well: nothing leaks, and nothing is counted that is none."""

from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

import anyio
import pytest

from standby.runner import InvalidBody, Request, RunFailed
from standby.runner.testing import Fail, ScriptedClient, Slow, Streamed, answer
from standby.store import MemoryState
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
AFTER_4 = {"hedge": {"afterSeconds": 4}}
ONE_AT_A_TIME = {"concurrency": 1}


def held(gate):
    return {**gate.runner.held, "calls": sum(client.in_flight for client in gate.clients.values())}


async def stream(gate):
    async with gate.runner.stream(Request("chat", {})) as streamed:
        return [chunk.data["choices"][0]["delta"]["content"] async for chunk in streamed], streamed.record


@pytest.mark.parametrize("first", [60, 5])
async def test_an_answer_that_was_heard_is_closed_where_another_call_cannot_be_made(first):
    """A body that one client cannot write ends the run; what the other had begun is given back."""
    scripts = {"a": [Slow(first, Streamed("x", 20))], "b": [Slow(1, InvalidBody("not for me"))]}
    gate = gateway(scripts, model=AFTER_4, limits=ONE_AT_A_TIME)
    with suppress(InvalidBody):
        await stream(gate)
    assert not any(held(gate).values())


class FailingState(MemoryState):
    """A state that raises."""

    async def apply(self, effects):
        raise OSError("the store is gone")


@pytest.mark.parametrize(("first", "other"), [(1, 60), (6, 60), (60, 1)])
async def test_a_state_that_raises_leaks_nothing(first, other):
    """Whichever call failed, and whatever was under way beside it."""
    scripts = {"a": [Slow(first, DOWN)], "b": [Slow(other, DOWN)]}
    gate = gateway(scripts, model=AFTER_4, state=FailingState(), limits=ONE_AT_A_TIME)
    with pytest.raises(OSError, match="the store is gone"):
        await gate.runner.run(Request("chat", {"messages": []}))
    assert not any(held(gate).values())


async def test_a_hedge_that_lost_is_no_answer_time():
    """It was cut before it said anything: nothing is known of how long it would have taken."""
    gate = gateway(
        {"a": [*[Slow(5)] * 20, Slow(1)], "b": [Slow(60)]}, model=AFTER_4, policy={"retryBudget": {"enabled": False}}
    )
    for _ in range(20):
        await gate.ask()
    assert gate.calls() == {"a": 20, "b": 20}
    assert gate.runner._driver.latencies.slow_after("chat/b", 95) == float("inf")


async def test_a_stream_that_commits_later_is_not_hedged():
    """It has had content by then."""
    gate = gateway(
        {"a": [Streamed("x", 10, "y", 10)], "b": []}, model={**AFTER_4, "commit": {"at": "seconds", "value": 8}}
    )
    assert (await stream(gate))[0] == ["x", "y"]
    assert gate.calls()["b"] == 0


async def test_streams_and_whole_answers_are_timed_apart():
    """A first content comes sooner than a whole answer, and says nothing of how slow one is."""
    gate = gateway({"a": [*[Streamed(1, "x")] * 20, Slow(20)], "b": []}, model={"hedge": {"afterPercentile": 95}})
    for _ in range(20):
        await stream(gate)
    assert ((await gate.ask()).candidate, gate.calls()["b"]) == ("a", 0)


async def test_the_callers_context_reaches_the_hedge():
    """Its spans and its logging are the run's, whoever else is hedged before it."""
    mine = ContextVar("mine", default="nobody's")
    seen = []

    async def send(request):
        seen.append(mine.get())
        return answer()

    async def ask(name):
        mine.set(name)
        await gate.ask()

    gate = gateway({"a": [Slow(60), Slow(60)], "b": []}, model=AFTER_4)
    gate.clients["b"].send = send
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "ada's")
        await anyio.sleep(1)
        tasks.start_soon(ask, "bob's")
    assert seen == ["ada's", "bob's"]


async def test_hedges_that_the_deadline_cuts_are_paid_for():
    """Where nobody answers, a hundred tokens are seven hedges."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)]}, model={**AFTER_4, "timeouts": {"totalSeconds": 6}})
    for _ in range(10):
        with pytest.raises(RunFailed):
            await gate.ask()
    assert gate.calls() == {"a": 10, "b": 7}


async def test_two_that_fail_at_once_where_one_stops_the_run():
    """The other is not tried again: the run is over."""
    ended = anyio.Event()
    retry = {"maxAttempts": 3, "backoff": {"initialSeconds": 1, "jitter": "none"}}
    gate = gateway({"a": [], "b": []}, model=AFTER_4, retry=retry)

    async def refuses(_):
        await anyio.sleep(5)
        ended.set()
        raise Fail("bad_request", "no", status=400).error

    async def fails(_):
        await ended.wait()
        raise DOWN.error

    gate.clients["a"].send, gate.clients["b"].send = refuses, fails
    with pytest.raises(RunFailed) as caught:
        await gate.ask()
    assert "retry" not in [action for *_, action in did(caught.value.record)]
    assert not any(gate.runner.held.values())


async def test_what_no_provider_had_a_hand_in_is_counted_once():
    """Two calls beside each other take no more time than passes."""
    gate = gateway({"a": [Slow(6)], "b": [Slow(60)]}, model=AFTER_4)
    assert (await gate.ask()).record.own_seconds == 0


class OddClient(ScriptedClient):
    """A client whose streams cannot be closed."""

    @asynccontextmanager
    async def stream(self, request):
        async with super().stream(request) as opened:
            yield opened
        raise RuntimeError("closing failed")


async def test_a_loser_that_cannot_be_closed_is_forgotten_all_the_same():
    """The one that was heard is the answer, and nothing is held."""
    gate = gateway({"a": [], "b": [Streamed(1, "b")]}, model=AFTER_4, limits=ONE_AT_A_TIME)
    odd = OddClient([Streamed(5, "a")])
    gate.runner._clients._factories["a"] = lambda _: odd
    gate.clients["a"] = odd
    try:
        said, _ = await stream(gate)
        assert said == ["b"]
    except RuntimeError:
        assert odd.calls  # it was heard itself, in the very moment
    assert not any(held(gate).values())
