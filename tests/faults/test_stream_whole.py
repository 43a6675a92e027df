"""Streams that are odd in their bytes, or many at once, and whole."""

import json

import anyio
import pytest

from standby.demo.faults import Answer, End, FaultServer, Send, Stream, Wait, chat_events, chat_stream
from tests.faults.hearing import REFERENCE, ROLE, SSE, hear

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_one_byte_at_a_time(open_runner, framing):
    """However small the pieces: the events are whole."""
    wire = Stream(REFERENCE, framing).wire

    class Slow:
        def steps(self):
            for place in range(len(wire)):
                yield Send(wire[place : place + 1])
                yield Wait(0.0)
            yield from [End("close")] if framing == "close" else []

    async with FaultServer(Slow()) as server, open_runner(server.url) as runner:
        assert (await hear(runner, {"n": 2})).text == "Hello"


async def test_compressed_unasked(open_runner):
    """A server that compresses though it was asked not to is understood."""
    compressed = Answer(body=b"".join(REFERENCE), headers=SSE, gzip=True, chunked=True)
    async with FaultServer(compressed) as server, open_runner(server.url) as runner:
        assert (await hear(runner, {"n": 2})).text == "Hello"
    assert server.received[0].headers["accept-encoding"] == "identity"


async def test_connection_is_used_again(open_runner):
    """Stream after stream over one connection."""
    async with FaultServer(chat_stream("Hello")) as server, open_runner(server.url) as runner:
        for _ in range(5):
            assert (await hear(runner)).text == "Hello"
        assert (server.requests, server.connections) == (5, 1)


async def test_fifty_at_once(open_runner):
    """Each caller has its own stream, whole, though they come in turns, and some fail over."""
    several = 50

    def script(number, method, path, headers, body):
        words = [f"{json.loads(body)['caller']}/{place} " for place in range(20)]
        if path.startswith("/primary") and json.loads(body)["caller"] % 5 == 0:
            return Stream([ROLE, 0.001], ending="reset")
        return Stream([piece for event in chat_events(*words) for piece in (event, 0.001)])

    async with FaultServer(script) as server:
        async with open_runner(f"{server.url}/primary", f"{server.url}/backup") as runner:
            heard = {}

            async def listen(caller):
                heard[caller] = (await hear(runner, {"caller": caller})).text

            async with anyio.create_task_group() as tasks:
                for caller in range(several):
                    tasks.start_soon(listen, caller)
    assert heard == {caller: "".join(f"{caller}/{place} " for place in range(20)) for caller in range(several)}
