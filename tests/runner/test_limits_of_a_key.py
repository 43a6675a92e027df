"""Limits of a provider's key: all candidates of all models that use it share them, and wait for them in one line."""

from dataclasses import replace
from functools import partial

import anyio
import pytest

from standby.runner import Request, RunFailed
from standby.runner.testing import Fail, Slow, Streamed, answer
from standby.store import Queue
from tests.runner.conftest import did, gateway

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"rate_limit": {"concurrency": 1}}
DOWN = Fail("server_error", status=500, retryable=True)


def two_models(script, limit, *, other=None, **parts):
    """The models `chat` and `other`, whose only candidate `a` uses the same key, which has this limit."""
    gate = gateway({"a": script}, providers={"a": {"rate_limit": limit}}, **parts)
    snapshot = gate.catalog.snapshot()
    models = {"chat": snapshot.models["chat"], "other": snapshot.models["chat"].model_copy(update=other or {})}
    gate.catalog.replace(replace(snapshot, models=models))
    return gate


def two_candidates(script, **parts):
    """The model `chat`, whose candidates `a` and `b` use the same key."""
    return gateway({"a": script, "b": []}, candidates={"b": {"provider": "a"}}, **parts)


async def ask(gate, model="chat", *, max_tokens=0, **options):
    return await gate.runner.run(Request(model, {"max_tokens": max_tokens}), **options)


async def settled():
    """Let every task come as far as it comes at this moment."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


class Runs:
    """Runs side by side; `ended` has each one's name, what it came to, and when, in that order."""

    def __init__(self, gate, tasks):
        self.ended = []
        self._gate = gate
        self._tasks = tasks
        self._began = anyio.current_time()

    async def start(self, name, model="chat", **options):
        """Begin one, and let it come as far as it comes at this moment."""
        self._tasks.start_soon(partial(self.one, name, model, **options))
        await settled()

    async def one(self, name, model="chat", **options):
        try:
            came_to = (await ask(self._gate, model, **options)).candidate
        except RunFailed as failed:
            came_to = failed.ending
        self.ended.append((name, came_to, anyio.current_time() - self._began))


# -- who shares them


async def test_the_candidates_of_a_model_share_the_limits_of_their_key():
    """A second candidate with the same key is no way around them."""
    gate = two_candidates([Slow(5)], providers={"a": ONE_AT_A_TIME})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("first")
        await runs.start("second")
    assert runs.ended == [("first", "a", 5), ("second", "a", 10)]


