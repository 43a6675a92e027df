"""The server on real sockets, between callers that misbehave and providers that fail."""

import asyncio
import json
import signal
import socket

import pytest

from standby.demo.faults import (
    Answer,
    Close,
    FaultServer,
    Hang,
    Raw,
    Reset,
    chat_answer,
    error_answer,
    refused_port,
)
from standby.proxy import bound_socket, run_server
from tests.proxy.listening import CHAT, HELLO, PATIENCE_SECONDS, answer_of, document, request, served, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Whatever the machine says, everything here is on loopback."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


# -- providers that fail


BROKEN = {
    "reset": (Reset(), "network"),
    "reset in the head": (Reset(after_bytes=30, of=HELLO), "network"),
    "closed": (Close(), "network"),
    "closed in the body": (Close(after_bytes=len(HELLO.head) + 10, of=HELLO), "network;status=200"),
    "not HTTP": (Raw(b"220 mail.example ESMTP\r\n"), "network"),
    "not JSON": (Answer(body="<html>"), "client_error;status=200"),
    "down": (error_answer(503, "Down."), "provider_5xx;status=503"),
    "rate limit": (error_answer(429, "Slow down."), "rate_limit;status=429"),
    "error in a success": (error_answer(200, "Down.", code="server_error"), "provider_5xx;status=200"),
}


async def failed_over(broken, **parts):
    """What the trail says of a provider that is broken, where another one answers."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        FaultServer(broken) as primary,
        FaultServer(HELLO) as backup,
        serving(document({"primary": primary.url, "backup": backup.url}, **parts)) as gateway,
    ):
        response = await gateway.chat()
    assert (response.status_code, response.headers["x-standby-candidate"]) == (200, "backup")
    assert response.content == HELLO.wire.removeprefix(HELLO.head)
    assert backup.received[0].body == CHAT.replace(b'"chat"', b'"m"')
    first, second = response.headers["x-standby-trail"].split(", ")
    assert second == "backup;n=1;outcome=ok"
    return first


@pytest.mark.parametrize("case", BROKEN)
async def test_provider_that_fails(case):
    """The next candidate answers, byte by byte, and the trail tells of the first."""
    broken, outcome = BROKEN[case]
    told = f"primary;n=1;outcome={outcome};decision=next;rule=client_retryable"
    assert await failed_over(broken) == told


@pytest.mark.parametrize("hang", [Hang(), Hang(after_bytes=30, of=HELLO)], ids=["at once", "in the head"])
async def test_provider_that_hangs(hang):
    """So it is with a provider that says nothing until the clock of the try has run out."""
    told = await failed_over(hang, first={"timeouts": {"attemptSeconds": 0.2}})
    assert told == "primary;n=1;outcome=timeout;decision=next;rule=client_retryable"


async def test_provider_that_refuses_connections():
    """So does a port at which nobody listens."""
    with refused_port() as port:
        async with FaultServer(HELLO) as backup:
            raw = document({"primary": f"http://127.0.0.1:{port}", "backup": backup.url})
            async with serving(raw) as gateway:
                response = await gateway.chat()
    assert (response.status_code, response.headers["x-standby-candidate"]) == (200, "backup")
    assert response.headers["x-standby-trail"].startswith("primary;n=1;outcome=network;decision=next")


async def test_answer_is_the_providers_bytes():
    """White space, order and numbers are as the provider wrote them, also where it compressed them."""
    content = b'{ "choices" : [{"message": {"content": "\\u00e9"}, "finish_reason": "stop"}],\n "n": 1.0 }'
    async with served([Answer(body=content), Answer(body=content, gzip=True, chunked=True)]) as gateway:
        for _ in range(2):
            response = await gateway.chat()
            assert (response.status_code, response.content) == (200, content)
            assert "content-encoding" not in response.headers


async def test_deadline():
    """At the caller's deadline the answer is 504, and the provider's call is over."""
    async with served(Hang()) as gateway:
        response = await gateway.chat(**{"x-standby-timeout": "0.2"})
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        await gateway.provider.until_open_connections(0)


# -- callers that misbehave


async def test_caller_goes_away():
    """The provider's connection is closed, the capacity is free, and the next caller is answered."""
    async with served([Hang(), HELLO]) as gateway:
        async with gateway.connected() as (_, writer):
            writer.write(request())
            await gateway.provider.until_requests(1)
            assert gateway.provider.open_connections == 1
        await gateway.provider.until_open_connections(0)
        assert (await gateway.chat()).status_code == 200
        records = await gateway.runner.history.newest()
    assert [record["ending"] for record in records] == ["answered", "abandoned"]


async def test_caller_resets_the_connection():
    """So it is where the caller does not say goodbye."""
    async with served([Hang(), HELLO]) as gateway:
        async with gateway.connected() as (_, writer):
            writer.write(request())
            await gateway.provider.until_requests(1)
            linger = b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        await gateway.provider.until_open_connections(0)
        assert (await gateway.chat()).status_code == 200


async def test_many_callers_go_away():
    """However many leave at once, nothing of theirs is left."""
    count = 30
    policy = {"rateLimitPolicy": {"concurrency": count}}
    script = [Hang()] * count + [HELLO]
    async with served(script, policy=policy) as gateway:
        callers = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(count)]
        for _, writer in callers:
            writer.write(request())
        await gateway.provider.until_requests(count)
        for _, writer in callers:
            writer.close()
        await gateway.provider.until_open_connections(0)
        responses = await asyncio.gather(*(gateway.chat() for _ in range(count)))
        [status] = gateway.runner.statuses()
    assert [response.status_code for response in responses] == [200] * count
    assert (status.status, status.failures_in_row, status.limits[0].in_flight) == ("usable", 0, 0)


