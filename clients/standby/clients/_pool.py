"""Connections to providers: one bound on all of them, and every failure a `ClientError`.

A call takes a place, sends its request, reads its answer and gives the place back, whatever happens on the way;
cancelled or not. Places are counted here and not by the HTTP library (`_http.py` says why). A plain call reads the
whole answer; a stream reads it piece by piece inside the same `Exchange`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import anyio

from ._errors import ClientError
from ._exceptions import failure_of
from ._gzip import GzipDecoder
from ._http import (
    Host,
    HttpRequest,
    Library,
    Reply,
    Sealed,
    Wire,
    WireSettings,
    check_header,
    default_ssl_context,
    has_aiohttp,
    hosted_wire,
    load_library,
    open_wire,
    proxy_for,
)
from ._http_answer import HttpAnswer, request_id_of

__all__ = ["Exchange", "HttpPool"]

_REMEMBERED_ADDRESSES: Final = 256
_MAX_CONNECTIONS: Final = 1000
_MAX_HOST_CONNECTIONS: Final = 100


class HttpPool:
    """Connections to providers, shared by any number of clients on one event loop.

    Attributes:
        max_connections: How many calls may be under way at once; the others wait.
        max_answer_bytes: No answer may be larger, decompressed.
        max_header_bytes: Nor an answer's headers.
    """

    def __init__(
        self,
        client: Host | Wire | None = None,
        *,
        max_connections: int | None = None,
        connect_seconds: float = 5.0,
        pool_seconds: float = 5.0,
        read_seconds: float | None = None,
        write_seconds: float | None = None,
        keepalive_seconds: float = 4.5,
        max_answer_bytes: int = 64 * 1024 * 1024,
        max_header_bytes: int = 64 * 1024,
        ssl_context: ssl.SSLContext | None = None,
        library: Library = "auto",
        trust_env: bool = True,
    ) -> None:
        """Prepare a pool; nothing is opened before the first call.

        Args:
            client: The host's own httpx client or transport, which stays open. Its proxies, certificates and hooks
                are used; its headers, cookies, authentication and base URL are not. Let its own limit be no lower
                than ``max_connections``: what waits inside httpx can lose its place when it is cancelled.
            max_connections: How many calls may be under way at once: 1000; 100 with the host's client, which is
                httpx's own limit where the host did not choose another.
            connect_seconds: Until a connection is open. (httpx counts TCP and TLS each for itself.)
            pool_seconds: How long a call waits for its place.
            read_seconds: How long the other side may be silent. Off: the runner's clock is around the whole call.
            write_seconds: The same for sending; aiohttp has no such clock.
            keepalive_seconds: How long an idle connection is kept. Just below the 5 seconds after which uvicorn and
                Node close it, so that no call is sent into a connection that is being closed.
            max_answer_bytes: No answer may be larger, decompressed.
            max_header_bytes: Nor an answer's headers.
            ssl_context: Other certificates to trust; it must verify.
            library: ``auto`` is aiohttp where it is installed and asyncio runs, else httpx.
            trust_env: Go through the proxies that the environment names (``HTTPS_PROXY``, ``NO_PROXY`` and so on).

        Raises:
            ValueError: For an argument that makes no sense.
        """
        if ssl_context is not None and (ssl_context.verify_mode != ssl.CERT_REQUIRED or not ssl_context.check_hostname):
            raise ValueError("ssl_context must verify certificates and host names")
        if max_connections is None:
            max_connections = _MAX_CONNECTIONS if client is None else _MAX_HOST_CONNECTIONS
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        if library == "aiohttp" and not has_aiohttp():
            raise ValueError("aiohttp is not installed")
        if client is None:
            load_library(library)
        self.max_connections = max_connections
        self.max_answer_bytes = max_answer_bytes
        self.max_header_bytes = max_header_bytes
        self._connect_seconds = connect_seconds
        self._pool_seconds = pool_seconds
        self._ssl_context = ssl_context
        self._library: Library = library
        self._trust_env = trust_env
        self._settings = WireSettings(
            pool_seconds=pool_seconds,
            read_seconds=read_seconds,
            write_seconds=write_seconds,
            keepalive_seconds=keepalive_seconds,
            max_idle_connections=max_connections,
            max_header_bytes=max_header_bytes,
        )
        self._places = anyio.Semaphore(max_connections, max_value=max_connections)
        self._hosted = None if client is None else hosted_wire(client, self._settings)
        self._wires: dict[str | None, Wire] = {}  # by proxy
        self._routes: dict[str, Wire] = {}  # by address
        self._closed = False

    @classmethod
    def of(cls, host: HttpPool | Host | None) -> HttpPool:
        """``host`` if it is a pool, else a new pool over it."""
        return host if isinstance(host, HttpPool) else cls(host)

    @property
    def in_use(self) -> int:
        """How many calls are under way."""
        return self.max_connections - self._places.value

    def open(
        self,
        method: str,
        url: str,
        sealed: Sealed,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        connect_seconds: float | None = None,
    ) -> Exchange:
        """An exchange: ``async with`` sends the request and gives the answer as soon as its head is there.

        Args:
            method: The HTTP method.
            url: The whole address.
            sealed: Headers from `seal`; they win.
            headers: More headers, names in lower case.
            content: The body.
            connect_seconds: Instead of the pool's own.

        Raises:
            ClientError: For headers that HTTP cannot carry; and from the exchange for everything else.
        """
        for name, value in headers.items() if headers else ():
            try:
                check_header(name, value)
            except ValueError as error:
                raise ClientError("invalid_request", str(error), scope="request", work="not_sent") from None
        request = HttpRequest(method, url, sealed, headers, content, connect_seconds or self._connect_seconds)
        return Exchange(self, request)

    async def call(
        self,
        method: str,
        url: str,
        sealed: Sealed,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        connect_seconds: float | None = None,
    ) -> HttpAnswer:
        """Send a request and return the whole answer, whatever its status; for the rest as `open`."""
        async with self.open(
            method, url, sealed, headers=headers, content=content, connect_seconds=connect_seconds
        ) as exchange:
            return HttpAnswer(exchange.status, exchange.headers, await exchange.read())

    async def aclose(self) -> None:
        """Close what was opened here; what the host handed in stays open. Calls under way fail."""
        self._closed = True
        wires, self._wires = self._wires, {}
        self._routes.clear()
        for wire in wires.values():
            await wire.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # What follows is for `Exchange`.

    async def take_place(self) -> None:
        """Take a place; wait for one only if there is none."""
        if self._closed:
            raise ClientError("client_closed", "the connections were closed", scope="local", work="not_sent")
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            try:
                with anyio.fail_after(self._pool_seconds):
                    await self._places.acquire()
            except TimeoutError:
                raise ClientError(
                    "pool_timeout",
                    f"none of {self.max_connections} connections was free within {self._pool_seconds:g} s",
                    retryable=True,
                    scope="local",
                    work="not_sent",
                ) from None

    def give_place(self) -> None:
        """Give a place back."""
        self._places.release()

    async def send(self, request: HttpRequest) -> Reply:
        """Send a request; every exception is translated here."""
        try:
            return await self._wire_for(request.url).send(request)
        except ClientError:
            raise
        except Exception as error:
            # A transport leaks what it likes. What the table does not know becomes `client_error`, with its cause.
            raise self.failure(error, request) from error

    def failure(self, error: Exception, request: HttpRequest, *, status: int = 0, request_id: str = "") -> ClientError:
        """What an exception means."""
        if self._closed:
            return ClientError("client_closed", "the connections were closed", status=status, scope="local")
        return failure_of(error, status=status, request_id=request_id, scrub=request.sealed.scrubbed)

    def _wire_for(self, url: str) -> Wire:
        if self._hosted is not None:
            return self._hosted
        wire = self._routes.get(url)
        if wire is None:
            proxy = proxy_for(url) if self._trust_env else None
            wire = self._wires.get(proxy)
            if wire is None:
                context = self._ssl_context or default_ssl_context()
                wire = self._wires[proxy] = open_wire(self._library, self._settings, context, proxy)
            if len(self._routes) >= _REMEMBERED_ADDRESSES:
                self._routes.clear()
            self._routes[url] = wire
        return wire


class Exchange:
    """One request and its answer, inside ``async with``: the head has arrived, the body is read as it comes.

    Attributes:
        status: The answer's status.
        headers: The answer's headers, names in lower case.
    """

    __slots__ = ("_complete", "_decoder", "_pool", "_reply", "_request", "headers", "status")

    def __init__(self, pool: HttpPool, request: HttpRequest) -> None:
        self._pool = pool
        self._request = request
        self._reply: Reply
        self._decoder: GzipDecoder | None = None
        self._complete = False
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def __aenter__(self) -> Self:
        await self._pool.take_place()
        try:
            self._reply = await self._pool.send(self._request)
        except BaseException:
            self._pool.give_place()
            raise
        try:
            self._read_head()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a success that comes piece by piece."""
        return 200 <= self.status < 300 and "json" not in self.headers.get("content-type", "")

    async def read_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes of the body, decompressed, as they come; empty at its end.

        Raises:
            ClientError: For every way in which the rest can fail to come; ``invalid_response`` for more bytes at once
                than ``max_bytes``, the pool's bound if `None`.
        """
        limit = self._pool.max_answer_bytes if max_bytes is None else max_bytes
        while True:
            try:
                part = await self._reply.read()
                if self._decoder is not None:
                    if part:
                        part = self._decoder.feed(part, limit)
                        if not part:
                            continue  # the decoder keeps it until more comes
                    else:
                        self._decoder.finish()
            except Exception as error:
                # As in `HttpPool.send`: whatever it was, the answer did not come.
                request_id = request_id_of(self.headers)
                raise self._pool.failure(error, self._request, status=self.status, request_id=request_id) from error
            if len(part) > limit:
                raise self._unusable(f"the answer is larger than {self._pool.max_answer_bytes} bytes")
            self._complete = not part
            return part

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            ClientError: As `read_some`.
        """
        left = self._pool.max_answer_bytes
        parts: list[bytes] = []
        while part := await self.read_some(left):
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_head(self) -> None:
        self.status = self._reply.status
        headers: dict[str, str] = {}
        size = 0
        for raw_name, raw_value in self._reply.headers:
            size += len(raw_name) + len(raw_value)
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers = headers
        if size > self._pool.max_header_bytes:
            raise self._unusable(f"the answer's headers are larger than {self._pool.max_header_bytes} bytes")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in {"gzip", "x-gzip"}:
            self._decoder = GzipDecoder()
        elif encoding not in {"", "identity"}:
            raise self._unusable(f"the answer is encoded as {encoding[:50]!r}, which was not asked for")

    def _unusable(self, message: str) -> ClientError:
        return ClientError(
            "invalid_response",
            message,
            status=self.status,
            retryable=True,
            work="billed",
            request_id=request_id_of(self.headers),
        )

    async def _close(self) -> None:
        try:
            await self._reply.close(complete=self._complete)
        except Exception:  # noqa: BLE001, S110 - the answer was read or given up; how its connection ends is no news
            pass
        finally:
            self._pool.give_place()
