"""Hedges: who is asked beside a silent candidate, when, who is heard, and what the record says of it."""

import anyio
import pytest

from standby.runner import InvalidBody, Request
from standby.runner.testing import EPOCH, Fail, Slow, answer
from standby.store import Cool, Disable
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
AFTER_4 = {"hedge": {"afterSeconds": 4}}
TWO_AFTER_4 = {"hedge": {"afterSeconds": 4, "maxExtra": 2}}
SLOW_5_OF_100 = {"hedge": {"afterPercentile": 95}}


def told(record):
    """Who was asked, from when to when in seconds since the start, and what came of it."""
    began = record.began_at
    return {tried.candidate: (tried.began_at - began, tried.ended_at - began, tried.outcome) for tried in record.tries}


# -- when, and who is heard ----------------------------------------------------------------------------------------


async def test_another_is_asked_when_the_first_is_silent_so_long():
    """After `afterSeconds`; whoever answers first is heard."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(1, answer("from b"))]}, model=AFTER_4)
    result = await gate.ask()
    assert told(result.record) == {"a": (0, 5, "abandoned"), "b": (4, 5, "ok")}
    assert (result.candidate, result.data["choices"][0]["message"]["content"]) == ("b", "from b")


async def test_nobody_else_is_asked_before():
    """An answer that comes in time is paid for once."""
    gate = gateway({"a": [Slow(3.9)], "b": []}, model=AFTER_4)
    assert ((await gate.ask()).candidate, gate.calls()) == ("a", {"a": 1, "b": 0})


async def test_without_a_hedge_nobody_is_asked_beside_another():
    """It is off unless the model has one."""
    gate = gateway({"a": [Slow(50)], "b": []})
    assert ((await gate.ask()).candidate, gate.calls()["b"]) == ("a", 0)


async def test_the_first_may_still_be_heard():
    """It has its chance for as long as the other is silent too."""
    gate = gateway({"a": [Slow(6)], "b": [Slow(60)]}, model=AFTER_4)
    record = (await gate.ask()).record
    assert told(record) == {"a": (0, 6, "ok"), "b": (4, 6, "abandoned")}
    assert record.candidate == "a"


@pytest.mark.parametrize(("first", "other"), [(60, 1), (5, 60)])
async def test_the_call_that_lost_is_cancelled_at_once(first, other):
    """The run does not wait for it, and leaves no call behind."""
    gate = gateway({"a": [Slow(first)], "b": [Slow(other)]}, model=AFTER_4)
    began = anyio.current_time()
    await gate.ask()
    assert anyio.current_time() - began == 5
    assert {name: client.in_flight for name, client in gate.clients.items()} == {"a": 0, "b": 0}


async def test_of_two_that_answer_in_the_same_moment_one_is_heard():
    """The other is abandoned like any that comes too late."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(1)]}, model=AFTER_4, limits={"concurrency": 1})
    record = (await gate.ask()).record
    assert sorted(tried.outcome for tried in record.tries) == ["abandoned", "ok"]
    assert [tried.candidate for tried in record.tries if tried.outcome == "ok"] == [record.candidate]
    assert not any(gate.runner.held.values())


async def test_the_next_one_is_hedged_from_its_own_start():
    """After a failover silence is counted anew."""
    gate = gateway({"a": [Slow(3, DOWN)], "b": [Slow(60)], "c": [Slow(1)]}, model=AFTER_4)
    record = (await gate.ask()).record
    assert told(record) == {"a": (0, 3, "provider_5xx"), "b": (3, 8, "abandoned"), "c": (7, 8, "ok")}


async def test_one_more_is_asked_unless_the_model_says_otherwise():
    """`maxExtra` is 1."""
    gate = gateway({"a": [Slow(30)], "b": [Slow(60)], "c": []}, model=AFTER_4)
    assert ((await gate.ask()).candidate, gate.calls()["c"]) == ("a", 0)


