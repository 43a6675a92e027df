"""What all clients that speak HTTP have in common: a call is prepared, carried, and its answer read.

A client of a vendor says how a request becomes a `Prepared` call; whether that is the caller's own bytes or a
translation of them is its business. The carrying is the same for all.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ClassVar, Final, NoReturn, Protocol
from urllib.parse import urlsplit

from ._answers import Scrub, unusable
from ._body import JSON, Body
from ._breaks import StreamedAnswer
from ._http import Host, Sealed
from ._http_answer import HttpAnswer
from ._pool import Exchange, HttpPool
from ._protocols import AUDIO, ProviderStream, Request, Response

_NOT_FORWARDED: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "content-length", "content-encoding", "expect", "cookie"),
        "anthropic-beta",
    }
)
"""Headers that belong to one connection, one body, one site or one vendor, and not to the call."""


class Call(Protocol):
    """How the body of one call is written, and its answer read. Pure."""

    @property
    def content(self) -> bytes:
        """The body to send."""
        ...

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The whole answer as a value.

        Raises:
            ClientError: For an answer that is a failure, or none at all.
        """
        ...

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> ProviderStream:
        """The stream that an answer is."""
        ...


class HttpClient:
    """A client that speaks HTTP: what is left to say is `prepared`.

    Attributes:
        own_headers: Headers of callers that only this vendor understands, in lower case.
        counts_tokens: Whether the vendor can be asked to count tokens (`_counting.py`).
    """

    own_headers: ClassVar[Collection[str]] = ()
    counts_tokens: ClassVar[bool] = False

    def __init__(
        self,
        *,
        http: HttpPool | Host | None,
        connect_seconds: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = HttpPool.of(http)
        self._owns_pool = self._pool is not http
        self._connect_seconds = connect_seconds
        self._clock = clock

    def prepared(self, request: Request, *, stream: bool) -> tuple[str, Call]:
        """Where the request goes, and as what.

        Raises:
            ClientError: It cannot be sent.
        """
        raise NotImplementedError

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:
        """The headers of one call, its credential among them.

        Raises:
            ClientError: The credential is not to be had.
        """
        raise NotImplementedError

    async def send(self, request: Request) -> Response:
        """Make one call and return its whole answer.

        Raises:
            ClientError: For every way in which the call can fail.
        """
        url, call = self.prepared(request, stream=False)
        content = call.content
        sealed = _typed(await self.sealed(url, content, stream=False), request)
        answer = await self._pool.call(
            "POST",
            url,
            sealed,
            headers=forwarded(request.headers, self.own_headers) if request.headers else None,
            content=content,
            connect_seconds=self._connect_seconds,
        )
        return call.answered(answer, now=self._clock(), scrub=sealed.scrubbed)

    def stream(self, request: Request) -> AbstractAsyncContextManager[ProviderStream]:
        """Make one call and read its answer as it comes.

        Raises:
            ClientError: On entering, for every way in which the call can fail before its answer begins.
        """
        return _Streaming(self, request)

    async def opened(self, request: Request) -> tuple[Exchange, Call, Scrub]:
        """A streamed call that is ready to be sent.

        Raises:
            ClientError: It cannot be sent.
        """
        url, call = self.prepared(request, stream=True)
        content = call.content
        sealed = _typed(await self.sealed(url, content, stream=True), request)
        exchange = self._pool.open(
            "POST",
            url,
            sealed,
            headers=forwarded(request.headers, self.own_headers) if request.headers else None,
            content=content,
            connect_seconds=self._connect_seconds,
        )
        return exchange, call, sealed.scrubbed

    async def begun(self, exchange: Exchange, call: Call, scrub: Scrub) -> ProviderStream:
        """The stream that an answer is.

        Raises:
            ClientError: It is a whole answer: what that tells of.
        """
        if not exchange.is_stream:
            await self._refuse_whole_answer(exchange, call, scrub)
        return call.begun(exchange, now=self._clock(), scrub=scrub)

    async def _refuse_whole_answer(self, exchange: Exchange, call: Call, scrub: Scrub) -> NoReturn:
        answer = HttpAnswer(exchange.status, exchange.headers, await exchange.read())
        call.answered(answer, now=self._clock(), scrub=scrub)
        raise unusable("invalid_response", "the answer is whole, and not a stream", answer.status, answer.headers)

    async def aclose(self) -> None:
        """Close what was opened here; a pool or a client that was handed in stays open."""
        if self._owns_pool:
            await self._pool.aclose()


class _Streaming:
    """One streamed call, inside ``async with``.

    Written out: `asynccontextmanager` would cost a twentieth of the time to the first chunk that is ours.
    """

    __slots__ = ("_client", "_exchange", "_request")

    def __init__(self, client: HttpClient, request: Request) -> None:
        self._client = client
        self._request = request
        self._exchange: Exchange

    async def __aenter__(self) -> ProviderStream:
        self._exchange, call, scrub = await self._client.opened(self._request)
        await self._exchange.__aenter__()
        try:
            return await self._client.begun(self._exchange, call, scrub)
        except BaseException:
            await self._exchange.__aexit__(*sys.exc_info())
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exchange.__aexit__(kind, error, trace)


def _typed(sealed: Sealed, request: Request) -> Sealed:
    """``sealed`` for a request whose body is no JSON, or whose answer need be none."""
    body = request.body
    if isinstance(body, Body) and body.content_type != JSON:
        sealed = sealed.but({"content-type": body.content_type})
    return sealed.but({"accept": "*/*"}) if request.endpoint.startswith(AUDIO) else sealed


def forwarded(headers: Mapping[str, str], own: Collection[str] = ()) -> dict[str, str]:
    """The caller's headers that go on to the provider, names in lower case; ``own`` are those of its vendor."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lowered.items() if name not in _NOT_FORWARDED or name in own}


def checked_base_url(base_url: str) -> str:
    """``base_url`` without a slash at its end.

    Raises:
        ValueError: For an address that cannot be one; no secret is quoted.
    """
    try:
        parts = urlsplit(base_url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("base_url is not an address") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold a user or a password: use api_key or headers")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        raise ValueError("base_url must be an http or https address with a host")
    if parts.query or parts.fragment or not base_url.isascii() or re.search(r"\s", base_url):
        raise ValueError("base_url must be a plain address, without a query, a fragment or white space")
    return base_url.rstrip("/")
