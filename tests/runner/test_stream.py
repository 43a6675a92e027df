"""Streamed runs: before the commit a failure is one like any other, after it nobody can take over."""

from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from standby.runner import Block, Request, RunFailed, StreamInterrupted
from standby.runner.testing import Fail, Streamed
from standby.store import MemoryState, Succeeded
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
CUT = Fail("stream_read_error", "cut", status=200, retryable=True, work="billed")


async def stream(gate, **options):
    """The texts of one streamed run, and its record."""
    async with gate.runner.stream(Request("chat", {"messages": []}), **options) as streamed:
        said = [chunk.data["choices"][0]["delta"]["content"] async for chunk in streamed]
    return said, streamed.record


def held(gate):
    return gate.runner.held["leases"], sum(client.in_flight for client in gate.clients.values())


async def test_the_events_of_the_first_candidate_with_content_are_the_answer():
    """All of them, the ones before the content too, in order."""
    gate = gateway({"a": [Streamed("", "Hel", "lo")], "b": []})
    said, record = await stream(gate)
    assert (said, record.candidate, record.ending) == (["", "Hel", "lo"], "a", "answered")
    assert record.usage.output_tokens == 10


async def test_the_record_tells_when_the_first_content_came():
    """Of the try that had it, in milliseconds from the beginning of the run; the try itself lasts until the end."""
    gate = gateway({"a": [Streamed(2, CUT)], "b": [Streamed("", 3, "Hel", 4, "lo")]})
    _, record = await stream(gate)
    first, second = record.as_dict()["tries"]
    assert "content_after_ms" not in first
    assert (second["after_ms"], second["content_after_ms"], second["took_ms"]) == (2000, 5000, 7000)


@pytest.mark.parametrize(
    "failure", [DOWN, Streamed(CUT), Streamed("", CUT), Streamed("", 1, CUT), ValueError("broken")]
)
async def test_what_fails_before_the_first_content_is_failed_over(failure):
    """Nothing of it reaches the caller."""
    gate = gateway(
        {"a": [failure], "b": [Streamed("hello")]}, policy={"failoverPolicy": {"allowCategories": ["client_error"]}}
    )
    said, record = await stream(gate)
    assert (said, record.candidate, record.failovers) == (["hello"], "b", 1)


async def test_a_break_after_the_first_content_is_told():
    """The caller has the events that came, then the error with the text, the count and the record; nobody takes over."""
    gate = gateway({"a": [Streamed("Hel", "lo", CUT)], "b": []})
    said = []
    with pytest.raises(StreamInterrupted) as caught:
        async with gate.runner.stream(Request("chat", {})) as streamed:
            async for chunk in streamed:
                said += [chunk.data]
    assert (len(said), caught.value.partial, gate.calls()["b"]) == (2, "Hello", 0)
    assert caught.value.record.ending == "interrupted"
    assert did(caught.value.record) == [("a", 1, "stream_error", "stop")]
    assert caught.value.record.tries[0].rule[0] == "client_retryable"


async def test_the_candidates_health_hears_of_a_break():
    """Breaks in a row eject, though each of these streams had content."""
    gate = gateway({"a": [Streamed("x", CUT)], "b": []}, policy={"failoverPolicy": {"ejectAfter": 3}})
    for _ in range(3):
        with pytest.raises(StreamInterrupted):
            await stream(gate)
    assert (await stream(gate))[1].candidate == "b"


async def test_a_break_does_what_the_policy_says_of_its_category():
    """Cooldown and demotion, as for any other failure."""
    policy = {
        "failoverPolicy": {"actions": {"stream_error": "cooldown_and_next"}},
        "priorityDemotePolicy": {"enabled": True, "categories": ["stream_error"]},
    }
    gate = gateway({"a": [Streamed("x", CUT)], "b": []}, policy=policy)
    with pytest.raises(StreamInterrupted):
        await stream(gate)
    standing = gate.state.standing("candidate:chat/a")
    assert standing.cooling_until > 0
    assert standing.demoted == 100


async def test_the_first_content_has_a_clock_of_its_own():
    """A stream without content is given up after `firstTokenSeconds`, however much else it sends."""
    gate = gateway(
        {"a": [Streamed(*[0.5, ""] * 100)], "b": [Streamed("hello")]},
        timeouts={"firstTokenSeconds": 5, "attemptSeconds": 50},
    )
    began = anyio.current_time()
    _, record = await stream(gate)
    assert anyio.current_time() - began == 5
    assert record.tries[0].failure.info.message == "no answer within 5 s (firstTokenSeconds)"
    assert record.tries[0].failure.info.category == "timeout"


