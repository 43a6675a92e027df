"""A user's own SDK client as a client of ours: it authenticates and carries, and everything else is our own code.

The SDKs of OpenAI and Anthropic can send what they are given and hand back the answer as it comes, unread. That is what
a `Wire` does, so the codecs, streams, errors and bounds above it are those of our own clients. No SDK is imported here:
whoever hands in a client has imported its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, cast

from ._anthropic import ANTHROPIC_VERSION, AnthropicClient
from ._azure import azure_server
from ._errors import ClientError
from ._exceptions import rule_for
from ._form import FORM, parts_of
from ._http import HttpRequest, HttpxReply, Reply, Sealed, seal
from ._openai import OpenAIClient
from ._pool import HttpPool
from .dialects._chat_server import OPENAI, ChatServer

__all__ = ["SdkClient", "adapt"]

_BASE: Final = "https://sdk.invalid"
"""Stands for the SDK's own base URL, which it puts before every path itself."""

_OPENAI: Final = ("openai.AsyncOpenAI",)  # Azure's is one of those
_AZURE: Final = "openai.AsyncAzureOpenAI"
_ANTHROPIC: Final = (
    "anthropic.AsyncAnthropic",  # those for Foundry, Google Cloud and AWS are of those, and these are not
    "anthropic.AsyncAnthropicVertex",
    "anthropic.AsyncAnthropicBedrockMantle",
)
_VERSION_ON_VERTEX: Final = "vertex-2023-10-16"
_SYNCHRONOUS: Final = ("openai.SyncAPIClient", "anthropic.SyncAPIClient")

_NO_SECRETS: Final = (
    *("accept", "anthropic-beta", "anthropic-version", "connection", "content-", "host", "openai-", "user-agent"),
    *("traceparent", "tracestate", "x-stainless-"),
)
"""How the headers begin that may stand in a message. What else the SDK sends may be a secret of its user."""


class SdkClient(Protocol):
    """An asynchronous client of OpenAI's or Anthropic's SDK."""

    @property
    def base_url(self) -> object:
        """What all its addresses begin with."""
        ...

    def is_closed(self) -> bool:
        """Whether it was closed."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


def adapt(
    sdk: SdkClient,
    *,
    connect_seconds: float = 5.0,
    max_connections: int = 100,
    streams_may_end_without_finish: bool = False,
    server: ChatServer | None = None,
) -> OpenAIClient | AnthropicClient:
    """A client that sends what it is asked through ``sdk``: its base URL, authentication, headers and connections.

    Retries, timeouts and redirects of the SDK's own are off: the runner retries, and its clocks are around every call.
    What the SDK would make of an answer is not asked for; the answer's bytes are read by our own code.

    Args:
        sdk: `openai.AsyncOpenAI`, `anthropic.AsyncAnthropic`, or one of their kind for a cloud, such as
            `openai.AsyncAzureOpenAI` and `anthropic.AsyncAnthropicVertex`. It stays open.
        connect_seconds: Until a connection is open.
        max_connections: How many calls may be under way at once; the others wait. Let the limit of the SDK's own HTTP
            client be no lower: what waits inside of it can lose its place when it is cancelled.
        streams_may_end_without_finish: For servers that send neither a finish reason nor ``[DONE]``.
        server: What a server that is compatible with OpenAI's does otherwise; Azure's is known by its version.

    Raises:
        TypeError: ``sdk`` is no such client, or a synchronous one.
    """
    bases = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(sdk).__mro__}
    name = type(sdk).__name__
    if not bases.isdisjoint(_SYNCHRONOUS):
        raise TypeError(f"{name} is a synchronous client, which would hold up the event loop: use Async{name}")
    if bases.isdisjoint((*_OPENAI, *_ANTHROPIC)):
        known = ", ".join((*_OPENAI, *_ANTHROPIC))
        raise TypeError(f"{name} is not a client that can be adapted; those are, and what is made of them: {known}")
    library = "openai" if bases.isdisjoint(_ANTHROPIC) else "anthropic"
    pool = HttpPool(SdkWire(sdk, library), max_connections=max_connections, connect_seconds=connect_seconds)
    if library == "anthropic":
        return _OverAnthropic(sdk, base_url=_BASE, http=pool)
    if server is None:
        server = azure_server(_azure_version(sdk)) if _AZURE in bases else OPENAI
    return _OverOpenAI(
        sdk,
        base_url=_BASE,
        http=pool,
        streams_may_end_without_finish=streams_may_end_without_finish,
        server=server,
    )


def _azure_version(sdk: Any) -> str:
    return str(sdk.default_query["api-version"])


class _OverSdk:
    """A client of ours over a user's own SDK client, which has the credential."""

    def __init__(self, sdk: SdkClient, **settings: Any) -> None:
        super().__init__(**settings)
        self._sdk = sdk

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:  # noqa: ARG002 - a key signs nothing
        """The headers that are not the SDK's business. Its own secrets are hidden in them once they are known."""
        if self._sdk.is_closed():
            raise ClientError("client_closed", "the SDK's client was closed", scope="local", work="not_sent")
        if stream:  # compressed events would come in the compressor's pieces, and not as they are said
            return seal({"accept": "text/event-stream", "accept-encoding": "identity"})
        return seal({"accept": "application/json", "accept-encoding": "gzip"})

    def __repr__(self) -> str:
        return f"adapt({type(self._sdk).__name__})"


