"""The fault server does what its script says, on the wire."""

import json

import anyio
import pytest

from standby.demo.faults import (
    Answer,
    Close,
    FaultServer,
    Hang,
    Raw,
    Reset,
    Send,
    Stream,
    Wait,
    chat_answer,
    chat_events,
    chat_stream,
    error_answer,
    refused_port,
)

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def exchange(server, request=GET, *, until=None):
    """What the server sends, to the end of the connection or to ``until``."""
    received = b""
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(request)
        try:
            while until is None or until not in received:
                received += await stream.receive()
        except anyio.EndOfStream:
            pass
        return received


async def test_script__sequence():
    """One behaviour for each request; the last is repeated."""
    async with FaultServer([Answer(500), Answer(200, headers={"connection": "close"})]) as server:
        heads = [await exchange(server, until=b"\r\n\r\n") for _ in range(3)]
    assert [head[9:12] for head in heads] == [b"500", b"200", b"200"]


async def test_script__function():
    """A function sees the request's number, method, path, headers and body."""
    seen = []

    def script(number, method, path, headers, body):
        seen.append((number, method, path, headers["x-a"], body))
        return Answer()

    async with FaultServer(script) as server:
        request = b"POST /p?q HTTP/1.1\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"
        await exchange(server, request, until=b"\r\n\r\n")
    assert seen == [(1, "POST", "/p?q", "b", b"hello")]


async def test_script__that_fails():
    """A script that fails is answered with 500, and raised when the server ends."""

    def script(number, method, path, headers, body):
        raise ValueError("the script")

    with pytest.raises(ValueError, match="the script"):
        async with FaultServer(script) as server:
            assert b" 500 " in await exchange(server, until=b"}}")


async def test_pieces():
    """A request may come in any pieces, and two at once."""
    async with FaultServer(Answer(204)) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        for byte in GET + GET[:10]:
            await stream.send(bytes([byte]))
        await server.until_requests(1)
        await stream.send(GET[10:] + GET + GET)
        await server.until_requests(4)
        assert (server.requests, server.connections, server.open_connections) == (4, 1, 1)


async def test_answer():
    """An answer is correct HTTP."""
    content = await _once(Answer(201, {"a": "é"}, {"X-A": "1"}))
    head, _, body = content.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"HTTP/1.1 201 Created"
    assert set(head.splitlines()[1:]) == {
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"x-a: 1",
    }
    assert json.loads(body) == {"a": "é"}


