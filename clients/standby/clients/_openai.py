"""OpenAI's API, and every server that is compatible with it.

What goes out and what an answer means is said in `_openai_wire.py` and `_openai_stream.py`; the client carries bytes
between them.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, NoReturn
from urllib.parse import urlsplit

from pydantic import SecretStr

from ._answers import unusable
from ._http import Host, seal
from ._http_answer import HttpAnswer
from ._openai_stream import OpenAIStream
from ._openai_wire import StreamedCall, answered, refused, written, written_as_stream
from ._pool import Exchange, HttpPool
from ._protocols import Request, Response

__all__ = ["OPENAI_BASE_URL", "OpenAIClient"]

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"

_ENDPOINT: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9_.:~/-]{1,500}")
_MAX_ENDPOINTS: Final = 64

_NOT_FORWARDED: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "content-length", "content-encoding", "expect", "cookie"),
    }
)
"""Headers that belong to one connection, one body or one site, and not to the call."""


class OpenAIClient:
    """Speaks to one OpenAI-compatible server as one credential.

    It takes any JSON endpoint: what is promised of ``chat/completions``, ``completions``, ``embeddings``,
    ``responses``, ``moderations`` and ``images/...`` is checked; of others, that the answer is a JSON object.
    """

    def __init__(
        self,
        *,
        api_key: SecretStr | None = None,
        base_url: str = OPENAI_BASE_URL,
        headers: Mapping[str, SecretStr] | None = None,
        http: HttpPool | Host | None = None,
        connect_seconds: float | None = None,
        streams_may_end_without_finish: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened before the first call.

        Args:
            api_key: Sent as a bearer token; nothing is sent where it is missing or empty.
            base_url: Up to the part that all endpoints share, usually ``/v1``.
            headers: Sent with every call. They win over everything, an ``authorization`` among them over the key.
            http: A pool to share, or the host's own `httpx.AsyncClient`; what is handed in stays open.
            connect_seconds: How long to wait for a connection; the pool's own where it is missing.
            streams_may_end_without_finish: For servers that send neither a finish reason nor ``[DONE]``.
            clock: Seconds since the epoch: the times in answers are compared with it.

        Raises:
            ValueError: For an address or a header that cannot be sent; no secret is quoted.
        """
        own = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            "user-agent": "standby",
        }
        self._sealed = seal({**own, **(headers or {})}, bearer=api_key)
        # Compressed events would come in the compressor's pieces, and not as they are said.
        streaming = {"accept": "text/event-stream", "accept-encoding": "identity"}
        self._sealed_for_streams = seal({**own, **streaming, **(headers or {})}, bearer=api_key)
        self._streams_may_end_without_finish = streams_may_end_without_finish
        self._base_url = _checked_base_url(base_url)
        self._urls: dict[str, str] = {}
        self._pool = HttpPool.of(http)
        self._owns_pool = self._pool is not http
        self._connect_seconds = connect_seconds
        self._clock = clock

    async def send(self, request: Request) -> Response:
        """Make one call and return its whole answer.

        Raises:
            ClientError: For every way in which the call can fail.
        """
        url = self._urls.get(request.endpoint) or self._url_of(request.endpoint)
        answer = await self._pool.call(
            "POST",
            url,
            self._sealed,
            headers=_forwarded(request.headers) if request.headers else None,
            content=written(request),
            connect_seconds=self._connect_seconds,
        )
        return answered(request.endpoint, answer, now=self._clock(), scrub=self._sealed.scrubbed)

    async def aclose(self) -> None:
        """Close what was opened here; a pool or a client that was handed in stays open."""
        if self._owns_pool:
            await self._pool.aclose()

    def stream(self, request: Request) -> AbstractAsyncContextManager[OpenAIStream]:
        """Make one call and read its answer as it comes: chat completions and completions.

        Raises:
            ClientError: On entering, for every way in which the call can fail before its answer begins.
        """
        return _Streaming(self, request)

    def prepared_stream(self, request: Request) -> tuple[Exchange, StreamedCall]:
        """A streamed call that is ready to be sent.

        Raises:
            ClientError: It cannot be sent.
        """
        call = written_as_stream(request)
        exchange = self._pool.open(
            "POST",
            self._urls.get(request.endpoint) or self._url_of(request.endpoint),
            self._sealed_for_streams,
            headers=_forwarded(request.headers) if request.headers else None,
            content=call.content,
            connect_seconds=self._connect_seconds,
        )
        return exchange, call

    def begun_stream(self, exchange: Exchange, call: StreamedCall) -> OpenAIStream:
        """The stream that an answer is."""
        return OpenAIStream(
            exchange,
            choices=call.choices,
            hide_usage=call.hide_usage,
            may_end_without_finish=self._streams_may_end_without_finish,
            now=self._clock(),
            scrub=self._sealed.scrubbed,
        )

    async def refuse_whole_answer(self, endpoint: str, exchange: Exchange) -> NoReturn:
        """A whole answer came where a stream was asked for.

        Raises:
            ClientError: What it tells of, or that it is no stream.
        """
        answer = HttpAnswer(exchange.status, exchange.headers, await exchange.read())
        answered(endpoint, answer, now=self._clock(), scrub=self._sealed.scrubbed)
        raise unusable("invalid_response", "the answer is whole, and not a stream", answer.status, answer.headers)

    def __repr__(self) -> str:
        return f"OpenAIClient({self._base_url!r})"

    def _url_of(self, endpoint: str) -> str:
        path = endpoint.strip("/")
        if not _ENDPOINT.fullmatch(path):
            raise refused("invalid_request", f"not an endpoint: {endpoint[:100]!r}")
        if len(self._urls) >= _MAX_ENDPOINTS:
            self._urls.clear()
        url = self._urls[endpoint] = f"{self._base_url}/{path}"
        return url


class _Streaming:
    """One streamed call, inside ``async with``.

    Written out: `asynccontextmanager` would cost a twentieth of the time to the first chunk that is ours.
    """

    __slots__ = ("_client", "_exchange", "_request")

    def __init__(self, client: OpenAIClient, request: Request) -> None:
        self._client = client
        self._request = request
        self._exchange: Exchange

    async def __aenter__(self) -> OpenAIStream:
        self._exchange, call = self._client.prepared_stream(self._request)
        await self._exchange.__aenter__()
        try:
            if not self._exchange.is_stream:
                await self._client.refuse_whole_answer(self._request.endpoint, self._exchange)
            return self._client.begun_stream(self._exchange, call)
        except BaseException:
            await self._exchange.__aexit__(*sys.exc_info())
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exchange.__aexit__(kind, error, trace)


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lowered.items() if name not in _NOT_FORWARDED}


def _checked_base_url(base_url: str) -> str:
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