class _OverOpenAI(_OverSdk, OpenAIClient):
    """`OpenAIClient` over an SDK's client."""


class _OverAnthropic(_OverSdk, AnthropicClient):
    """`AnthropicClient` over an SDK's client."""

    async def sealed(self, url: str, content: bytes, *, stream: bool) -> Sealed:
        """The same, and the version of the API that is understood here: the SDK's own may be another one."""
        return (await super().sealed(url, content, stream=stream)).but({"anthropic-version": ANTHROPIC_VERSION})


class SdkWire:
    """Carries requests over an SDK's client.

    Args:
        sdk: The client; it stays open.
        library: The name of its package.
    """

    def __init__(self, sdk: SdkClient, library: str) -> None:
        self._sdk: Any = sdk
        self._library: Any = sys.modules[library]
        # Old SDKs run on httpx, newer ones on httpx2; what comes back unread is the response of either.
        http: Any = sys.modules[type(sdk.base_url).__module__.partition(".")[0]]
        self._response = http.Response
        # On Vertex AI the version of the API is in the body; see `_OverAnthropic`.
        on_vertex = any(kind.__name__ == "AsyncAnthropicVertex" for kind in type(sdk).__mro__)
        self._more = {"anthropic_version": _VERSION_ON_VERTEX} if on_vertex else {}

    async def send(self, request: HttpRequest) -> Reply:
        """Send a request and wait for the head of its answer; redirects are answers."""
        seconds = request.connect_seconds
        headers = dict(request.sealed.opened(request.headers))
        try:
            answer = await self._sdk.post(
                request.url.removeprefix(_BASE),
                cast_to=self._response,
                **_body(request.content or b"{}", headers, self._more),
                options={
                    "headers": headers,
                    "timeout": self._library.Timeout(None, connect=seconds, pool=seconds),
                    "max_retries": 0,
                    "follow_redirects": False,
                },
                stream=True,
            )
        except self._library.APIStatusError as error:
            answer = error.response
        except Exception as error:
            original: BaseException = error
            if isinstance(error, self._library.APIConnectionError):
                sent: Any = error
                request.sealed.hide(_secrets(sent.request.headers))
                original = error.__cause__ or error
            if rule_for(type(original)) is not None:
                raise
            # No library's: it is a callback for tokens that failed, or there is no key at all.
            message = f"the SDK could not make the call: {type(original).__name__}"
            raise ClientError("auth_failed", message, scope="credential", work="not_sent") from error
        request.sealed.hide(_secrets(answer.request.headers))
        return WholeReply(answer) if answer.is_closed or answer.is_stream_consumed else HttpxReply(answer)

    async def aclose(self) -> None:
        """Nothing: the client is its user's."""


def _body(content: bytes, headers: dict[str, str], more: Mapping[str, str]) -> dict[str, Any]:
    """A body as the SDK takes it, in its parts: some of its clients, such as Azure's, move the model into the URL."""
    content_type = headers.get("content-type", "")
    if not content_type.startswith(FORM):
        return {"body": {**json.loads(content), **more}}
    headers["content-type"] = FORM  # the SDK adds a boundary of its own
    model: dict[str, str] = {}
    files: list[tuple[str, tuple[str | None, bytes, str | None]]] = []
    for part in parts_of(content, content_type):
        value = content[part.value]
        if part.name == "model" and part.filename is None:
            model["model"] = value.decode()
        else:
            files.append((part.name, (part.filename, value, part.content_type or None)))
    return {"body": model, "files": files}


class WholeReply:
    """An answer that the SDK, or a hook of its user, has read already, and decompressed."""

    def __init__(self, answer: Any) -> None:
        self.status: int = answer.status_code
        raw = cast("list[tuple[bytes, bytes]]", answer.headers.raw)
        self.headers: Iterable[tuple[bytes, bytes]] = [
            (name, value) for name, value in raw if name.lower() != b"content-encoding"
        ]
        self._content: bytes = answer.content

    async def read(self) -> bytes:
        """All of it, and then nothing."""
        content, self._content = self._content, b""
        return content

    async def close(self, *, complete: bool) -> None:
        """Nothing: who read it has closed it."""


def _secrets(headers: Mapping[str, str]) -> list[str]:
    return [value for name, value in headers.items() if not name.lower().startswith(_NO_SECRETS)]
