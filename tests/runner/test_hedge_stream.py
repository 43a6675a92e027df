"""Hedged streams: only before the first content; one stream is heard, the other closed, and nothing of it is passed on."""

import anyio
import pytest

from standby.runner import InvalidBody, Request, RunFailed, StreamInterrupted
from standby.runner.testing import EPOCH, Fail, Slow, Streamed
from standby.store import Cool
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
REFUSED = Fail("bad_request", "no", status=400)
CUT = Fail("stream_read_error", "cut", status=200, retryable=True, work="billed")
AFTER_4 = {"hedge": {"afterSeconds": 4}}


async def stream(gate, **options):
    """The texts of one streamed run, and its record."""
    async with gate.runner.stream(Request("chat", {"messages": []}), **options) as streamed:
        said = [chunk.data["choices"][0]["delta"]["content"] async for chunk in streamed]
    return said, streamed.record


async def failed_stream(gate):
    """The record of a streamed run that nobody has content for."""
    with pytest.raises(RunFailed) as caught:
        await stream(gate)
    return caught.value.record


def told(record):
    """Who was asked, from when to when in seconds since the start, and what came of it."""
    began = record.began_at
    return {tried.candidate: (tried.began_at - began, tried.ended_at - began, tried.outcome) for tried in record.tries}


def in_flight(gate):
    return [client.in_flight for client in gate.clients.values()]


# -- who is heard --------------------------------------------------------------------------------------------------


async def test_another_stream_is_opened_when_the_first_is_silent_so_long():
    """Whoever has content first is heard to the end."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(1, Streamed("hel", 2, "lo"))]}, model=AFTER_4)
    said, record = await stream(gate)
    assert (said, record.candidate, record.ending) == (["hel", "lo"], "b", "answered")
    assert told(record) == {"a": (0, 5, "abandoned"), "b": (4, 7, "ok")}


async def test_a_stream_without_content_is_silent():
    """Headers and empty events are no answer: it is content that counts."""
    gate = gateway({"a": [Streamed("", 3, "", 30, "late")], "b": [Streamed("hello")]}, model=AFTER_4)
    assert (await stream(gate))[0] == ["hello"]


async def test_a_stream_with_content_in_time_is_not_hedged():
    """However long it pauses after that."""
    gate = gateway({"a": [Streamed(3, "a", 10, "b")], "b": []}, model=AFTER_4)
    said, _ = await stream(gate)
    assert (said, gate.calls()["b"]) == (["a", "b"], 0)


async def test_nothing_of_the_stream_that_lost_is_passed_on():
    """What it had sent before is forgotten: nothing is spliced."""
    gate = gateway({"a": [Streamed("", 30, "from a")], "b": [Streamed("", 1, "from b", 1, "and on")]}, model=AFTER_4)
    assert (await stream(gate))[0] == ["", "from b", "and on"]


async def test_nothing_of_a_hedge_that_lost_is_passed_on():
    """The first goes on as if it had been alone."""
    gate = gateway({"a": [Streamed("", 6, "from a", 9, "and on")], "b": [Streamed("", 30, "from b")]}, model=AFTER_4)
    said, record = await stream(gate)
    assert (said, record.candidate) == (["", "from a", "and on"], "a")
    assert told(record) == {"a": (0, 15, "ok"), "b": (4, 6, "abandoned")}


@pytest.mark.parametrize(("first", "other"), [(60, 1), (5, 60)])
async def test_the_stream_that_lost_is_closed_before_the_caller_reads(first, other):
    """Its call is over when the block is entered, and its capacity is free."""
    gate = gateway(
        {"a": [Streamed("", first, "x", 9, "y")], "b": [Streamed("", other, "x", 9, "y")]},
        model=AFTER_4,
        limits={"concurrency": 1},
    )
    began = anyio.current_time()
    async with gate.runner.stream(Request("chat", {})):
        assert (anyio.current_time() - began, sum(in_flight(gate)), gate.runner.held["leases"]) == (5, 1, 1)
    assert (in_flight(gate), gate.runner.held["leases"]) == ([0, 0], 0)


async def test_of_two_with_content_in_the_same_moment_one_is_heard():
    """The other's stream is closed at once."""
    gate = gateway(
        {"a": [Streamed(5, "x", 9, "y")], "b": [Streamed(1, "x", 9, "y")]}, model=AFTER_4, limits={"concurrency": 1}
    )
    async with gate.runner.stream(Request("chat", {})) as streamed:
        assert (sum(in_flight(gate)), gate.runner.held["leases"]) == (1, 1)
        assert [tried.outcome for tried in streamed.record.tries] == ["abandoned", "ok"]
        assert (streamed.record.tries[0].why, streamed.record.tries[1].candidate) == (
            "another was heard first",
            streamed.record.candidate,
        )
    assert in_flight(gate) == [0, 0]