async def test_silence_after_the_first_content_is_a_break():
    """`idleSeconds` lies over each read."""
    gate = gateway({"a": [Streamed("x", 3, "y", 100)]}, timeouts={"idleSeconds": 4})
    began = anyio.current_time()
    with pytest.raises(StreamInterrupted, match=r"nothing came within 4 s \(idleSeconds\)"):
        await stream(gate)
    assert anyio.current_time() - began == 7


async def test_a_slow_caller_is_not_a_silent_provider():
    """No clock runs while the caller is busy."""
    gate = gateway({"a": [Streamed("x", "y", "z")]}, timeouts={"idleSeconds": 1})
    async with gate.runner.stream(Request("chat", {})) as streamed:
        async for _ in streamed:
            await anyio.sleep(100)
    assert streamed.record.ending == "answered"


async def test_the_deadline_lies_over_the_whole_stream():
    """It cuts a stream that goes on; that is not the candidate's fault."""
    gate = gateway(
        {"a": [Streamed(*["x", 1] * 100)]},
        model={"timeouts": {"totalSeconds": 5.5}},
        policy={"failoverPolicy": {"ejectAfter": 1}},
    )
    began = anyio.current_time()
    with pytest.raises(StreamInterrupted) as caught:
        await stream(gate)
    assert (anyio.current_time() - began, gate.state.standings()) == (5.5, {})
    assert caught.value.record.tries[0].failure.blame == "caller"


async def test_a_caller_that_leaves_gives_everything_back():
    """Capacity is free again, the call is closed, nobody's health changes."""
    gate = gateway({"a": [Streamed("x", 100)]}, limits={"concurrency": 1}, policy={"failoverPolicy": {"ejectAfter": 1}})
    async with gate.runner.stream(Request("chat", {}), run_id="left") as streamed:
        async for _ in streamed:
            break
    assert (held(gate), gate.state.standings()) == ((0, 0), {})
    assert (streamed.record.ending, streamed.record.tries[0].outcome) == ("abandoned", "abandoned")
    assert (await gate.runner.history.get("left"))["ending"] == "abandoned"


