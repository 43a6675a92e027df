"""`stream: true`: headers at the first content, the events as they come, and an end that says how it ended."""

import anyio
import orjson
import pytest

from standby.runner.testing import Fail, Streamed
from tests.proxy.conftest import CHAT, refused, serving
from tests.proxy.exchange import Exchange

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)
CUT = Fail("stream_read_error", "cut", status=200, retryable=True, work="billed")
BODY = orjson.dumps({**CHAT, "stream": True})
DONE = b"data: [DONE]\n\n"


def events(content):
    """The events of a stream, decoded, but for the one that says that it is over."""
    lines = [line.removeprefix(b"data: ") for line in content.split(b"\n\n") if line]
    return [orjson.loads(line) for line in lines if line != b"[DONE]"]


def text(content):
    return "".join(event["choices"][0]["delta"]["content"] for event in events(content) if "choices" in event)


async def test_a_stream_is_sent_as_server_sent_events():
    """With the headers of every answer, and ended by `[DONE]`."""
    async with serving({"primary": [Streamed("", "Hel", "lo")]}) as proxy:
        response = await proxy.chat(stream=True)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (text(response.content), response.content.endswith(DONE)) == ("Hello", True)
    assert response.headers["x-standby-candidate"] == "primary"
    assert response.headers["x-standby-trail"] == "primary;n=1;outcome=ok"


async def test_what_fails_before_the_first_content_shows_in_the_trail_only():
    """The caller has the backup's stream, whole."""
    async with serving({"primary": [Streamed("", CUT)], "backup": [Streamed("hello")]}) as proxy:
        response = await proxy.chat(stream=True)
    assert (response.status_code, text(response.content)) == (200, "hello")
    assert response.headers["x-standby-failovers"] == "1"
    assert response.headers["x-standby-trail"].startswith("primary;n=1;outcome=stream_error;status=200;decision=next")


async def test_when_nobody_has_content_the_answer_is_an_error():
    """As for a plain request, with its status and its headers."""
    async with serving({"primary": [DOWN], "backup": [Streamed(CUT)]}) as proxy:
        response = await proxy.chat(stream=True)
    assert refused(response) == (502, "all_candidates_failed", None)
    assert response.headers["x-standby-attempts"] == "2"


async def test_what_is_wrong_with_a_request_is_an_error_before_any_stream():
    """Unknown candidates, for example, are found when the run begins."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.chat({"x-standby-candidates": "ghost"}, stream=True)
    assert refused(response) == (400, "unknown_candidate", "x-standby-candidates")


async def test_a_break_ends_the_stream_with_one_error_event():
    """And without `[DONE]`: it is never ended as if it were complete."""
    async with serving({"primary": [Streamed("Hel", "lo", CUT)], "backup": []}) as proxy:
        response = await proxy.chat(stream=True)
    assert text(response.content) == "Hello"
    assert b"[DONE]" not in response.content
    error = events(response.content)[-1]["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "stream_interrupted")
    assert error["message"].endswith(f"(run {response.headers['x-standby-run-id']})")
    assert proxy.calls() == {"primary": 1, "backup": 0}


async def test_each_event_is_sent_as_it_comes():
    """No later than the next one is waited for."""
    async with serving({"primary": [Streamed("a", 5, "b")]}) as proxy:
        exchange = Exchange(BODY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            await anyio.sleep(1)
            assert [message["type"] for message in exchange.sent] == ["http.response.start", "http.response.body"]
            await anyio.sleep(5)
            exchange.leave()
    assert [message.get("more_body") for message in exchange.sent] == [None, True, True, False]


async def test_headers_wait_for_the_first_content():
    """Until then the answer may still become another one."""
    async with serving({"primary": [Streamed("", 5, "a")]}) as proxy:
        exchange = Exchange(BODY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            await anyio.sleep(1)
            assert exchange.sent == []
            await anyio.sleep(5)
            exchange.leave()
    assert exchange.status == 200


@pytest.mark.parametrize("after_seconds", [1, 3])
async def test_a_caller_that_leaves_cancels_the_call(after_seconds):
    """Before the first content and after it; everything is given back, and the record says so."""
    script = {"primary": [Streamed("", 2, "a", 100)]}
    async with serving(script, limits={"concurrency": 1}) as proxy:
        exchange = Exchange(BODY, headers=[(b"x-standby-run-id", b"gone")])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            await anyio.sleep(after_seconds)
            exchange.leave()
        assert proxy.clients["primary"].in_flight == 0
        assert not any(proxy.runner.held.values())
        assert (await proxy.runner.history.get("gone"))["ending"] == "abandoned"


async def test_a_slow_caller_holds_up_the_provider():
    """The next event is read when the one before it is sent: nothing piles up here."""
    read = 0

    def endless(_):
        return Streamed(*["x"] * 1000)

    async with serving({"primary": endless}) as proxy:
        exchange = Exchange(BODY)
        gate = anyio.Event()
        send = exchange._send

        async def slow(message):
            nonlocal read
            read += 1
            await send(message)
            if read == 3:
                await gate.wait()

        exchange._send = slow
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            await anyio.sleep(10)
            assert len(exchange.sent) == 3
            gate.set()
            await anyio.sleep(1)
            exchange.leave()
    assert exchange.sent[-1]["body"] == DONE


async def test_a_stream_counts_for_the_callers_own_limit():
    """It is one of the key's concurrent calls until it is over, and its tokens are asked for and settled."""
    key = {"name": "app", "key": "sk-app", "rate_limit": {"concurrency": 1, "tokensPerMinute": 1000}}
    async with serving({"primary": [Streamed("a", 5, "b")]}, server={"keys": [key]}) as proxy:
        bearer = {"authorization": "Bearer sk-app"}
        exchange = Exchange(BODY, headers=[(b"authorization", b"Bearer sk-app")])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, proxy.app)
            await anyio.sleep(1)
            assert refused(await proxy.chat(bearer, stream=True)) == (429, "key_rate_limit_exceeded", None)
            await anyio.sleep(5)
            exchange.leave()
        assert (await proxy.chat(bearer, stream=True)).status_code == 200
        assert all(call.count_tokens for call in proxy.clients["primary"].calls)
