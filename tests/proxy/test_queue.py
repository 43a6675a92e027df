"""The queue for local capacity, seen from outside: whose key goes first, what was waited, and what operators see."""

from dataclasses import replace
from functools import partial

import anyio
import pytest

from standby.runner.testing import Slow, answer
from standby.store import RateLimitPolicy
from tests.proxy.conftest import error_of, refused, serving

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"concurrency": 1}
KEYS = {
    "keys": [
        {"name": "people", "key": "sk-people", "priority": "high"},
        {"name": "app", "key": "sk-app"},
        {"name": "batch", "key": "sk-batch", "priority": "low"},
    ]
}


def of(name):
    return {"authorization": f"Bearer sk-{name}"}


def limit_the_key(proxy, provider, **policy):
    """What all candidates of ``provider`` may use together."""
    catalog = proxy.runner.catalog
    snapshot = catalog.snapshot()
    limited = snapshot.providers[provider].model_copy(update={"rate_limit": RateLimitPolicy.model_validate(policy)})
    catalog.replace(replace(snapshot, providers={**snapshot.providers, provider: limited}))


async def in_turn(proxy, tasks, *requests):
    """Send them one after the other, each when the run of the one before it waits, for its call or in the queue."""
    for request in requests:
        runs = proxy.runner.held["runs"]
        tasks.start_soon(request)
        while proxy.runner.held["runs"] == runs:
            await anyio.lowlevel.checkpoint()


async def told_of(proxy):
    """What the admin API tells of the limits and the queue of every candidate."""
    listed = (await proxy.get("/admin/candidates", authorization="Bearer sk-admin")).json()["candidates"]
    return {told["key"]: (told["limits"], told["waiting"], told["told"][1:]) for told in listed}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_callers_key_has_a_class(stream):
    """Whose key is `high` goes first, whose is `low` last; a key is `normal` where nothing is said."""
    order = []
    async with serving({"primary": [Slow(5)]}, limits=ONE_AT_A_TIME, server=KEYS) as proxy:

        async def ask(name):
            assert (await proxy.chat(of(name), stream=stream)).status_code == 200
            order.append(name)

        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, *(partial(ask, name) for name in ("app", "batch", "app", "people")))
    assert order == ["app", "people", "app", "batch"]


async def test_the_answer_says_what_was_waited():
    """`x-standby-queued-ms`: the wait for local capacity, 0 where there was none."""
    queued = {}
    async with serving({"primary": [Slow(2.5)]}, limits=ONE_AT_A_TIME, server=KEYS) as proxy:

        async def ask(name):
            queued[name] = (await proxy.chat(of(name))).headers["x-standby-queued-ms"]

        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, *(partial(ask, name) for name in ("app", "batch", "people")))
    assert queued == {"app": "0", "people": "2500", "batch": "5000"}


async def test_a_stream_says_what_was_waited():
    """Its headers are sent when it has content, so the wait is known by then."""
    async with serving({"primary": [Slow(4)]}, limits=ONE_AT_A_TIME) as proxy:
        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, proxy.chat)
            response = await proxy.chat(stream=True)
    assert (response.status_code, response.headers["x-standby-queued-ms"]) == (200, "4000")


async def test_models_that_share_a_key_wait_for_each_other():
    """A request for one model is answered when the one for the other is."""
    async with serving({"primary": [Slow(3)]}, more_models=["other"]) as proxy:
        limit_the_key(proxy, "primary", **ONE_AT_A_TIME)
        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, proxy.chat)
            response = await proxy.chat(model="other")
    assert (response.status_code, response.headers["x-standby-queued-ms"]) == (200, "3000")


async def test_a_callers_own_limit_has_no_queue():
    """A caller that is at its own limit is told at once, and waits for nobody."""
    keys = [{"name": "app", "key": "sk-app", "priority": "high", "rate_limit": ONE_AT_A_TIME}]
    async with serving({"primary": [Slow(5)]}, server={"keys": keys}) as proxy:
        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, partial(proxy.chat, of("app")))
            began = anyio.current_time()
            response = await proxy.chat(of("app"))
            assert anyio.current_time() == began
    assert refused(response) == (429, "key_rate_limit_exceeded", None)
    assert error_of(response)["message"].startswith("This key is at its own rate limit.")


async def test_a_callers_place_is_taken_while_its_request_waits():
    """A request that waits for local capacity is one of its key's calls at once."""
    keys = [{"name": "app", "key": "sk-app", "rate_limit": {"concurrency": 2}}, {"name": "other", "key": "sk-other"}]
    async with serving({"primary": [Slow(5)]}, limits=ONE_AT_A_TIME, server={"keys": keys}) as proxy:
        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, *(partial(proxy.chat, of(name)) for name in ("other", "app", "app")))
            response = await proxy.chat(of("app"))
        assert (await proxy.chat(of("app"))).status_code == 200
    assert refused(response) == (429, "key_rate_limit_exceeded", None)


