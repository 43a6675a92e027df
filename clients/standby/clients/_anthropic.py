"""Anthropic's API, and every server that is compatible with it.

A request to its Messages goes out as it came; what callers of other dialects say is translated. What an answer means is
said in `_anthropic_wire.py` and `_anthropic_stream.py`; the client carries bytes between them.

Sources: platform.claude.com/docs/en/api/messages, docs/en/api/messages-count-tokens, docs/en/api/versioning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn

from pydantic import SecretStr

from ._answers import Scrub
from ._anthropic_stream import MessagesStream
from ._anthropic_wire import answered, counted, written
from ._breaks import StreamedAnswer
from ._client import Call, HttpClient, checked_base_url
from ._http import Host, Sealed, seal
from ._http_answer import HttpAnswer
from ._openai_wire import refused
from ._pool import HttpPool
from ._protocols import Request, Response
from ._registry import ClientSettings
from ._translation import translated
from .dialects._messages import messages_for

__all__ = ["ANTHROPIC_BASE_URL", "ANTHROPIC_VERSION", "AnthropicClient"]

ANTHROPIC_BASE_URL: Final = "https://api.anthropic.com"

ANTHROPIC_VERSION: Final = "2023-06-01"
"""The version of the API that is understood here."""

_MESSAGES: Final = "messages"


class AnthropicClient(HttpClient):
    """Speaks to Anthropic's API as one credential.

    Its own ``messages`` and ``messages/count_tokens`` are passed on; what callers of OpenAI's dialects say becomes
    ``messages``.
    """

    own_headers = frozenset({"anthropic-beta"})
    counts_tokens = True

    def __init__(
        self,
        *,
        api_key: SecretStr | None = None,
        base_url: str = ANTHROPIC_BASE_URL,
        headers: Mapping[str, SecretStr] | None = None,
        http: HttpPool | Host | None = None,
        connect_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened before the first call.

        Args:
            api_key: Sent as ``x-api-key``; nothing is sent where it is missing or empty.
            base_url: Up to ``/v1``, with it or without.
            headers: Sent with every call. They win over everything, an ``anthropic-version`` and an
                ``anthropic-beta`` among them.
            http: A pool to share, or the host's own `httpx.AsyncClient`; what is handed in stays open.
            connect_seconds: How long to wait for a connection; the pool's own where it is missing.
            clock: Seconds since the epoch: the times in answers are compared with it.

        Raises:
            ValueError: For an address or a header that cannot be sent; no secret is quoted.
        """
        super().__init__(http=http, connect_seconds=connect_seconds, clock=clock)
        own: dict[str, str | SecretStr] = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "anthropic-version": ANTHROPIC_VERSION,
            "content-type": "application/json",
            "user-agent": "standby",
        }
        if api_key is not None and (key := api_key.get_secret_value().strip()):
            own["x-api-key"] = SecretStr(key)
        given = {name.lower(): value for name, value in (headers or {}).items()}
        self._sealed = seal({**own, **given})
        # Compressed events would come in the compressor's pieces, and not as they are said.
        streaming = {"accept": "text/event-stream", "accept-encoding": "identity"}
        self._sealed_for_streams = seal({**own, **streaming, **given})
        self._base_url = checked_base_url(base_url)
        self._url = f"{self._base_url.removesuffix('/v1')}/v1/{_MESSAGES}"

    def prepared(self, request: Request, *, stream: bool) -> tuple[str, Call]:
        """Where the request goes, and as what.

        Raises:
            ClientError: It cannot be sent.
        """
        match request.endpoint.strip("/"):
            case "messages":
                content, dropped = written(request, stream=stream)
                return self._url, MessagesCall(content, dropped)
            case "messages/count_tokens":
                if stream:
                    raise refused("unsupported_parameter", "a count is not streamed", status=400)
                content, dropped = written(request, stream=False)
                return f"{self._url}/count_tokens", CountCall(content, dropped)
            case _:
                return self._url, translated(request, messages_for(request.model), stream=stream)

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:  # noqa: ARG002 - a key signs nothing
        """The headers of one call, its key among them."""
        return self._sealed_for_streams if stream else self._sealed

    def __repr__(self) -> str:
        return f"AnthropicClient({self._base_url!r})"


def from_settings(settings: ClientSettings) -> AnthropicClient:
    """The client of a provider."""
    return AnthropicClient(
        api_key=settings.api_key,
        base_url=settings.base_url or ANTHROPIC_BASE_URL,
        headers=settings.headers,
        http=settings.http,
        connect_seconds=settings.connect_seconds,
    )


class MessagesCall(NamedTuple):
    """A call in the provider's own dialect."""

    content: bytes
    dropped: tuple[str, ...]

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The answer as a value; `ClientError` for one that is a failure, or none."""
        return answered(answer, self.dropped, now=now, scrub=scrub)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> MessagesStream:
        """The stream that an answer is."""
        return MessagesStream(answer, now=now, scrub=scrub, dropped=self.dropped)


class CountCall(NamedTuple):
    """A call that counts tokens."""

    content: bytes
    dropped: tuple[str, ...]

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The answer as a value; `ClientError` for one that is a failure, or none."""
        return counted(answer, self.dropped, now=now, scrub=scrub)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> NoReturn:
        """It was not asked for."""
        raise NotImplementedError
