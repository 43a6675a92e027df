"""A server that fails as providers fail: on real sockets, by a script, the same way every time.

::

    async with FaultServer([Answer(503), Reset(), chat_answer("Hello.")]) as server:
        ...  # send requests to server.url: the first gets a 503, the second a reset, all others the answer

A **behaviour** is a value that says what happens to one request; it comes down to **steps**: bytes to send, a time to
wait, an end. A **script** names the behaviour of each request: one behaviour for all, a sequence whose last one is
repeated, or a function of the request. There is no HTTP library in here, so nothing corrects what is sent.

`Stream` is an answer that comes piece by piece; anything with a ``steps()`` that yields `Send` and `Wait` as long as it
likes is a behaviour, too. Sending waits for a reader that is slow.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, cast

from ._behaviours import (
    Answer,
    Behaviour,
    Close,
    End,
    Hang,
    Raw,
    Reset,
    Send,
    Step,
    Stream,
    Wait,
    chat_answer,
    chat_event,
    chat_events,
    chat_stream,
    error_answer,
)

__all__ = [
    "Answer",
    "Behaviour",
    "Close",
    "End",
    "FaultServer",
    "Hang",
    "Raw",
    "Received",
    "Reset",
    "Script",
    "Send",
    "Step",
    "Stream",
    "Wait",
    "chat_answer",
    "chat_event",
    "chat_events",
    "chat_stream",
    "error_answer",
    "refused_port",
]

_MAX_HEAD_BYTES: Final = 256 * 1024
_REMEMBERED_REQUESTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the server read it; header names are in lower case."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


_Chooser = Callable[[int, str, str, Mapping[str, str], bytes], Behaviour]

Script = Behaviour | Sequence[Behaviour] | _Chooser
"""One behaviour for all requests; one for each, the last repeated; or a function of the request's number (from 1),
method, path, headers and body."""


class FaultServer:
    """A server that does to each request what the script says.

    Attributes:
        requests: How many requests have been read.
        connections: How many connections have been accepted.
        received: The last thousand requests.
    """

    def __init__(self, script: Script, *, port: int = 0, ssl_context: ssl.SSLContext | None = None) -> None:
        """Prepare the server; it listens on 127.0.0.1 inside ``async with``. Port 0 picks a free one."""
        self._behaviour = _scripted(script)
        self._port = port
        self._ssl_context = ssl_context
        self._server: asyncio.Server | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._error: BaseException | None = None
        self.live: set[_Connection] = set()
        self.requests = 0
        self.connections = 0
        self.received: deque[Received] = deque(maxlen=_REMEMBERED_REQUESTS)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self.live)

    async def until_requests(self, count: int) -> None:
        """Return when so many requests have been read, all told."""
        await self._until(lambda: self.requests >= count)

    async def until_open_connections(self, at_most: int) -> None:
        """Return when no more connections than that are open."""
        await self._until(lambda: len(self.live) <= at_most)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, loop), "127.0.0.1", self._port, ssl=self._ssl_context, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            for connection in tuple(self.live):
                connection.abort()
            await self.until_open_connections(0)
            await self._server.wait_closed()
        if self._error is not None and exc is None:
            raise self._error

    def behaviour_of(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Behaviour:
        """Count the request and ask the script; a script that fails is raised when the server ends."""
        self.requests += 1
        self.received.append(Received(self.requests, method, path, headers, body))
        self.changed()
        try:
            return self._behaviour(self.requests, method, path, headers, body)
        except Exception as error:  # noqa: BLE001 - a script is a test's own code; the test hears of it below
            self._error = self._error or error
            return error_answer(500, "the script failed")

    def changed(self) -> None:
        """Look whether somebody waits for what is true now."""
        waiting, self._waiting = self._waiting, []
        for holds, future in waiting:
            if not holds():
                self._waiting.append((holds, future))
            elif not future.done():
                future.set_result(None)

    async def _until(self, holds: Callable[[], bool]) -> None:
        if not holds():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((holds, future))
            await future


class _Connection(asyncio.Protocol):
    """One connection: reads a request, takes its steps, reads the next. Callbacks only: there is nothing to cancel."""

    def __init__(self, server: FaultServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._steps: Iterator[Step] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections += 1
        self._server.live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it was lost makes no difference
        if self._timer is not None:
            self._timer.cancel()
        self._steps = iter(())
        self._server.live.discard(self)
        self._server.changed()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read_request()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()

    def abort(self) -> None:
        self._transport.abort()

    def _read_request(self) -> None:
        if self._steps is not None or not self._buffer:
            return
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            if not self._buffer[:1].isalpha() or len(self._buffer) > _MAX_HEAD_BYTES:
                # TLS spoken to a server that speaks none, for one. Real servers say so and leave.
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                self._transport.close()
            return
        request_line, *lines = self._buffer[:head_end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        end = head_end + 4 + int(headers.get("content-length", "0"))
        if len(self._buffer) < end:
            return
        body = bytes(self._buffer[head_end + 4 : end])
        del self._buffer[:end]
        method, path, *_ = request_line.split(" ")
        self._steps = iter(self._server.behaviour_of(method, path, headers, body).steps())
        self._go_on()

    def _go_on(self) -> None:
        self._timer = None
        if self._steps is None:
            return
        for step in self._steps:
            match step:
                case Send(content):
                    self._transport.write(content)
                    if self._paused:
                        return
                case Wait(seconds):
                    self._timer = self._loop.call_later(seconds, self._go_on)
                    return
                case End(how):
                    self._end(how)
                    return
        self._steps = None
        self._read_request()

    def _end(self, how: Literal["close", "reset", "hang"]) -> None:
        if how == "close":
            self._transport.close()
        elif how == "reset":
            connection = self._transport.get_extra_info("socket")
            # To linger for no time makes the kernel send a reset instead of an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def _scripted(script: Script) -> _Chooser:
    if callable(script):
        return script
    behaviours = tuple(script) if isinstance(script, Sequence) else (script,)

    def chosen(number: int, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Behaviour:  # noqa: ARG001
        return behaviours[min(number, len(behaviours)) - 1]

    return chosen


@contextmanager
def refused_port() -> Generator[int]:
    """A port on 127.0.0.1 that refuses every connection: bound, so that nobody else takes it, and never listening."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