async def test_capacity_is_held_until_the_stream_is_over():
    """A stream is one of the candidate's concurrent calls for as long as it lasts."""
    gate = gateway({"a": [Streamed("x", 5, "y"), Streamed("z")]}, limits={"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream, gate)
        await anyio.sleep(1)
        assert held(gate)[0] == 1
        _, record = await stream(gate)
    assert record.queued_seconds == 4


async def test_tokens_of_a_stream_are_asked_for_where_a_limit_needs_them():
    """And settled when the stream is over."""
    gate = gateway(
        {"a": [Streamed("x", tokens=100)]}, limits={"tokensPerMinute": 100}, model={"queue": {"maxWaiting": 0}}
    )
    await stream(gate)
    assert gate.clients["a"].calls[0].count_tokens
    with pytest.raises(RunFailed):
        await stream(gate)


async def test_commit_can_be_after_some_bytes():
    """A break before them is failed over, though there was content."""
    gate = gateway(
        {"a": [Streamed("first", CUT)], "b": [Streamed("second")]}, model={"commit": {"at": "bytes", "value": 512}}
    )
    assert (await stream(gate))[0] == ["second"]
    gate = gateway({"a": [Streamed("x" * 600, CUT)], "b": []}, model={"commit": {"at": "bytes", "value": 512}})
    with pytest.raises(StreamInterrupted):
        await stream(gate)


async def test_commit_can_be_some_seconds_after_the_first_content():
    """A break within them is failed over."""
    commit = {"commit": {"at": "seconds", "value": 2}}
    gate = gateway({"a": [Streamed("x", 1, CUT)], "b": [Streamed("second")]}, model=commit)
    assert (await stream(gate))[0] == ["second"]
    gate = gateway({"a": [Streamed("x", 3, "y", CUT)], "b": []}, model=commit)
    with pytest.raises(StreamInterrupted):
        await stream(gate)


async def test_a_client_that_cannot_stream_gives_way():
    """The failure is ours to name, and the next candidate is tried where policy allows."""

    class Plain:
        async def send(self, request):
            raise AssertionError

        async def aclose(self):
            pass

    gate = gateway(
        {"a": [], "b": [Streamed("hello")]}, policy={"failoverPolicy": {"allowCategories": ["unsupported_model"]}}
    )
    gate.clients["a"] = Plain()
    gate.runner._clients._factories["a"] = lambda _: Plain()
    said, record = await stream(gate)
    assert (said, record.tries[0].failure.info.code) == (["hello"], "unsupported_parameter")


async def test_when_nobody_has_content_the_run_fails():
    """As a plain one does."""
    gate = gateway({"a": [DOWN], "b": [Streamed("", CUT)]})
    with pytest.raises(RunFailed) as caught:
        await stream(gate)
    assert (caught.value.ending, caught.value.record.attempts) == ("exhausted", 2)


async def test_a_probe_is_settled_at_the_first_content():
    """Other runs may use the candidate from then on, while the stream goes on."""
    policy = {"failoverPolicy": {"actions": {"provider_5xx": "cooldown_and_next"}, "cooldownSeconds": 10}}
    gate = gateway({"a": [DOWN, Streamed(1, "x", 100), Streamed("y")], "b": []}, policy=policy)
    await stream(gate)
    await anyio.sleep(20)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream, gate)
        await anyio.sleep(0.5)
        assert (await stream(gate))[1].candidate == "b"
        await anyio.sleep(1)
        assert (await stream(gate))[1].candidate == "a"
        tasks.cancel_scope.cancel()


async def test_a_broken_stream_stays_broken():
    """Who asks again is told again: it never ends as if it were complete."""
    gate = gateway({"a": [Streamed("x", CUT)]})
    async with gate.runner.stream(Request("chat", {})) as streamed:
        await streamed.read()
        for _ in range(2):
            with pytest.raises(StreamInterrupted) as caught:
                await streamed.read()
            assert caught.value.partial == "x"
        with pytest.raises(StreamInterrupted):
            async for _ in streamed:
                pass
    assert len(streamed.record.tries) == 1


class Scripted:
    """A client whose stream is these events, as they are written; an exception among them is raised."""

    def __init__(self, *events, finished=False):
        self.events = list(events)
        self.finished = finished
        self.open = False
        self.usage = None
        self.request_id = ""

    async def send(self, request):
        raise AssertionError

    async def aclose(self):
        pass

    @asynccontextmanager
    async def stream(self, request):
        self.open = True
        try:
            yield self
        finally:
            self.open = False

    dropped = ()

    def ending(self):
        return None

    def commit(self):
        pass

    async def read(self):
        if not self.events:
            await anyio.sleep_forever()
        event = self.events.pop(0)
        if isinstance(event, Exception):
            raise event
        return Block(event, content=True)


def with_client(gate, client):
    """``gate`` with another client behind its first candidate."""
    gate.runner._clients._factories["a"] = lambda _: client
    return gate


async def test_the_partial_text_is_what_can_be_read_of_what_was_passed_on():
    """After the commit nobody looks: it need not be JSON, or a chunk."""
    odd = [b"{", b"[]", b"1", b"{}", b'{"choices": 1}', b'{"choices": [1]}', b'{"choices": [{"delta": "x"}]}']
    odd += [b'{"choices": [{"delta": {"content": ["x"]}}]}', b'{"choices": [{"delta": {"content": "Hi"}}]}']
    odd += [b'{"choices": [{"index": 1, "delta": {"content": "no"}}]}', b'{"choices": [{"text": "!"}]}']
    odd += [b'{"type": "response.output_text.delta", "delta": " You."}', b'{"type": "response.output_text.delta"}']
    odd += [b'{"type": "response.refusal.delta", "delta": "no"}', b'{"type": "content_block_delta"}']
    odd += [b'{"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "no"}}']
    odd += [b'{"type": "content_block_delta", "delta": {"type": "text_delta", "text": " And me."}}']
    client = Scripted(b"".join(b"data: " + data + b"\n\n" for data in odd), CUT.error)
    with pytest.raises(StreamInterrupted) as caught:
        async with with_client(gateway({"a": []}), client).runner.stream(Request("chat", {})) as streamed:
            while await streamed.read():
                pass
    assert caught.value.partial == "Hi! You. And me."


@pytest.mark.parametrize(("finished", "ending"), [(True, "answered"), (False, "interrupted")])
async def test_silence_after_the_answer_is_no_break(finished, ending):
    """A provider that has finished and does not end its stream has answered."""
    client = Scripted(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', finished=finished)
    gate = with_client(gateway({"a": []}, timeouts={"idleSeconds": 4}), client)
    with suppress(StreamInterrupted):
        async with gate.runner.stream(Request("chat", {})) as streamed:
            while await streamed.read():
                pass
    assert (streamed.record.ending, client.open) == (ending, False)


async def test_a_stream_is_closed_where_its_success_cannot_be_told():
    """Nothing is left open when the state fails at the commit."""

    class Failing(MemoryState):
        async def apply(self, effects):
            if any(isinstance(effect, Succeeded) for effect in effects):
                raise OSError("the store is gone")
            await super().apply(effects)

    policy = {"failoverPolicy": {"actions": {"provider_5xx": "cooldown_and_next"}, "cooldownSeconds": 10}}
    gate = gateway(
        {"a": [DOWN, Streamed("x", 100)], "b": []}, policy=policy, limits={"concurrency": 1}, state=Failing()
    )
    await stream(gate)
    await anyio.sleep(20)
    with pytest.raises(OSError, match="the store is gone"):
        await stream(gate)
    assert held(gate) == (0, 0)
