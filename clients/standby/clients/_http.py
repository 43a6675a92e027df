"""The one file that imports an HTTP library, and the one place where secrets leave their wrapping.

A `Wire` carries a request to a provider and hands back the answer as its head arrives. There are two, and what is
above them cannot tell them apart:

* **aiohttp**, where it is installed and asyncio runs: measured on one loopback server, a call costs 0.3 ms of
  processor time, with fifty calls at once 0.2 ms.
* **httpx** everywhere else, and whenever the host hands in its own client: 1 ms, and with fifty calls at once 2 ms,
  because its pool looks at every connection for every call.

Neither ever waits for a connection in its own pool. httpx 0.28 loses a place there when the waiting call is cancelled,
and a runner that fails over cancels all day; so the pools below are unlimited and the bound is above (`_pool.py`).
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import io
import re
import ssl
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, cast

import anyio
import httpx
from pydantic import SecretStr

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "Host",
    "HttpRequest",
    "HttpxReply",
    "Library",
    "Reply",
    "Sealed",
    "Wire",
    "WireSettings",
    "check_header",
    "default_ssl_context",
    "has_aiohttp",
    "hosted_wire",
    "open_wire",
    "proxy_for",
    "seal",
]

Host = httpx.AsyncClient | httpx.AsyncBaseTransport
"""What the host may hand in."""

Library = Literal["auto", "aiohttp", "httpx"]

_CLOSE_SECONDS: Final = 2.0
_REMEMBERED_ADDRESSES: Final = 256
_AIOHTTP_LARGE_BYTES: Final = 1024 * 1024  # aiohttp wants larger bodies as a file, to send them in pieces
_SHORTEST_SECRET: Final = 6  # anything shorter would be found in ordinary words
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


# -- secrets -----------------------------------------------------------------------------------------------------


class Sealed:
    """Headers that may be secret: they can be sent, and taken out of a text, and not be seen."""

    __slots__ = ("_headers", "_secrets")

    def __init__(self, headers: Mapping[str, str], secrets: tuple[str, ...]) -> None:
        self._headers = headers
        self._secrets = secrets

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def __repr__(self) -> str:
        return f"<{len(self._headers)} sealed headers>"

    def scrubbed(self, text: str) -> str:
        """``text`` without any of the secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[redacted]")
        return text

    def but(self, headers: Mapping[str, str]) -> Sealed:
        """The same, but for these: names in lower case, values that are no secrets."""
        return Sealed({**self._headers, **headers}, self._secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these out of a text as well: what whoever carries the call has added to it."""
        self._secrets = _secrets_to_hide({*self._secrets, *secrets})

    def opened(self, extra: Mapping[str, str] | None) -> Mapping[str, str]:
        """What goes on the wire; the sealed ones win over ``extra``. For a `Wire` only."""
        return {**extra, **self._headers} if extra else self._headers


def seal(headers: Mapping[str, str | SecretStr], *, bearer: SecretStr | None = None) -> Sealed:
    """Headers to send with every call; the `SecretStr` among them are kept out of sight.

    Args:
        headers: Names and values; of two names that differ in case only, the last counts.
        bearer: A key for the ``authorization`` header, unless ``headers`` have one; an empty key is none.

    Raises:
        ValueError: For a name or a value that HTTP cannot carry; the value is not quoted.
    """
    opened: dict[str, str] = {}
    secrets: set[str] = set()
    if bearer is not None and (key := bearer.get_secret_value().strip()):
        headers = {"authorization": SecretStr(f"Bearer {key}"), **headers}
    for name, value in headers.items():
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        check_header(name, text)
        opened[name.lower()] = text
        if isinstance(value, SecretStr):
            secrets.add(text)
    return Sealed(opened, _secrets_to_hide(secrets))


def _secrets_to_hide(values: Iterable[str]) -> tuple[str, ...]:
    parts = {part for value in values for part in (value, value.rpartition(" ")[2])}  # `Bearer KEY` is echoed as KEY
    return tuple(sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True))


def check_header(name: str, value: str) -> None:
    """Refuse what HTTP cannot carry, before a library quotes it in an exception.

    Raises:
        ValueError: It names the header, not the value.
    """
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"not a header name: {name[:100]!r}")
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"the value of the header {name!r} has characters that HTTP cannot carry")


# -- what a library does for us ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WireSettings:
    """What a wire must know; `HttpPool` says what each means."""

    pool_seconds: float
    read_seconds: float | None
    write_seconds: float | None
    keepalive_seconds: float
    max_idle_connections: int
    max_header_bytes: int


class HttpRequest(NamedTuple):
    """A request: ``sealed`` headers win over ``headers``."""

    method: str
    url: str
    sealed: Sealed
    headers: Mapping[str, str] | None
    content: bytes | None
    connect_seconds: float


class Reply(Protocol):
    """An answer whose head has arrived; its body is still as it was sent."""

    @property
    def status(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """The headers as they were sent."""
        ...

    async def read(self) -> bytes:
        """The next bytes of the body as they come; empty at its end."""
        ...

    async def close(self, *, complete: bool) -> None:
        """Keep the connection for the next call where the body was read to its end, else drop it."""
        ...


class Wire(Protocol):
    """Carries requests. Raises whatever its library raises: `_exceptions.py` knows what that means."""

    async def send(self, request: HttpRequest) -> Reply:
        """Send a request and wait for the head of its answer; redirects are answers."""
        ...

    async def aclose(self) -> None:
        """Close what was opened here."""
        ...


def hosted_wire(host: Host | Wire, settings: WireSettings) -> Wire:
    """The host's own client or transport, which stays open."""
    if isinstance(host, httpx.AsyncClient | httpx.AsyncBaseTransport):
        return _HttpxWire(host, settings, ours=False)
    return host


def open_wire(library: Library, settings: WireSettings, ssl_context: ssl.SSLContext, proxy: str | None) -> Wire:
    """A wire of our own. Proxies are httpx's business."""
    if proxy is None and library != "httpx" and has_aiohttp() and _on_asyncio():
        return _AiohttpWire(settings, ssl_context)
    limits = httpx.Limits(
        max_connections=None,
        max_keepalive_connections=settings.max_idle_connections,
        keepalive_expiry=settings.keepalive_seconds,
    )
    transport = httpx.AsyncHTTPTransport(verify=ssl_context, limits=limits, proxy=proxy)
    return _HttpxWire(transport, settings, ours=True)


def has_aiohttp() -> bool:
    """Whether aiohttp is installed."""
    return importlib.util.find_spec("aiohttp") is not None


def load_library(library: Library) -> None:
    """Import what `open_wire` will need: it takes half a second, which is nothing a first call should pay for."""
    if library != "httpx" and has_aiohttp():
        importlib.import_module("aiohttp")


@functools.lru_cache(1)
def default_ssl_context() -> ssl.SSLContext:
    """Verifies; made once, because reading all the world's certificates takes tens of milliseconds."""
    return httpx.create_ssl_context()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parsed = httpx.URL(url)
    proxies: Mapping[str, str] = urllib.request.getproxies()
    proxy = proxies.get(parsed.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parsed.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# -- aiohttp -----------------------------------------------------------------------------------------------------


class _AiohttpReply:
    __slots__ = ("_answer", "headers", "read", "status")

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers: Iterable[tuple[bytes, bytes]] = answer.raw_headers
        self.read = answer.content.readany

    async def close(self, *, complete: bool) -> None:
        if complete:
            self._answer.release()
        else:
            self._answer.close()


class _AiohttpWire:
    """aiohttp with its conveniences turned off: no cookies, no redirects, no limit, no decompression."""

    def __init__(self, settings: WireSettings, ssl_context: ssl.SSLContext) -> None:
        import aiohttp  # noqa: PLC0415 - an optional dependency
        import yarl  # noqa: PLC0415 - comes with it

        def timeout(connect_seconds: float) -> aiohttp.ClientTimeout:
            # `connect` covers the look-up of the name too; nothing waits in the pool, which it would cover as well.
            return aiohttp.ClientTimeout(
                total=None,
                connect=connect_seconds,
                sock_connect=connect_seconds,
                sock_read=settings.read_seconds,
            )

        self._timeout = functools.lru_cache(16)(timeout)
        parse: Callable[[str], yarl.URL] = functools.partial(yarl.URL, encoded=True)
        self._parsed = functools.lru_cache(_REMEMBERED_ADDRESSES)(parse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl_context, keepalive_timeout=settings.keepalive_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=settings.max_header_bytes,
            max_field_size=settings.max_header_bytes,
        )

    async def send(self, request: HttpRequest) -> Reply:
        content = request.content
        data = io.BytesIO(content) if content is not None and len(content) > _AIOHTTP_LARGE_BYTES else content
        answer = await self._session.request(
            request.method,
            self._parsed(request.url),
            data=data,
            headers=request.sealed.opened(request.headers),
            allow_redirects=False,
            timeout=self._timeout(request.connect_seconds),
        )
        return _AiohttpReply(answer)

    async def aclose(self) -> None:
        await self._session.close()


# -- httpx -------------------------------------------------------------------------------------------------------


class HttpxReply:
    """An answer of httpx that is not read yet; httpx2's are the same."""

    __slots__ = ("_parts", "_stream", "headers", "status")

    def __init__(self, answer: httpx.Response) -> None:
        if not hasattr(answer.stream, "__aiter__"):
            raise TypeError("an asynchronous transport must answer with an asynchronous stream")
        self.status = answer.status_code
        self.headers: Iterable[tuple[bytes, bytes]] = answer.headers.raw
        self._stream = cast("httpx.AsyncByteStream", answer.stream)
        self._parts = self._stream.__aiter__()

    async def read(self) -> bytes:
        """The next bytes of the body as they come; empty at its end."""
        async for part in self._parts:
            if part:  # an empty part in the middle is not the end
                return part
        return b""

    async def close(self, *, complete: bool) -> None:
        """Keep the connection for the next call where the body was read to its end, else drop it."""
        if complete:
            await self._stream.aclose()
            return
        # Cancelled or broken: the connection must go, but a peer that is silent must not keep us here.
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            end_generator: Any = getattr(self._parts, "aclose", None)
            if end_generator is not None:
                await end_generator()
            await self._stream.aclose()


class _HttpxWire:
    def __init__(self, below: Host, settings: WireSettings, *, ours: bool) -> None:
        self._below = below
        self._ours = ours
        self._parsed = functools.lru_cache(_REMEMBERED_ADDRESSES)(httpx.URL)
        self._times: dict[str, float | None] = {
            "read": settings.read_seconds,
            "write": settings.write_seconds,
            "pool": settings.pool_seconds,
        }

    async def send(self, request: HttpRequest) -> Reply:
        sent = httpx.Request(
            request.method,
            self._parsed(request.url),
            headers=request.sealed.opened(request.headers),
            content=request.content,
            extensions={"timeout": {"connect": request.connect_seconds, **self._times}},
        )
        if isinstance(self._below, httpx.AsyncClient):
            # The host's proxies, certificates and hooks; not its authentication, headers, cookies and redirects.
            answer = await self._below.send(sent, stream=True, auth=None, follow_redirects=False)
        else:
            answer = await self._below.handle_async_request(sent)
        return HttpxReply(answer)

    async def aclose(self) -> None:
        if self._ours and isinstance(self._below, httpx.AsyncBaseTransport):
            await self._below.aclose()