async def test_caller_leaves_in_the_middle_of_its_body():
    """Half a request is sent to nobody."""
    async with served(HELLO) as gateway:
        async with gateway.connected() as (_, writer):
            writer.write(request()[:-10])
            await writer.drain()
        assert (await gateway.chat()).status_code == 200
        assert gateway.provider.requests == 1


async def test_connection_is_kept():
    """One connection serves one request after the other, errors among them."""
    async with served(HELLO) as gateway, gateway.connected() as (reader, writer):
        statuses = []
        for content in (CHAT, b"{", b'{"model": "ghost"}', CHAT):
            writer.write(request(content))
            statuses.append((await answer_of(reader))[0])
    assert statuses == [200, 400, 404, 200]


async def test_body_is_left_alone():
    """Nothing is changed in a body, whatever it looks like and however it comes."""
    body = b"one\r\nupgrade: two\r\n\r\nthree\r\nupgrade: four"
    part = asyncio.Event()
    said = asyncio.Queue()

    async def echo(scope, receive, send):
        received, more = b"", True
        while more:
            message = await receive()
            received, more = received + message["body"], message["more_body"]
            part.set()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": received})

    with bound_socket("127.0.0.1", 0) as listening:
        task = asyncio.create_task(run_server(echo, listening, said.put_nowait))
        await said.get()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(request(body)[: -len(body) + 3])
        await part.wait()
        writer.write(body[3:])
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await answer_of(reader) == (200, body)
        writer.close()
        await writer.wait_closed()
        signal.raise_signal(signal.SIGTERM)
        await task


async def test_pipelined_requests():
    """Requests that were sent at once are answered in their order."""
    answers = [chat_answer("one"), chat_answer("two"), chat_answer("three")]
    async with served(answers) as gateway, gateway.connected() as (reader, writer):
        writer.write(request() * 3)
        said = [await answer_of(reader) for _ in range(3)]
    assert [status for status, _ in said] == [200] * 3
    assert [word for (_, body), word in zip(said, (b"one", b"two", b"three"), strict=True) if word in body] == [
        b"one",
        b"two",
        b"three",
    ]


async def test_caller_of_two_requests_goes_away():
    """Both are over: the one that is under way, and the one that has not begun."""
    async with served([Hang(), HELLO]) as gateway:
        async with gateway.connected() as (_, writer):
            writer.write(request() * 2)
            await gateway.provider.until_requests(1)
        await gateway.provider.until_open_connections(0)
        assert (await gateway.chat()).status_code == 200
        assert gateway.provider.requests == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HELO example.com\r\n\r\n",
        b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx-long: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    ],
    ids=["tls", "smtp", "connect", "length", "smuggling", "chunk", "long header", "long path", "many headers"],
)
async def test_what_is_not_http(garbage):
    """400 or 431, as errors are, and the end of the connection; nobody else is concerned, and nothing is sent anywhere."""
    async with served(HELLO) as gateway:
        async with gateway.connected() as (reader, writer):
            writer.write(garbage)
            answered = await reader.read()
        head, _, content = answered.partition(b"\r\n\r\n")
        status, code = (431, "head_too_large") if len(garbage) > 65_536 else (400, "invalid_http")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close" in head
        assert json.loads(content)["error"]["code"] == code
        assert gateway.provider.requests == 0
        assert (await gateway.chat()).status_code == 200


async def test_head_that_never_ends():
    """A head is not read for ever."""
    async with served(HELLO) as gateway:
        async with gateway.connected() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nx: ")

            async def go_on():
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()

            endless = asyncio.create_task(go_on())
            try:
                answered = await reader.read()
            except ConnectionError:
                answered = b"HTTP/1.1 400 "  # lost, where the connection was closed under what was still sent
            endless.cancel()
            await asyncio.gather(endless, return_exceptions=True)
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert (await gateway.chat()).status_code == 200


async def test_large_header_is_fine():
    """What is large and not too large passes."""
    async with served(HELLO) as gateway:
        assert (await gateway.chat(cookie="x" * 30_000)).status_code == 200


async def test_body_that_is_too_large():
    """413 both for a length that is told and for one that is not; the connection can still be used."""
    large = b'{"model": "chat", "x": "' + b"x" * 100_000 + b'"}'
    chunked = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large)
    async with served(HELLO, server={"maxBodyBytes": 1000}) as gateway:
        async with gateway.connected() as (reader, writer):
            statuses = []
            for wire in (request(large), chunked, request()):
                writer.write(wire)
                statuses.append((await answer_of(reader))[0])
        assert statuses == [413, 413, 200]
        assert gateway.provider.requests == 1


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_caller_that_offers_another_protocol(upgrade):
    """There is none: the request is read to its end and answered, and so is the next."""
    headers = ["Connection: Upgrade", f"Upgrade: {upgrade}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]
    async with served(HELLO) as gateway, gateway.connected() as (reader, writer):
        for _ in range(2):
            writer.write(request(CHAT, *headers))
            assert (await answer_of(reader))[0] == 200


async def test_caller_that_waits_to_be_told_to_go_on():
    """`Expect: 100-continue` is told to go on, and one whose body would be too large is not."""
    async with served(HELLO, server={"maxBodyBytes": 1000}) as gateway, gateway.connected() as (reader, writer):
        head, _, body = request(CHAT, "Expect: 100-continue").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await answer_of(reader))[0] == 200
        writer.write(request(b"x" * 1001, "Expect: 100-continue").removesuffix(b"x" * 1001))
        assert (await answer_of(reader))[0] == 413
