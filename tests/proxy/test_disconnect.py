"""A caller that goes away: its run is cancelled, and gives everything back."""

import anyio
import orjson
import pytest

from standby.proxy import Tools
from standby.runner.testing import Fail, Slow, answer
from tests.proxy.conftest import CHAT, serving
from tests.proxy.exchange import Exchange

pytestmark = pytest.mark.anyio

BODY = orjson.dumps(CHAT)


async def left_while_in_flight(proxy, exchange):
    """Run the exchange; the caller leaves as soon as the provider is called."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.run, proxy.app)
        while not proxy.clients["primary"].in_flight:
            await anyio.lowlevel.checkpoint()
        exchange.leave()


async def test_call_is_cancelled():
    """The provider's call ends with the caller, long before it would have."""
    exchange = Exchange(BODY)
    async with serving({"primary": [Slow(100)], "backup": []}) as proxy:
        began = anyio.current_time()
        await left_while_in_flight(proxy, exchange)
        assert anyio.current_time() == began
        assert proxy.clients["primary"].in_flight == 0
    assert proxy.calls() == {"primary": 1, "backup": 0}


async def test_nobody_is_answered():
    """What is sent to a closed connection tells of no run and no error."""
    exchange = Exchange(BODY)
    async with serving({"primary": [Slow(100)]}) as proxy:
        await left_while_in_flight(proxy, exchange)
    assert exchange.status == 499
    assert exchange.sent[1:] == [{"type": "http.response.body", "body": b""}]


async def test_capacity_is_given_back():
    """The candidate's capacity and the key's are free again at once, and nobody's health has changed."""
    key = {"name": "app", "key": "key-of-the-app", "rate_limit": {"concurrency": 1}}
    headers = [(b"authorization", b"Bearer key-of-the-app")]
    options = {"limits": {"concurrency": 1}, "server": {"keys": [key]}}
    async with serving({"primary": [Slow(100), answer()]}, **options) as proxy:
        await left_while_in_flight(proxy, Exchange(BODY, headers=headers))
        response = await proxy.chat({"authorization": "Bearer key-of-the-app"})
        status = (await proxy.get("/admin/candidates")).json()["candidates"][0]
    assert response.status_code == 200
    assert response.headers["x-standby-queued-ms"] == "0"
    assert (status["status"], status["failures_in_row"], status["limits"][0]["in_flight"]) == ("usable", 0, 0)


async def test_run_is_recorded_as_abandoned():
    """The operator can read that the caller left, and during which try."""
    async with serving({"primary": [Slow(100)]}) as proxy:
        await left_while_in_flight(proxy, Exchange(BODY, headers=[(b"x-standby-run-id", b"mine")]))
        record = (await proxy.get("/admin/runs/mine")).json()
    assert record["ending"] == "abandoned"
    assert [tried["outcome"] for tried in record["tries"]] == ["abandoned"]


async def test_left_during_a_backoff():
    """A run that waits for its next try is not tried again."""
    broken = Fail("server_error", status=500, retryable=True)
    backoff = {"initialSeconds": 30, "maxSeconds": 30, "jitter": "none"}
    exchange = Exchange(BODY)
    async with serving({"primary": [broken, answer()]}, retry={"maxAttempts": 2, "backoff": backoff}) as proxy:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            await anyio.sleep(10)
            assert proxy.calls() == {"primary": 1}
            exchange.leave()
        assert anyio.current_time() < 20
    assert proxy.calls() == {"primary": 1}


async def test_left_in_the_queue():
    """A run that waits for capacity leaves the queue, and whoever is behind it moves up."""
    async with serving({"primary": [Slow(10), answer()]}, limits={"concurrency": 1}) as proxy:
        leaving = Exchange(BODY, headers=[(b"x-standby-run-id", b"leaving")])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy.chat)
            await anyio.sleep(1)
            tasks.start_soon(leaving.run, proxy.app)
            await anyio.sleep(1)
            leaving.leave()
            response = await proxy.chat()
        record = (await proxy.get("/admin/runs/leaving")).json()
    assert response.headers["x-standby-queued-ms"] == "8000"
    assert (record["ending"], record["attempts"]) == ("abandoned", 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/admin/explain", "/admin/candidates/primary/cool"])
async def test_left_in_the_middle_of_the_body(path):
    """Half a body is not a request: nothing is run, and nothing is said."""
    exchange = Exchange(BODY[:10], path=path, complete=False)
    exchange.leave()
    async with serving({"primary": []}, tools=Tools(explain=dict)) as proxy:
        await exchange.run(proxy.app)
        assert (await proxy.get("/admin/runs")).json() == {"runs": []}
        assert (await proxy.get("/admin/candidates")).json()["candidates"][0]["status"] == "usable"
    assert exchange.status == 499
    assert proxy.calls() == {"primary": 0}


async def test_server_stops():
    """A request whose task is cancelled by the server gives everything back, and is no defect."""
    exchange = Exchange(BODY)
    async with serving({"primary": [Slow(100), answer()]}, limits={"concurrency": 1}) as proxy:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            while not proxy.clients["primary"].in_flight:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert (await proxy.chat()).headers["x-standby-queued-ms"] == "0"
    assert exchange.sent == []
