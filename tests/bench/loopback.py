"""A provider that answers at once, in a process of its own, so that what is measured is the caller's side."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
from typing import ClassVar

import orjson

from standby.runner.testing import answer
from tests.bench.measuring import allow_connections

BODY = answer("All is well. " * 20).content
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n"
    % len(BODY)
) + BODY
DOWN_BODY = b'{"error": {"message": "down", "type": "server_error", "code": null}}'
DOWN = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(DOWN_BODY)
) + DOWN_BODY

COUNTED = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"

STREAM_CHUNKS = 1000
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n"
)
BURST_WRITES = 8
PACED_SECONDS = 0.0001
THINKING_SECONDS = 0.002
PAUSE_SECONDS = 0.001
STREAM_ASKED = re.compile(rb'"stream"\s*:\s*true')


def event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """One event of a stream, as large as OpenAI's."""
    return b"data: %b\n\n" % orjson.dumps(
        {
            "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz0123",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "system_fingerprint": "fp_0123456789",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        }
    )


EVENTS = [
    event({"role": "assistant", "content": ""}),
    *(event({"content": " word"}) for _ in range(STREAM_CHUNKS - 2)),
    event({}, "stop"),
]
EVENTS[-1] += b"data: [DONE]\n\n"
STREAM = [b"%x\r\n%b\r\n" % (len(each), each) for each in EVENTS]
STREAM[0] = STREAM_HEAD + STREAM[0]
STREAM[-1] += b"0\r\n\r\n"
PART = -(-len(STREAM) // BURST_WRITES)
BURST = [b"".join(STREAM[start : start + PART]) for start in range(0, len(STREAM), PART)]


class Provider(asyncio.Protocol):
    """Answers every request whose head and body have come; paths under `/down` fail.

    What comes under `/hold` is answered when somebody asks for `/release`; `/held` says how much that is now.

    Who asks for a stream gets one of `STREAM_CHUNKS` chunks: one write for each, under `/paced` one every
    `PACED_SECONDS`, under `/burst` all in `BURST_WRITES` writes. Under `/begun` the head, an empty chunk and one with
    content come at once, and the end `PAUSE_SECONDS` later; under `/begun/thinking` they come after `THINKING_SECONDS`.
    """

    held: ClassVar[list[asyncio.Transport]] = []

    def __init__(self) -> None:
        self.got = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += data
        while (end := self.got.find(b"\r\n\r\n")) >= 0:
            head = self.got[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self.got) < end + 4 + length:
                return
            if b" /begun/thinking" in head:
                self.loop.call_later(THINKING_SECONDS, self.begin)
            elif b" /begun" in head:
                self.begin()
            elif STREAM_ASKED.search(self.got, end, end + 4 + length):
                writes = iter(BURST if b" /burst" in head else STREAM)
                self.loop.call_soon(self.stream, writes, PACED_SECONDS if b" /paced" in head else 0.0)
            elif b" /hold" in head:
                self.held.append(self.transport)
            elif b" /held" in head:
                self.transport.write(COUNTED % (len(count := b"%d" % len(self.held)), count))
            elif b" /release" in head:
                self.transport.write(COUNTED % (0, b""))
                self.release()
            else:
                self.transport.write(DOWN if b" /down" in head else ANSWER)
            self.got = self.got[end + 4 + length :]

    def release(self):
        while self.held:
            self.held.pop().write(ANSWER)

    def begin(self):
        """A stream that has begun; its end comes when whoever asked has long had the first content."""
        for write in STREAM[:2]:
            self.transport.write(write)
        self.loop.call_later(PAUSE_SECONDS, self.transport.write, STREAM[-1])

    def stream(self, writes, seconds, not_before=0.0):
        """One write in each round of the loop, and not before its time: timers are too coarse to pace by."""
        now = time.perf_counter()
        if now >= not_before:
            write = next(writes, None)
            if write is None or self.transport.is_closing():
                return
            self.transport.write(write)
            not_before = now + seconds
        self.loop.call_soon(self.stream, writes, seconds, not_before)


async def serve() -> None:
    allow_connections()
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def provider():
    """The address of a provider that runs as long as the block does."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.loopback"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    try:
        import uvloop

        run = uvloop.run
    except ModuleNotFoundError:
        run = asyncio.run
    with contextlib.suppress(KeyboardInterrupt):
        run(serve())