async def test_answer__chunked():
    """In chunks, if it is wanted."""
    content = await _once(Answer(200, "x" * 1500, chunked=True))
    assert content.endswith(b"\r\n\r\n400\r\n" + b"x" * 1024 + b"\r\n1dc\r\n" + b"x" * 476 + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("after_bytes", [0, 1, 20])
async def test_close(after_bytes):
    """Exactly so many bytes, then the end."""
    assert await _once(Close(after_bytes, Answer())) == Answer().wire[:after_bytes]


async def test_reset():
    """A reset is no orderly end."""
    async with FaultServer(Reset(0)) as server:
        with pytest.raises(anyio.BrokenResourceError):
            await exchange(server)


async def test_hang():
    """Exactly so many bytes, then nothing, until the other side leaves."""
    async with FaultServer(Hang(20, Answer())) as server:
        assert await exchange(server, until=Answer().wire[:20]) == Answer().wire[:20]
        await server.until_open_connections(0)


async def test_raw():
    """Any bytes at all."""
    assert await _once(Raw(b"\0\1")) == b"\0\1"


async def test_stream():
    """A stream is correct HTTP: a chunk for each piece, then the last chunk; the connection stays in use."""
    stream = Stream([b"data: 1\n\n", 0.0, b"data: 2\n\n"], headers={"X-A": "1"})
    async with FaultServer(stream) as server:
        content = await exchange(server, GET + GET, until=b"0\r\n\r\n")
        assert (server.connections, stream.wire) == (1, content[: len(stream.wire)])
    head, _, body = stream.wire.partition(b"\r\n\r\n")
    assert set(head.splitlines()) == {
        b"HTTP/1.1 200 OK",
        b"content-type: text/event-stream",
        b"transfer-encoding: chunked",
        b"x-a: 1",
    }
    assert body == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"


async def test_stream__until_the_connection_closes():
    """Its end may also be that of the connection."""
    stream = Stream([b"data: 1\n\n", b"data: 2\n\n"], framing="close", delay_seconds=0.001)
    head, _, body = (await _once(stream)).partition(b"\r\n\r\n")
    assert b"connection: close" in head.splitlines()
    assert body == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("pieces", [[], [0.0]])
async def test_stream__without_pieces(pieces):
    """Its head is sent all the same."""
    assert (await _once(Stream(pieces, framing="close"))).startswith(b"HTTP/1.1 200 OK")
    assert Stream(pieces).wire.endswith(b"\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_stream__cut(framing):
    """It is cut after its pieces, or after any byte."""
    stream = chat_stream("Hel", "lo", framing=framing, ending="close")
    assert await _once(stream) == stream.wire
    assert await _once(Close(len(stream.wire) - 9, stream)) == stream.wire[:-9]
    async with FaultServer(chat_stream(framing=framing, ending="reset")) as server:
        with pytest.raises(anyio.BrokenResourceError):
            await exchange(server)


async def test_stream__that_hangs():
    """Or it says nothing more."""
    stream = chat_stream("Hello", ending="hang")
    async with FaultServer(stream) as server:
        assert await exchange(server, until=stream.wire) == stream.wire
        await server.until_open_connections(0)


async def test_endless():
    """Steps may go on for ever: sending waits for the reader, and ends with it."""
    sent = 0

    class Endless:
        def steps(self):
            nonlocal sent
            while True:
                sent += 1
                yield Send(b"x" * 65536)
                if sent % 100 == 0:
                    yield Wait(0.0)

    async with FaultServer(Endless()) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(GET)
            await stream.receive()
            await anyio.wait_all_tasks_blocked()
            held_back = sent
            for _ in range(100):
                await stream.receive()
            assert sent >= held_back
        await server.until_open_connections(0)
    assert held_back < 1000


async def test_exit():
    """At the end every connection is closed."""
    async with FaultServer(Hang()) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        await stream.send(GET)
        await server.until_requests(1)
    assert server.open_connections == 0
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await stream.receive()
    await stream.aclose()


async def test_refused_port():
    """Nobody listens there, and nobody else can take it."""
    with refused_port() as port:
        with pytest.raises(OSError):
            await anyio.connect_tcp("127.0.0.1", port)
        with pytest.raises(OSError):
            async with FaultServer(Answer(), port=port):
                pass


def test_openai_answers():
    """Answers in OpenAI's form, with any of an answer's fields."""
    answer = chat_answer("Hi there.", status=201, headers={"x": "y"})
    assert (answer.status, answer.headers) == (201, {"x": "y"})
    assert answer.body["choices"][0]["message"] == {"role": "assistant", "content": "Hi there."}
    assert answer.body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    error = error_answer(429, "Slow.", code="rate_limit_exceeded", kind="tokens", headers={"retry-after": "1"})
    assert error.body == {"error": {"message": "Slow.", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}


def test_openai_streams():
    """Streams in OpenAI's form: the role, the texts, why it ends, and that it is over."""
    *events, done = chat_events("Hel", "lo", model="m", finish_reason="length")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "Hel", "lo", None]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
    assert {chunk["model"] for chunk in chunks} == {"m"}
    assert done == b"data: [DONE]\n\n"
    assert chat_events("Hel", "lo", model="m", finish_reason=None) == tuple(events[:-1])


async def _once(behaviour):
    steps = list(behaviour.steps())
    assert steps
    closing = behaviour if not isinstance(behaviour, Answer) else Close(len(behaviour.wire), behaviour)
    async with FaultServer(closing) as server:
        return await exchange(server)