async def test_models_share_the_limits_of_a_key():
    """A run of one model waits for a run of another."""
    gate = two_models([Slow(5)], {"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("first", "chat")
        await runs.start("second", "other")
    assert runs.ended == [("first", "a", 5), ("second", "a", 10)]


@pytest.mark.parametrize(
    ("limit", "ended_at"), [({"requestsPerMinute": 1}, 60), ({"tokensPerMinute": 100}, 60), ({"concurrency": 1}, 5)]
)
async def test_each_kind_of_limit_is_shared(limit, ended_at):
    """Requests and tokens of the minute, and calls at once."""
    gate = two_models([Slow(5, answer(tokens=100)), answer()], limit, model={"queue": {"maxWaitSeconds": 90}})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("first", "chat", max_tokens=80)
        await runs.start("second", "other", max_tokens=50)
    assert runs.ended == [("first", "a", 5), ("second", "a", ended_at)]


async def test_another_providers_key_is_not_concerned():
    """A run goes on to the candidate whose key has room."""
    gate = gateway({"a": [Slow(5)], "b": [Slow(5)]}, providers={"a": ONE_AT_A_TIME, "b": ONE_AT_A_TIME})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.ask)
        await settled()
        record = (await gate.ask()).record
    assert did(record) == [("a", 0, "rate_limit", "next"), ("b", 1, "ok", None)]
    assert record.queued_seconds == 0


async def test_a_candidates_own_limit_is_not_shared():
    """The other candidate of the same key is called at once, as far as the key has room."""
    gate = two_candidates(
        [Slow(5), Slow(6), Slow(5)],
        overrides={"a": {"rateLimitPolicy": {"concurrency": 1}}},
        providers={"a": {"rate_limit": {"concurrency": 2}}},
    )
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        for name in ("first", "second", "third"):
            await runs.start(name)
    assert runs.ended == [("first", "a", 5), ("second", "b", 6), ("third", "a", 10)]


# -- what is taken and given back


async def test_a_run_takes_all_the_capacity_that_it_needs_or_none():
    """While the key has no room nothing of the candidate's own is held."""
    gate = two_candidates([Slow(5)], limits={"concurrency": 1}, providers={"a": ONE_AT_A_TIME})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("first", only=["b"])
        await runs.start("second", only=["a"])
        held = {status.id: [limit.in_flight for limit in status.limits] for status in gate.runner.statuses()}
    assert held == {"a": [0, 1], "b": [1, 1]}


async def test_tokens_of_a_key_are_settled_by_what_the_provider_counted():
    """On the candidate's own limit and on its key's, from one count."""
    gate = two_models([answer(tokens=30)], {"tokensPerMinute": 100}, limits={"tokensPerMinute": 100})
    await ask(gate, "chat", max_tokens=90)
    await ask(gate, "other", max_tokens=60)
    used = {status.model: [limit.tokens for limit in status.limits] for status in gate.runner.statuses()}
    assert used == {"chat": [30, 60], "other": [30, 60]}


async def test_a_stream_holds_its_keys_place_until_its_end():
    """And settles the key's tokens when it is complete."""
    gate = two_models([Streamed("a", 5.0, "b", tokens=30), None], {"concurrency": 1, "tokensPerMinute": 100})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        async with gate.runner.stream(Request("chat", {"max_tokens": 90})) as stream:
            await runs.start("waits", "other")
            async for _ in stream:
                pass
    assert runs.ended == [("waits", "a", 5)]
    assert [status.limits[0].tokens for status in gate.runner.statuses()] == [40, 40]


async def test_a_failed_call_gives_its_keys_place_back_before_the_next_candidate_is_called():
    """Whoever waits does not wait for the rest of somebody else's run."""
    gate = gateway({"a": [Slow(5, DOWN), Slow(1)], "b": [Slow(50)]}, providers={"a": ONE_AT_A_TIME})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("fails over")
        await runs.start("waits", only=["a"])
    assert runs.ended == [("waits", "a", 6), ("fails over", "b", 55)]


async def test_when_all_is_over_nothing_is_held():
    """Every lease of a candidate's and of a key's is back."""
    gate = two_models([Slow(1), Slow(1, DOWN), Slow(1)], {"concurrency": 2}, limits={"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        for number in range(4):
            await runs.start(number, ("chat", "other")[number % 2])
        assert gate.runner.held["leases"] == 4
    assert (gate.runner.held["leases"], gate.runner.held["waiting"]) == (0, 0)


# -- one line


async def test_models_that_share_a_key_are_served_first_in_first_out():
    """Whichever their model; each at the moment at which the one before it is done."""
    gate = two_models([Slow(5)], {"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        for name, model in ((1, "chat"), (2, "other"), (3, "chat"), (4, "other")):
            await runs.start(name, model)
    assert runs.ended == [(1, "a", 5), (2, "a", 10), (3, "a", 15), (4, "a", 20)]


async def test_each_model_has_a_queue_of_its_own_length():
    """`maxWaiting` counts the model's own runs, not those of others that wait for the same key."""
    gate = two_models(
        [Slow(5)], {"concurrency": 1}, other={"queue": Queue(max_waiting=2)}, model={"queue": {"maxWaiting": 1}}
    )
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        for name, model in ((1, "chat"), (2, "chat"), (3, "chat"), (4, "other"), (5, "other"), (6, "other")):
            await runs.start(name, model)
        assert runs.ended == [(3, "queue_full", 0), (6, "queue_full", 0)]
        assert [status.waiting for status in gate.runner.statuses()] == [1, 2]
    assert [name for name, came_to, _ in runs.ended if came_to == "a"] == [1, 2, 4, 5]


async def test_each_model_waits_for_its_own_time():
    """Whoever has waited long enough goes, and whoever is behind moves up."""
    gate = two_models([Slow(5)], {"concurrency": 1}, model={"queue": {"maxWaitSeconds": 3}}, other={"queue": Queue()})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        for name, model in ((1, "chat"), (2, "chat"), (3, "other")):
            await runs.start(name, model)
    assert runs.ended == [(2, "queue_timeout", 3), (1, "a", 5), (3, "a", 10)]


async def test_whoever_waits_for_one_candidate_does_not_hold_up_others_of_the_key():
    """The key's place goes to a run that can use it."""
    gate = two_candidates(
        [Slow(50), Slow(5), Slow(5), Slow(5)],
        limits={"concurrency": 1},
        providers={"a": {"rate_limit": {"concurrency": 2}}},
        model={"queue": {"maxWaitSeconds": 90}},
    )
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        for name, candidate in (("long", "a"), ("short", "b"), ("waits for a", "a"), ("waits for b", "b")):
            await runs.start(name, only=[candidate])
    assert runs.ended == [("short", "b", 5), ("waits for b", "b", 10), ("long", "a", 50), ("waits for a", "a", 55)]


async def test_a_run_that_needs_little_does_not_overtake_one_that_needs_much():
    """The rest of the key's minute is kept for whoever waits for more than that, of whichever model it is."""
    gate = two_models([answer(tokens=60)], {"tokensPerMinute": 100}, model={"queue": {"maxWaitSeconds": 90}})
    await ask(gate)
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("much", "chat", max_tokens=80)
        await anyio.sleep(10)
        await runs.start("little", "other", max_tokens=5)
    assert {name: ended_at for name, _, ended_at in runs.ended} == {"much": 60, "little": 60}


async def test_a_run_that_comes_just_when_the_minute_is_over_does_not_overtake():
    """Whoever waits is served first; the late one waits for the next minute."""
    gate = two_models([], {"requestsPerMinute": 1}, model={"queue": {"maxWaitSeconds": 90}})
    await ask(gate)
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)

        async def late():
            await anyio.sleep(60)
            await runs.one("late", "other")

        tasks.start_soon(late)
        await settled()
        await runs.start("waits", "chat")
    assert runs.ended == [("waits", "a", 60), ("late", "a", 120)]


# -- cancelled


async def test_whoever_waits_behind_a_cancelled_run_of_another_model_moves_up():
    """A place in the line that is given up holds up nobody."""
    gate = two_models([Slow(5)], {"concurrency": 1})
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        await runs.start("first", "chat")
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(runs.one, "leaves", "other")
            await settled()
            await runs.start("behind", "chat")
            await anyio.sleep(2)
            leaving.cancel_scope.cancel()
    assert runs.ended == [("first", "a", 5), ("behind", "a", 10)]


async def test_nothing_is_kept_for_a_cancelled_run():
    """Whoever needs what was kept for it is called at that moment."""
    gate = two_models([answer(tokens=60)], {"tokensPerMinute": 100}, model={"queue": {"maxWaitSeconds": 90}})
    await ask(gate)
    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(partial(runs.one, "much", "chat", max_tokens=80))
            await settled()
            await runs.start("little", "other", max_tokens=5)
            await anyio.sleep(2)
            leaving.cancel_scope.cancel()
    assert runs.ended == [("little", "a", 2)]


async def test_a_run_that_is_cancelled_just_when_it_is_handed_capacity_hands_it_on():
    """The next is called at that moment, and the request that was not made is not counted."""
    gate = two_models([], {"concurrency": 1, "requestsPerMinute": 2})
    leaves = anyio.CancelScope()

    async def leaving():
        with leaves:
            await runs.one("leaves", "other")

    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        async with gate.runner.stream(Request("chat", {})):
            tasks.start_soon(leaving)
            await settled()
            await runs.start("behind", "chat")
            leaves.cancel()
        # It was still in the line, and so it was served: it hears of both at once.
        assert gate.runner.held["waiting"] == 1
    assert runs.ended == [("behind", "a", 0)]
    assert gate.calls() == {"a": 2}


async def test_a_run_that_is_cancelled_just_after_it_was_handed_capacity_gives_it_back():
    """Its call is cut as it begins, and the next is called at that moment."""
    gate = two_models([None, Slow(5), Slow(2)], {"concurrency": 1})
    leaves = anyio.CancelScope()

    async def leaving():
        with leaves:
            await runs.one("leaves", "other")

    async with anyio.create_task_group() as tasks:
        runs = Runs(gate, tasks)
        async with gate.runner.stream(Request("chat", {})):
            tasks.start_soon(leaving)
            await settled()
            await runs.start("behind", "chat")
        leaves.cancel()
    assert runs.ended == [("behind", "a", 2)]
    assert gate.calls() == {"a": 3}