async def test_more_are_asked_one_after_the_other():
    """Each when the one before it has been silent so long; all that were not heard are abandoned."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(60)], "c": [Slow(2)], "d": []}, model=TWO_AFTER_4)
    record = (await gate.ask()).record
    assert told(record) == {"a": (0, 10, "abandoned"), "b": (4, 10, "abandoned"), "c": (8, 10, "ok")}
    assert {client.in_flight for client in gate.clients.values()} == {0}


async def test_no_more_than_max_extra_are_asked():
    """However long all of them are silent."""
    gate = gateway({"a": [Slow(50)], "b": [Slow(60)], "c": [Slow(60)], "d": []}, model=TWO_AFTER_4)
    assert ((await gate.ask()).candidate, gate.calls()["d"]) == ("a", 0)


async def test_max_extra_is_counted_over_the_whole_run():
    """A failover brings no new ones."""
    gate = gateway({"a": [Slow(6, DOWN)], "b": [Slow(3, DOWN)], "c": [Slow(20)], "d": []}, model=AFTER_4)
    record = (await gate.ask()).record
    assert [tried.candidate for tried in record.tries if tried.hedge] == ["b"]
    assert (record.candidate, gate.calls()["d"]) == ("c", 0)


# -- who ---------------------------------------------------------------------------------------------------------


async def test_nobody_of_the_same_provider_is_asked():
    """What makes the first one slow concerns it as well: the next of another provider is."""
    gate = gateway({"a": [Slow(60)], "b": [], "c": []}, model=AFTER_4, candidates={"b": {"provider": "a"}})
    record = (await gate.ask()).record
    assert (record.candidate, [tried.candidate for tried in record.tries]) == ("c", ["a", "c"])


async def test_where_all_are_of_one_provider_the_run_waits():
    """A hedge is worth no second call there."""
    gate = gateway({"a": [Slow(50)], "b": []}, model=AFTER_4, candidates={"b": {"provider": "a"}})
    assert [tried.candidate for tried in (await gate.ask()).record.tries] == ["a"]


@pytest.mark.parametrize("provider", ["a", "b"])
async def test_a_second_hedge_is_of_a_third_provider(provider):
    """Neither the first one's nor the other one's."""
    gate = gateway(
        {"a": [Slow(60)], "b": [Slow(60)], "c": [], "d": []},
        model=TWO_AFTER_4,
        candidates={"c": {"provider": provider}},
    )
    record = (await gate.ask()).record
    assert told(record) == {"a": (0, 8, "abandoned"), "b": (4, 8, "abandoned"), "d": (8, 8, "ok")}


def cooling(now):
    return Cool("candidate:chat/b", now, now + 100, 1, "test")


def half_open(now):
    return Cool("candidate:chat/b", now - 10, now - 1, 1, "test")


def disabled(now):
    return Disable("candidate:chat/b", now, "ada", "maintenance")


def rechecked(now):
    return Disable("candidate:chat/b", now - 10, "policy", "no balance", now - 1)


@pytest.mark.parametrize("held_against_it", [cooling, half_open, disabled, rechecked])
async def test_only_who_is_well_is_asked(held_against_it):
    """Not who is cooling, waits for its probe, or is disabled: the next one is."""
    gate = gateway({"a": [Slow(60)], "b": [], "c": []}, model=AFTER_4)
    await gate.state.apply([held_against_it(EPOCH + anyio.current_time())])
    record = (await gate.ask()).record
    assert (record.candidate, gate.calls()["b"]) == ("c", 0)


async def test_only_who_has_local_capacity_is_asked():
    """Who is at its limit is passed over, and not waited for."""
    gate = gateway(
        {"a": [Slow(60)], "b": [Slow(30)], "c": []},
        model=AFTER_4,
        overrides={"b": {"rateLimitPolicy": {"concurrency": 1}}},
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: gate.ask(only=["b"]))
        await anyio.sleep(1)
        record = (await gate.ask()).record
    assert (record.candidate, record.queued_seconds, gate.calls()["b"]) == ("c", 0, 1)


async def test_only_who_has_the_time_to_answer_is_asked():
    """Not who needs more than is left before the deadline."""
    gate = gateway(
        {"a": [Slow(60)], "b": [], "c": []},
        model={**AFTER_4, "timeouts": {"totalSeconds": 6}},
        overrides={"b": {"timeouts": {"minUsefulSeconds": 3}}, "c": {"timeouts": {"minUsefulSeconds": 2}}},
    )
    assert ((await gate.ask()).candidate, gate.calls()["b"]) == ("c", 0)


async def test_where_nobody_is_suitable_the_run_waits_for_the_first():
    """As if there were no hedge."""
    gate = gateway({"a": [Slow(50)], "b": []}, model=AFTER_4)
    await gate.state.apply([cooling(EPOCH + anyio.current_time())])
    record = (await gate.ask()).record
    assert (told(record), record.skips) == ({"a": (0, 50, "ok")}, [])


async def test_only_the_candidates_that_the_run_may_call_are_asked():
    """A run that is restricted to one is not hedged by another."""
    gate = gateway({"a": [Slow(50)], "b": []}, model=AFTER_4)
    assert ((await gate.ask(only=["a"])).candidate, gate.calls()["b"]) == ("a", 0)


async def test_a_run_that_may_not_fail_over_is_not_hedged():
    """Its request may be sent to one candidate only."""
    gate = gateway({"a": [Slow(50)], "b": []}, model=AFTER_4)
    assert ((await gate.ask(may_fail_over=False)).candidate, gate.calls()["b"]) == ("a", 0)


async def test_a_lease_is_held_for_a_hedge_too():
    """It is one of the candidate's concurrent calls, for as long as it lasts."""
    gate = gateway({"a": [Slow(10)], "b": [Slow(60)]}, model=AFTER_4, limits={"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await anyio.sleep(5)
        assert [status.limits[0].in_flight for status in gate.runner.statuses()] == [1, 1]
        await anyio.sleep(10)
        assert [status.limits[0].in_flight for status in gate.runner.statuses()] == [0, 0]


# -- the slow few ------------------------------------------------------------------------------------------------


async def answers(gate, count):
    """So many runs, one after the other; who was called in them."""
    for _ in range(count):
        await gate.ask()
    return gate.calls()


async def test_before_twenty_answers_nobody_knows_what_slow_is():
    """The twentieth is waited for, however long it takes."""
    gate = gateway({"a": [*[Slow(1)] * 19, Slow(50)], "b": []}, model=SLOW_5_OF_100)
    assert await answers(gate, 20) == {"a": 20, "b": 0}


async def test_after_a_percentile_means_later_than_that_share_of_the_last_answers():
    """Of twenty, one to twenty seconds long, nineteen took at most nineteen seconds."""
    gate = gateway({"a": [*[Slow(seconds) for seconds in range(20, 0, -1)], Slow(50)], "b": []}, model=SLOW_5_OF_100)
    await answers(gate, 20)
    assert told((await gate.ask()).record) == {"a": (0, 19, "abandoned"), "b": (19, 19, "ok")}


async def test_only_the_last_hundred_answers_are_known():
    """What was slow long ago is not slow now."""
    gate = gateway(
        {"a": [*[Slow(seconds) for seconds in range(120, 0, -1)], Slow(300)], "b": []},
        model={**SLOW_5_OF_100, "timeouts": {"totalSeconds": 400}},
        timeouts={"attemptSeconds": 300},
    )
    assert await answers(gate, 120) == {"a": 120, "b": 0}
    assert told((await gate.ask()).record) == {"a": (0, 95, "abandoned"), "b": (95, 95, "ok")}


async def test_each_candidate_has_its_own_percentile():
    """How long the first one takes says nothing about the next."""
    gate = gateway({"a": [*[Slow(1)] * 20, DOWN], "b": [Slow(50)], "c": []}, model=SLOW_5_OF_100)
    await answers(gate, 20)
    assert ((await gate.ask()).candidate, gate.calls()["c"]) == ("b", 0)


async def test_a_call_that_lost_counts_as_one_that_took_as_long():
    """Else only the quick ones would be known, and who has become slow would be hedged early for ever."""
    gate = gateway({"a": [*[Slow(1)] * 20, Slow(50)], "b": [Slow(3)]}, model=SLOW_5_OF_100)
    await answers(gate, 20)
    assert told((await gate.ask()).record)["b"][0] == 1
    await answers(gate, 10)
    assert told((await gate.ask()).record)["b"][0] > 1


# -- what it does, and what is told of it --------------------------------------------------------------------------

STRICT = {
    "failoverPolicy": {"ejectAfter": 1, "actions": {"timeout": "cooldown_and_next"}},
    "priorityDemotePolicy": {"enabled": True, "categories": ["timeout", "provider_5xx", "client_error"]},
}


@pytest.mark.parametrize(("first", "other"), [(60, 1), (5, 60)])
async def test_a_call_that_lost_changes_nobodys_health(first, other):
    """No count of failures, no cooldown, no demotion."""
    gate = gateway({"a": [Slow(first)], "b": [Slow(other)]}, model=AFTER_4, policy=STRICT)
    await gate.ask()
    assert gate.state.standings() == {}


async def test_a_call_that_lost_is_no_success_either():
    """What is held against its candidate stays."""
    gate = gateway({"a": [DOWN, Slow(60)], "b": [None, Slow(1)]}, model=AFTER_4)
    await gate.ask()
    assert (await gate.ask()).candidate == "b"
    assert gate.state.standing("candidate:chat/a").failures_in_row == 1


async def test_the_record_has_both_tries():
    """The one that lost says why it was abandoned; the extra one is marked."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(1)]}, model=AFTER_4)
    record = (await gate.ask()).record
    tries = {tried.candidate: (tried.n, tried.outcome, tried.why, tried.hedge) for tried in record.tries}
    assert tries == {"a": (1, "abandoned", "another was heard first", False), "b": (1, "ok", "", True)}
    assert (record.attempts, record.failovers, record.ending) == (2, 0, "answered")


async def test_a_hedge_that_lost_is_told_as_one():
    """It is abandoned, and marked."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(60)]}, model=AFTER_4)
    tries = {tried.candidate: (tried.why, tried.hedge) for tried in (await gate.ask()).record.tries}
    assert tries == {"a": ("", False), "b": ("another was heard first", True)}


async def test_the_history_tells_a_hedge():
    """What is kept of the run says who was asked beside whom, and why a try was abandoned."""
    gate = gateway({"a": [Slow(60)], "b": [Slow(1)]}, model=AFTER_4)
    await gate.ask(run_id="hedged")
    tries = (await gate.runner.history.get("hedged"))["tries"]
    assert sorted(tries, key=lambda tried: tried["candidate"]) == [
        {
            "candidate": "a",
            "n": 1,
            "after_ms": 0,
            "took_ms": 5000,
            "outcome": "abandoned",
            "why": "another was heard first",
        },
        {"candidate": "b", "n": 1, "after_ms": 4000, "took_ms": 1000, "outcome": "ok", "hedge": True},
    ]


# -- a body that cannot be sent ------------------------------------------------------------------------------------


def refusing(request):
    """What a client does with a body that cannot be written as JSON."""
    request.body.encoded()
    raise AssertionError("the body can be sent")


async def test_a_body_that_is_not_json_is_the_callers_mistake():
    """It is raised as itself, not in a group, and no candidate is to blame."""
    gate = gateway({"a": refusing, "b": []}, model=AFTER_4, policy=STRICT)
    with pytest.raises(InvalidBody):
        await gate.runner.run(Request("chat", {"messages": object()}))
    assert (gate.state.standings(), gate.calls()) == ({}, {"a": 1, "b": 0})
    assert not any(gate.runner.held.values())


async def test_a_hedge_that_cannot_send_the_body_ends_the_run():
    """Nor can anybody else: the call that is under way is cancelled at once, and neither is to blame."""
    gate = gateway(
        {"a": [Slow(60)], "b": [InvalidBody("cannot be written")]},
        model=AFTER_4,
        policy=STRICT,
        limits={"concurrency": 1},
    )
    began = anyio.current_time()
    with pytest.raises(InvalidBody):
        await gate.ask()
    assert (anyio.current_time() - began, gate.clients["a"].in_flight, gate.state.standings()) == (4, 0, {})
    assert not any(gate.runner.held.values())


async def test_a_body_that_no_limit_can_count_is_the_callers_mistake_too():
    """A client that sent it as it is was asked already."""
    gate = gateway({"a": [Slow(60)], "b": []}, model=AFTER_4, overrides={"b": {"rateLimitPolicy": {"concurrency": 1}}})
    with pytest.raises(InvalidBody):
        await gate.runner.run(Request("chat", {"messages": object()}))
    assert (gate.calls()["b"], gate.clients["a"].in_flight) == (0, 0)
    assert not any(gate.runner.held.values())
