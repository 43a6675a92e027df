"""OpenAI's API, and every server that is compatible with it.

What goes out and what an answer means is said in `_openai_wire.py` and `_openai_stream.py`; the client carries bytes
between them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn

from pydantic import SecretStr

from ._answers import Scrub
from ._breaks import StreamedAnswer
from ._client import Call, HttpClient, checked_base_url
from ._http import Host, Sealed, seal
from ._http_answer import HttpAnswer
from ._openai_audio import audio_call
from ._openai_fit import fitted_request
from ._openai_responses import ResponsesStream, fitted_responses
from ._openai_stream import OpenAIStream
from ._openai_wire import answered, refused, written, written_as_stream
from ._pool import HttpPool
from ._protocols import AUDIO, Request, Response
from ._registry import ClientSettings
from ._translation import translated
from .dialects._chat import Chat
from .dialects._chat_server import OPENAI, ChatServer

__all__ = ["OPENAI_BASE_URL", "OpenAIClient"]

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"

_ENDPOINT: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9_.:~/-]{1,500}")
_MAX_ENDPOINTS: Final = 64
_CHAT: Final = "chat/completions"
_RESPONSES: Final = "responses"


class OpenAIClient(HttpClient):
    """Speaks to one OpenAI-compatible server as one credential.

    It takes any JSON endpoint: what is promised of ``chat/completions``, ``completions``, ``embeddings``,
    ``responses``, ``moderations`` and ``images/...`` is checked; of others, that the answer is a JSON object. Of
    ``audio/...`` it takes forms, and answers with sound or plain text. What is asked in Anthropic's Messages, and in
    OpenAI's Responses where the server has none, is translated into chat completions.
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
        server: ChatServer = OPENAI,
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
            server: What the server does otherwise than OpenAI's own.
            clock: Seconds since the epoch: the times in answers are compared with it.

        Raises:
            ValueError: For an address or a header that cannot be sent; no secret is quoted.
        """
        super().__init__(http=http, connect_seconds=connect_seconds, clock=clock)
        own = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            "user-agent": "standby",
        }
        self._headers: Mapping[str, str | SecretStr] = {**own, **(headers or {})}
        self._sealed = seal(self._headers, bearer=api_key)
        # Compressed events would come in the compressor's pieces, and not as they are said.
        streaming = {"accept": "text/event-stream", "accept-encoding": "identity"}
        self._headers_for_streams: Mapping[str, str | SecretStr] = {**own, **streaming, **(headers or {})}
        self._sealed_for_streams = seal(self._headers_for_streams, bearer=api_key)
        self._streams_may_end_without_finish = streams_may_end_without_finish
        self._base_url = checked_base_url(base_url)
        self._urls: dict[str, str] = {}
        self._server = server
        self._translated = frozenset({"messages"} if server.responses else {"messages", _RESPONSES})
        self._chat = Chat(server, may_end_without_finish=streams_may_end_without_finish)

    def prepared(self, request: Request, *, stream: bool) -> tuple[str, Call]:
        """Where the request goes, and as what.

        Raises:
            ClientError: It cannot be sent.
        """
        if (url := self._urls.get(request.endpoint)) is None:
            if request.endpoint.strip("/").partition("/")[0] in self._translated:
                return self._url_of(_CHAT), translated(request, self._chat, stream=stream)
            url = self._url_of(request.endpoint)
        if request.endpoint.startswith(AUDIO):
            return url, audio_call(request, stream=stream)
        is_responses = request.endpoint.strip("/") == _RESPONSES
        fitted = fitted_responses if is_responses else fitted_request
        request, dropped = fitted(request, self._server)
        if not stream:
            return url, PlainCall(request.endpoint, written(request), dropped)
        asked = written_as_stream(request)
        if is_responses:
            return url, StreamedResponses(request.endpoint, asked.content, dropped)
        return url, StreamedCall(*asked, request.endpoint, self._streams_may_end_without_finish, dropped)

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:  # noqa: ARG002 - a key signs nothing
        """The headers of one call, its key among them."""
        return self._sealed_for_streams if stream else self._sealed

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


def from_settings(settings: ClientSettings) -> OpenAIClient:
    """The client of a provider."""
    return OpenAIClient(
        api_key=settings.api_key,
        base_url=settings.base_url or OPENAI_BASE_URL,
        headers=settings.headers,
        http=settings.http,
        connect_seconds=settings.connect_seconds,
        streams_may_end_without_finish=settings.streams_may_end_without_finish,
    )


class PlainCall(NamedTuple):
    """A plain call in the provider's own dialect."""

    endpoint: str
    content: bytes
    dropped: tuple[str, ...] = ()

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The answer as a value; `ClientError` for one that is a failure, or none."""
        return answered(self.endpoint, answer, now=now, scrub=scrub, dropped=self.dropped)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> NoReturn:
        """It was not asked for."""
        raise NotImplementedError


class StreamedCall(NamedTuple):
    """A streamed call in the provider's own dialect."""

    content: bytes
    choices: int
    hide_usage: bool
    endpoint: str
    may_end_without_finish: bool
    dropped: tuple[str, ...] = ()

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The whole answer that came instead."""
        return answered(self.endpoint, answer, now=now, scrub=scrub, dropped=self.dropped)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> OpenAIStream:
        """The stream that an answer is."""
        return OpenAIStream(
            answer,
            choices=self.choices,
            hide_usage=self.hide_usage,
            may_end_without_finish=self.may_end_without_finish,
            now=now,
            scrub=scrub,
            dropped=self.dropped,
        )


class StreamedResponses(NamedTuple):
    """A streamed call of OpenAI's Responses."""

    endpoint: str
    content: bytes
    dropped: tuple[str, ...]

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The whole answer that came instead."""
        return answered(self.endpoint, answer, now=now, scrub=scrub, dropped=self.dropped)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> ResponsesStream:
        """The stream that an answer is."""
        return ResponsesStream(answer, now=now, scrub=scrub, dropped=self.dropped)