async def test_the_record_has_both_streams():
    """The one that lost says why; the extra one is marked."""
    gate = gateway({"a": [Slow(60)], "b": [Streamed("x")]}, model=AFTER_4)
    record = (await stream(gate))[1]
    tries = {tried.candidate: (tried.outcome, tried.why, tried.hedge) for tried in record.tries}
    assert tries == {"a": ("abandoned", "another was heard first", False), "b": ("ok", "", True)}


async def test_what_the_heard_stream_counted_is_what_was_used():
    """Not what the other would have."""
    gate = gateway({"a": [Streamed(60, "x", tokens=7)], "b": [Streamed("x", tokens=5)]}, model=AFTER_4)
    assert (await stream(gate))[1].usage.output_tokens == 5


async def test_a_stream_that_lost_changes_nobodys_health():
    """No count of failures, no cooldown, no demotion."""
    policy = {
        "failoverPolicy": {"ejectAfter": 1},
        "priorityDemotePolicy": {"enabled": True, "categories": ["timeout", "stream_error", "client_error"]},
    }
    gate = gateway({"a": [Streamed("", 60, "x")], "b": [Streamed("x")]}, model=AFTER_4, policy=policy)
    await stream(gate)
    assert gate.state.standings() == {}


async def test_a_run_that_may_not_fail_over_opens_one_stream():
    """Its request may be sent to one candidate only."""
    gate = gateway({"a": [Streamed(50, "x")], "b": []}, model=AFTER_4)
    assert ((await stream(gate, may_fail_over=False))[0], gate.calls()["b"]) == (["x"], 0)


async def test_a_percentile_is_of_the_times_to_the_first_content():
    """How long the streams then went on does not matter."""
    script = [*[Streamed(2, "x", 20, "y")] * 20, Streamed(20, "x")]
    gate = gateway({"a": script, "b": [Streamed("z")]}, model={"hedge": {"afterPercentile": 95}})
    for _ in range(20):
        assert (await stream(gate))[0] == ["x", "y"]
    assert told((await stream(gate))[1]) == {"a": (0, 2, "abandoned"), "b": (2, 2, "ok")}


# -- a failure -----------------------------------------------------------------------------------------------------


async def test_when_the_first_breaks_before_content_the_run_waits_for_the_hedge():
    """Nobody else is called."""
    gate = gateway({"a": [Streamed("", 5, CUT)], "b": [Streamed("", 6, "x")], "c": []}, model=AFTER_4)
    said, record = await stream(gate)
    assert (said, did(record)) == (["", "x"], [("a", 1, "stream_error", "next"), ("b", 1, "ok", None)])
    assert gate.calls()["c"] == 0


async def test_when_the_hedge_breaks_before_content_the_first_may_still_be_heard():
    """It goes on as if it had been alone."""
    gate = gateway({"a": [Streamed("", 8, "x")], "b": [Streamed("", 1, CUT)]}, model=AFTER_4)
    said, record = await stream(gate)
    assert (said, did(record)) == (["", "x"], [("b", 1, "stream_error", "next"), ("a", 1, "ok", None)])


async def test_when_both_fail_the_run_goes_on_to_the_next():
    """Each has had its turn."""
    gate = gateway({"a": [Slow(6, DOWN)], "b": [Streamed(1, CUT)], "c": [Streamed("x")]}, model=AFTER_4)
    said, record = await stream(gate)
    assert (said, record.failovers, gate.calls()) == (["x"], 2, {"a": 1, "b": 1, "c": 1})


async def test_a_stop_ends_the_run_and_closes_the_other_stream():
    """At once."""
    gate = gateway({"a": [Streamed("", 60, "x")], "b": [Slow(1, REFUSED)], "c": []}, model=AFTER_4)
    began = anyio.current_time()
    record = await failed_stream(gate)
    assert (record.ending, anyio.current_time() - began, in_flight(gate)) == ("stopped", 5, [0, 0, 0])
    assert did(record) == [("b", 1, "request_error", "stop"), ("a", 1, "abandoned", None)]