# -- what operators see


async def test_limits():
    """A candidate's own and its key's, each with what is used of it; what is not limited is null."""
    limits = {"concurrency": 4, "requestsPerMinute": 60}
    async with serving({"primary": [Slow(5, answer(tokens=30))], "backup": []}, limits=limits) as proxy:
        limit_the_key(proxy, "primary", concurrency=9, tokensPerMinute=1000)
        await proxy.chat()
        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, partial(proxy.chat, max_tokens=500))
            of_own, of_key = (await told_of(proxy))["chat/primary"][0]
        of_backup = (await told_of(proxy))["chat/backup"][0]
    estimated = of_key.pop("tokens") - 30
    assert 500 < estimated < 600
    assert of_own == {
        "of": "candidate",
        "credential": "",
        "in_flight": 1,
        "concurrency": 4,
        "requests": 2,
        "requests_per_minute": 60,
        "tokens": 0,
        "tokens_per_minute": None,
        "shared": False,
    }
    assert of_key == {
        "of": "key",
        "credential": "primary",
        "in_flight": 1,
        "concurrency": 9,
        "requests": 0,
        "requests_per_minute": None,
        "tokens_per_minute": 1000,
        "shared": False,
    }
    assert [limit["of"] for limit in of_backup] == ["candidate"]


async def test_limits_in_words():
    """Each limit in a sentence, with what is used of what it allows."""
    limits = {"concurrency": 4, "requestsPerMinute": 60}
    async with serving({"primary": [answer(tokens=30)]}, limits=limits) as proxy:
        limit_the_key(proxy, "primary", concurrency=9, tokensPerMinute=1000)
        await proxy.chat()
        said = (await told_of(proxy))["chat/primary"][2]
        await anyio.sleep(60)
        said_later = (await told_of(proxy))["chat/primary"][2]
    assert said == [
        "Its own limits: 0 of 4 calls under way, 1 of 60 requests in the last minute.",
        "The limits of its key: 0 of 9 calls under way, 30 of 1000 tokens in the last minute.",
    ]
    assert said_later == [
        "Its own limits: 0 of 4 calls under way, 0 of 60 requests in the last minute.",
        "The limits of its key: 0 of 9 calls under way, 0 of 1000 tokens in the last minute.",
    ]


async def test_waiting():
    """How many runs of the candidate's model wait, in a number and in words; those of other models are not counted."""
    options = {"more_models": ["other"], "model": {"queue": {"maxWaiting": 7}}}
    async with serving({"primary": [Slow(5)]}, **options) as proxy:
        limit_the_key(proxy, "primary", **ONE_AT_A_TIME)
        async with anyio.create_task_group() as tasks:
            await in_turn(proxy, tasks, *[proxy.chat] * 3, partial(proxy.chat, model="other"))
            told = await told_of(proxy)
        told_afterwards = await told_of(proxy)
    assert {name: waiting for name, (_, waiting, _) in told.items()} == {"chat/primary": 2, "other/primary": 1}
    assert told["chat/primary"][2] == [
        "The limits of its key: 1 of 1 calls under way.",
        "Runs of chat that wait for local capacity: 2 of at most 7.",
    ]
    assert told_afterwards["chat/primary"][1:] == (0, ["The limits of its key: 0 of 1 calls under way."])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", [{"requestsPerMinute": 1}, {"tokensPerMinute": 100}])
async def test_a_request_for_which_nobody_was_called_counts_for_nothing(limit, stream):
    """Turned away from a full queue, it used nothing of its key's minute."""
    keys = [{"name": "app", "key": "sk-app", "rate_limit": limit}, {"name": "other", "key": "sk-other"}]
    options = {"limits": {"concurrency": 1}, "model": {"queue": {"maxWaiting": 0}}, "server": {"keys": keys}}
    async with serving({"primary": [Slow(5)]}, **options) as proxy:
        app = {"authorization": "Bearer sk-app"}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy.chat, {"authorization": "Bearer sk-other"})
            while not proxy.clients["primary"].in_flight:
                await anyio.lowlevel.checkpoint()
            assert (await proxy.chat(app, stream=stream, max_tokens=90)).json()["error"]["code"] == "queue_full"
        assert (await proxy.chat(app, stream=stream, max_tokens=90)).status_code == 200
