"""Load for a gateway: as fast as may be over so many connections, or so many requests a second come what may.

The second kind is what callers do: they come when they come, whether the one before was answered or not. Latency is
counted from when a request was due, so that a gateway that halts for a while is told of by every request that was due
meanwhile, and not by the one that it kept waiting (which would be coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import selectors
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.bench.documents import ASKED
from tests.bench.measuring import IN_FLIGHT
from tests.bench.servers import Served

FAST_SECONDS = 1.5
PACED_SECONDS = 5.0
ENOUGH_CONNECTIONS = 256


def post(url: str, asked: Mapping[str, object], headers: Mapping[str, str] | None = None) -> bytes:
    """A request, as it is written on the wire."""
    parts, content = urlsplit(url), orjson.dumps(asked)
    fields = {"host": parts.netloc, "content-type": "application/json", "content-length": len(content)} | (
        headers or {}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + content


class Connection(asyncio.Protocol):
    """Sends one request after the other, and says when the whole answer is there."""

    def __init__(self, answered: Callable[[Connection], None]) -> None:
        self.answered = answered
        self.got = b""
        self.due = math.inf  # nothing was asked yet
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.lost = True
        if self.due < math.inf:
            self.answered(self)

    def ask(self, request: bytes, due: float = 0.0) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data):
        self.got = self.got + data if self.got else data
        end = self.got.find(b"\r\n\r\n")
        if end < 0 or not _is_whole(self.got, end):
            return
        self.lost = not self.got.startswith(b"HTTP/1.1 200")
        self.got = b""
        self.answered(self)


def _is_whole(got: bytes, end: int) -> bool:
    head = got[:end].lower()
    start = head.find(b"content-length:")
    if start < 0:
        return got.endswith(b"0\r\n\r\n")
    return len(got) >= end + 4 + int(head[start + 15 :].split(b"\r\n", 1)[0])


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """The collector of garbage would halt us, and the gateway's latency would have it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _connected(url: str, count: int, answered: Callable[[Connection], None]) -> list[Connection]:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: Connection(answered), parts.hostname, parts.port))[1]
        for _ in range(count)
    ]


def as_fast_as_may_be(url: str, request: bytes, seconds: float, connections: int) -> float:
    """Answers a second, with one request under way on each connection all the time."""

    async def load() -> float:
        answers, until, lost = 0, 0.0, asyncio.Event()

        def answered(connection: Connection) -> None:
            nonlocal answers
            if connection.lost:
                lost.set()
            elif time.perf_counter() < until:
                answers += 1
                connection.ask(request)

        everybody = await _connected(url, connections, answered)
        until = time.perf_counter() + seconds
        for connection in everybody:
            connection.ask(request)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(lost.wait(), seconds)
        assert not lost.is_set(), "a request was not answered with 200"
        for connection in everybody:
            connection.transport.abort()
        return answers / seconds

    with _no_collections():
        return uvloop.run(load())


def come_what_may(url: str, request: bytes, seconds: float, per_second: float) -> list[float]:
    """Milliseconds from when each request was due until its answer was there."""

    async def load() -> list[float]:
        took: list[float] = []
        waiting: deque[float] = deque()
        idle: list[Connection] = []
        lost = 0

        def answered(connection: Connection) -> None:
            nonlocal lost
            lost += connection.lost
            took.append((time.perf_counter() - connection.due) * 1000)
            connection.due = math.inf
            if waiting:
                connection.ask(request, waiting.popleft())
            else:
                idle.append(connection)

        everybody = await _connected(url, ENOUGH_CONNECTIONS, answered)
        idle += everybody
        due, every = time.perf_counter(), 1 / per_second
        until = due + seconds
        while (due := due + every) < until:
            await asyncio.sleep(due - time.perf_counter())
            if idle:
                idle.pop().ask(request, due)
            else:
                waiting.append(due)
        while len(idle) < len(everybody):  # noqa: ASYNC110 - those that are still under way
            await asyncio.sleep(0.01)
        assert not lost, f"{lost} requests were not answered with 200"
        for connection in everybody:
            connection.transport.abort()
        return took

    # `select` keeps time to the microsecond; what loops usually wait by rounds to the next millisecond.
    loop = partial(asyncio.SelectorEventLoop, selectors.SelectSelector())
    with _no_collections(), asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(load())


def request_of(gateway: Served) -> bytes:
    return post(f"{gateway.url}/v1/chat/completions", ASKED, gateway.headers)


def fast(gateway: Served) -> Callable[[], Awaitable[tuple[float, float]]]:
    """A block: requests a second, and milliseconds of the gateway's processor time for each."""

    async def block() -> tuple[float, float]:
        before = gateway.cpu_seconds()
        rate = await asyncio.to_thread(as_fast_as_may_be, gateway.url, request_of(gateway), FAST_SECONDS, IN_FLIGHT)
        return rate, (gateway.cpu_seconds() - before) / max(1.0, rate * FAST_SECONDS) * 1000

    return block


def paced(gateway: Served, per_second: float) -> Callable[[], Awaitable[list[float]]]:
    """A block: the latencies of requests that come evenly."""

    async def block() -> list[float]:
        return await asyncio.to_thread(come_what_may, gateway.url, request_of(gateway), PACED_SECONDS, per_second)

    return block