async def test_a_break_after_the_content_of_a_hedge_is_told():
    """The one that lost is gone by then: nobody takes over, and its record is the hedge's."""
    gate = gateway({"a": [Slow(60)], "b": [Streamed("Hel", "lo", CUT)], "c": []}, model=AFTER_4)
    with pytest.raises(StreamInterrupted) as caught:
        await stream(gate)
    assert (caught.value.partial, gate.calls()["c"]) == ("Hello", 0)
    assert did(caught.value.record) == [("a", 1, "abandoned", None), ("b", 1, "stream_error", "stop")]
    assert gate.state.standing("candidate:chat/b").failures_in_row == 1


async def test_a_caller_that_leaves_a_hedge_that_was_heard_gives_everything_back():
    """The record says so of that stream."""
    gate = gateway({"a": [Slow(60)], "b": [Streamed("x", 100)]}, model=AFTER_4, limits={"concurrency": 1})
    async with gate.runner.stream(Request("chat", {})) as streamed:
        async for _ in streamed:
            break
    assert (in_flight(gate), any(gate.runner.held.values())) == ([0, 0], False)
    assert did(streamed.record) == [("a", 1, "abandoned", None), ("b", 1, "abandoned", None)]
    assert streamed.record.ending == "abandoned"


# -- the clocks ----------------------------------------------------------------------------------------------------


async def test_the_first_content_of_each_has_its_own_clock():
    """`firstTokenSeconds` is counted from each one's own start."""
    gate = gateway(
        {"a": [Streamed("", 60)], "b": [Streamed("", 60)], "c": [Streamed("x")]},
        model=AFTER_4,
        timeouts={"firstTokenSeconds": 7, "attemptSeconds": 50},
    )
    record = (await stream(gate))[1]
    assert told(record) == {"a": (0, 7, "timeout"), "b": (4, 11, "timeout"), "c": (11, 11, "ok")}
    assert record.tries[1].failure.info.message == "no answer within 7 s (firstTokenSeconds)"


async def test_the_deadline_lies_over_both_streams():
    """Both are cut, nobody else is called, and neither is to blame."""
    gate = gateway(
        {"a": [Streamed("", 60)], "b": [Slow(60)], "c": []}, model={**AFTER_4, "timeouts": {"totalSeconds": 6}}
    )
    began = anyio.current_time()
    record = await failed_stream(gate)
    assert (record.ending, anyio.current_time() - began, in_flight(gate)) == ("deadline", 6, [0, 0, 0])
    assert (sorted(told(record)), gate.state.standings()) == (["a", "b"], {})


async def test_the_idle_clock_lies_over_a_hedge_that_was_heard():
    """As over any stream."""
    gate = gateway({"a": [Slow(60)], "b": [Streamed("x", 30)]}, model=AFTER_4, timeouts={"idleSeconds": 3})
    began = anyio.current_time()
    with pytest.raises(StreamInterrupted):
        await stream(gate)
    assert anyio.current_time() - began == 7


# -- what is given back --------------------------------------------------------------------------------------------


async def test_a_stream_that_is_heard_pays_back_at_its_first_content():
    """From then on it is no extra call any more."""
    gate = gateway({"a": [Slow(60)], "b": [Streamed("x", 50, "y")]}, model=AFTER_4)
    async with gate.runner.stream(Request("chat", {})):
        assert (gate.runner.statuses()[0].retry_budget, gate.runner.held["extras"]) == ({}, 0)


async def test_a_probe_that_a_hedge_overtook_is_free_while_the_stream_goes_on():
    """The next run probes the candidate."""
    gate = gateway({"a": [Slow(60), Streamed("z")], "b": [Streamed("x", 50, "y")]}, model=AFTER_4)
    now = EPOCH + anyio.current_time()
    await gate.state.apply([Cool("candidate:chat/a", now - 10, now - 1, 1, "test")])
    async with gate.runner.stream(Request("chat", {})):
        assert gate.runner.held["probes"] == 0
        assert (await stream(gate))[1].candidate == "a"


async def test_a_body_that_is_not_json_is_the_callers_mistake():
    """It is raised as itself, not in a group."""
    gate = gateway({"a": lambda request: request.body.encoded(), "b": []}, model=AFTER_4)
    with pytest.raises(InvalidBody):
        async with gate.runner.stream(Request("chat", {"messages": object()})):
            pass
    assert (any(gate.runner.held.values()), gate.state.standings()) == (False, {})
